"""Trainers that are not ours: TRL's refuse an encoder-decoder at the first step, transformers' own train it."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
from toy import TOKENIZER, toy_dataset, toy_model, toy_rows
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

STOCK = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def texts_and_sids(rows=16):
    texts, sids = toy_rows(rows, seed=0)
    return texts, [TOKENIZER.sid_string(sid) for sid in sids]


def sft_trainer(folder, **changes):
    texts, sids = texts_and_sids()
    return SFTTrainer(
        model=toy_model(),
        args=SFTConfig(output_dir=str(folder), **STOCK, **changes),
        train_dataset=Dataset.from_dict({"prompt": texts, "completion": sids}),
        processing_class=copy.deepcopy(TOKENIZER),
    )


def dpo_trainer(folder):
    texts, sids = texts_and_sids()
    rows = {"prompt": texts, "chosen": sids, "rejected": sids[1:] + sids[:1]}
    return DPOTrainer(
        model=toy_model(),
        ref_model=toy_model(),
        args=DPOConfig(output_dir=str(folder), **STOCK),
        train_dataset=Dataset.from_dict(rows),
        processing_class=copy.deepcopy(TOKENIZER),
    )


def grpo_trainer(folder):
    return GRPOTrainer(
        model=toy_model(),
        reward_funcs=lambda completions, **kwargs: [0.5] * len(completions),
        args=GRPOConfig(output_dir=str(folder), **STOCK, num_generations=2, max_completion_length=5),
        train_dataset=Dataset.from_dict({"prompt": texts_and_sids()[0]}),
        processing_class=copy.deepcopy(TOKENIZER),
    )


TRAINERS = {
    "sft": sft_trainer,
    "sft-dft": lambda folder: sft_trainer(folder, loss_type="dft"),
    "sft-label-smoothing": lambda folder: sft_trainer(folder, label_smoothing_factor=0.1),
    "dpo": dpo_trainer,
    "grpo": grpo_trainer,
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_for_causal_models_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="SFTTrainer, DPOTrainer and GRPOTrainer.*SidSFTTrainer.*Seq2SeqTrainer"):
        TRAINERS[name](tmp_path).train()


def test_the_trainer_for_encoder_decoders_learns(tmp_path):
    """transformers' Seq2SeqTrainer, label smoothing included."""
    model = toy_model()
    rows = toy_dataset(64).select_columns(["input_ids", "labels"])
    settings = {**STOCK, "max_steps": 60, "per_device_train_batch_size": 32, "learning_rate": 3e-3, "logging_steps": 10}
    for smoothing in (0.0, 0.1):
        trainer = Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(output_dir=str(tmp_path), **settings, label_smoothing_factor=smoothing),
            train_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(TOKENIZER, model),
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert losses[-1] < losses[0]
    assert torch.isfinite(torch.tensor(losses)).all()
