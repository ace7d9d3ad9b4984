"""Group-relative policy optimisation on the toy language: it learns, and its numbers are those of the search."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from toy import (
    CODES,
    LEVELS,
    TOKENIZER,
    StopAt,
    assert_same_weights,
    logged,
    script_of,
    torchrun,
    toy_causal_model,
    toy_model,
    toy_rows,
    weights,
)
from transformers import set_seed
from trl import GRPOConfig

from onesearch import SidGRPOConfig, SidGRPOTrainer, SidLoraConfig
from onesearch.files import read_json, write_json
from onesearch.trainers.grpo.reward_mix import RewardMix, with_preset
from onesearch.trainers.grpo.rewards import PrefixReward, WeighedReward
from onesearch.trainers.lora import lora_config

TEXTS, SIDS = toy_rows(96, seed=0)
CATALOGUE = np.unique(np.array([*SIDS, *toy_rows(120, seed=1)[1]]), axis=0)
MODELS = {"bart": toy_model, "qwen3": toy_causal_model}
PREFIX = RewardMix(model=0.0, prefix=1.0)


def requests(rows=96):
    return Dataset.from_dict(
        {
            "input_ids": TOKENIZER.encode_prompts(TEXTS[:rows]),
            "targets": [list(sid) for sid in SIDS[:rows]],
            "target_kinds": [[0]] * rows,
        }
    )


def policy(kind="bart", **changes):
    return MODELS[kind](codes=CATALOGUE, **changes)


def trainer_of(folder, model=None, rewards=PREFIX, dataset=None, eval_dataset=None, callbacks=None, peft_config=None, **changes):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 64,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_steps": 2,
    }
    preset = changes.pop("preset", None)
    values = {**settings, **changes}
    args = SidGRPOConfig(**values) if preset is None else SidGRPOConfig.of_preset(preset, **values)
    return SidGRPOTrainer(
        model=policy() if model is None else model,
        args=args,
        train_dataset=requests() if dataset is None else dataset,
        rewards=rewards,
        eval_dataset=eval_dataset,
        processing_class=copy.deepcopy(TOKENIZER),
        callbacks=callbacks,
        peft_config=peft_config,
    )


@pytest.mark.parametrize("kind", MODELS)
def test_the_policy_learns_and_its_best_sids_stay_apart(tmp_path, kind):
    """The reward of the policy's own ten best rises, the KL stays bounded, and the best SIDs do not become few."""
    trainer = trainer_of(
        tmp_path, policy(kind), eval_dataset=requests(32), max_steps=40, learning_rate=1e-3, per_device_train_batch_size=128, seed=1
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_reward"] > before["eval_reward"] + 0.05
    assert after["eval_distinct_sids"] > 0.5 * before["eval_distinct_sids"]
    assert np.mean(logged(trainer, "reward")[-5:]) > np.mean(logged(trainer, "reward")[:5]) + 0.05
    assert all(0 <= value < 5 for value in logged(trainer, "kl")) and logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)
    assert all(0 <= value <= 1 for value in logged(trainer, "frac_reward_zero_std"))
