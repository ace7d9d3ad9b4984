"""A joint training on a market, in seconds; the processes of torchrun run it, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toy import arguments
from transformers import set_seed

from onesearch import PromptLayout, RunFolder
from onesearch.trainers.configs import ModelConfig, TrainingConfig
from onesearch.trainers.unisearch.building import MOVING, build_parts
from onesearch.trainers.unisearch.unisearch_config import NegativeSchedule, UniSearchTrainingConfig
from onesearch.trainers.unisearch.unisearch_trainer import UniSearchTrainer

PROMPT = PromptLayout(items=3, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)

SETTINGS = UniSearchTrainingConfig(
    codebook_sizes=(8, 8, 8), warm_up=0.25, refresh_steps=3, negatives=NegativeSchedule(start=0.0, count=3), collapse=0.0
)


def joint_config(dropout=0.0, **changes):
    model = ModelConfig(
        text_vocab_size=300, d_model=32, encoder_layers=1, decoder_layers=1, attention_heads=2, ffn_dim=32, dropout=dropout
    )
    return TrainingConfig(model=model, prompt=PROMPT, unisearch=replace(SETTINGS, **changes), validation_requests=20)


def joint_trainer(market_folder, folder, dropout=0.0, callbacks=None, settings=None, **changes):
    """A trainer of 8 steps of 16 examples; `settings` change the joint training, `changes` the trainer's arguments."""
    set_seed(7)
    run = RunFolder(Path(market_folder))
    config = joint_config(dropout, **(settings or {}))
    parts = build_parts(run, config)
    given = {
        "per_device_train_batch_size": 16,
        "max_steps": 8,
        "learning_rate": 1e-3,
        "train_sampling_strategy": "random",
        **changes,
    }
    return UniSearchTrainer(
        parts.model,
        arguments(folder, **given),
        config.unisearch,
        parts.examples,
        lambda codes: parts.make_index(codes, MOVING),
        parts.categories,
        callbacks=callbacks,
    )
