"""Preference training: lists of one chosen and several rejected SIDs in `SidDPOTrainer` against their pairs in TRL's `DPOTrainer`, on
decoder-only models of equal size; and the memory that a rejected SID adds."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from datasets import Dataset
from harness import Report, alternate, sized
from test_training_benchmark import CODEBOOK_SIZES, SIZES, config_of, tokenizer_of
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer

from onesearch import (
    OneSearchConfig,
    OneSearchForCausalLM,
    OneSearchForConditionalGeneration,
    OneSearchQwen3Config,
    SidDPOConfig,
    SidDPOTrainer,
    SidIndex,
)
from onesearch.trainers.preference.references import frozen_copy

VOCABULARY, PROMPT = 8_000, 48
CASES = sized([("128x2", 8)], [("128x2", 1), ("128x2", 8), ("128x2", 32), ("256x3", 8)])
LISTS, STEPS = 16, sized(3, 8)


def qwen3_sizes(size):
    sizes = SIZES[size]
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": sizes["d_model"],
        "intermediate_size": sizes["ffn_dim"],
        "num_hidden_layers": 2 * sizes["layers"],
        "num_attention_heads": sizes["attention_heads"],
        "num_key_value_heads": sizes["attention_heads"],
        "head_dim": sizes["d_model"] // sizes["attention_heads"],
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


def catalogue():
    random = np.random.default_rng(0)
    return np.unique(random.integers(0, CODEBOOK_SIZES[VOCABULARY], (20_000, 5)), axis=0)


def model_of(kind, size, codes):
    layout = {
        "sid_codebook_sizes": list(CODEBOOK_SIZES[VOCABULARY]),
        "sid_offset": VOCABULARY - sum(CODEBOOK_SIZES[VOCABULARY]),
    }
    torch.manual_seed(0)
    if kind == "qwen3":
        model = OneSearchForCausalLM(OneSearchQwen3Config(**qwen3_sizes(size), **layout))
    else:
        model = OneSearchForConditionalGeneration(config_of(size, VOCABULARY, OneSearchConfig, **layout))
    names = [f"item-{row}" for row in range(len(codes))]
    model.set_sid_index(SidIndex.build(names, codes, np.zeros(len(codes)), CODEBOOK_SIZES[VOCABULARY], "benchmark"))
    return model


def lists_of(rows, rejected, codes):
    """The same lists as rows of ours, and as pairs for TRL."""
    random, offset = np.random.default_rng(1), VOCABULARY - sum(CODEBOOK_SIZES[VOCABULARY])
    starts = offset + np.cumsum((0, *CODEBOOK_SIZES[VOCABULARY][:-1]))
    prompts = random.integers(4, offset, (rows, PROMPT)).tolist()
    ours, pairs = [], []
    for prompt in prompts:
        sids = codes[random.choice(len(codes), 1 + rejected, replace=False)]
        first = np.arange(1 + rejected) == 0
        ours.append(
            {
                "input_ids": prompt,
                "sids": sids.ravel().tolist(),
                "chosen": first.tolist(),
                "rejected": (~first).tolist(),
                "ranks": (~first).astype(int).tolist(),
                "rewards": first.astype(float).tolist(),
            }
        )
        tokens = (sids + starts).tolist()
        pairs += [{"prompt_ids": prompt, "chosen_ids": tokens[0], "rejected_ids": other} for other in tokens[1:]]
    return Dataset.from_list(ours), Dataset.from_list(pairs)


class Clock(TrainerCallback):
    """CPU seconds from the end of the first step to the end of the last."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.start = time.process_time()
        self.seconds = time.process_time() - self.start


class PairTrainer(DPOTrainer):
    """TRL's trainer on rows of token ids: its preparation of texts is left out, nothing else is changed."""

    def _prepare_dataset(self, dataset, *args):
        return dataset


def settings(cls, folder, batch):
    fixed = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
    steps = {"max_steps": STEPS + 1, "logging_steps": STEPS + 1, "save_strategy": "no", "learning_rate": 1e-4}
    return cls(output_dir=str(folder), per_device_train_batch_size=batch, **fixed, **steps)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rejected"), CASES)
def test_lists_against_the_pairs_of_trl(tmp_path, size, rejected):
    about = (
        f"Preference training, {LISTS} lists a step, prompts of {PROMPT} tokens, {STEPS} whole steps, CPU seconds, one thread"
    )
    codes = catalogue()
    ours, pairs = lists_of(LISTS * (STEPS + 1), rejected, codes)
    tokenizer = tokenizer_of(VOCABULARY)

    def run(trainer):
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        return clock.seconds / (STEPS * LISTS)

    def listwise(kind):
        args = settings(SidDPOConfig, tmp_path, LISTS)
        return run(SidDPOTrainer(model_of(kind, size, codes), args, ours, processing_class=tokenizer))

    def stock():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(**qwen3_sizes(size)))
        args = settings(DPOConfig, tmp_path, LISTS * rejected)
        return run(PairTrainer(model, frozen_copy(model), args, train_dataset=pairs, processing_class=tokenizer))

    sides = {"ours": lambda: listwise("qwen3"), "ours, encoder-decoder": lambda: listwise("bart"), "trl": stock}
    with Report(f"preference_{size}_{rejected}", about) as report:
        seconds = {name: timing.result for name, timing in alternate(sides, rounds=2, budget=sized(20.0, 120.0)).items()}
        report.add(
            size=size,
            rejected=rejected,
            ours_lists_per_s=1 / seconds["ours"],
            encoder_decoder_lists_per_s=1 / seconds["ours, encoder-decoder"],
            trl_lists_per_s=1 / seconds["trl"],
            ratio=seconds["trl"] / seconds["ours"],
        )


def saved_bytes(call):
    """Bytes of the distinct tensors that autograd keeps for the backward pass of a loss."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = call()
    total = sum(kept.values())
    del loss
    return total


@pytest.mark.slow
def test_memory_of_a_rejected_sid(tmp_path):
    size, few, many = "128x2", 1, 8
    codes, tokenizer = catalogue(), tokenizer_of(VOCABULARY)
    with Report("preference_memory", f"Bytes kept for the backward pass, per list, prompts of {PROMPT} tokens") as report:
        found = {}
        for rejected in (few, many):
            ours, pairs = lists_of(LISTS, rejected, codes)
            args = settings(SidDPOConfig, tmp_path, LISTS)
            mine = SidDPOTrainer(model_of("qwen3", size, codes), args, ours, processing_class=tokenizer)
            batch = mine.data_collator([mine.train_dataset[row] for row in range(LISTS)])
            weights = sum(own.untyped_storage().nbytes() for own in mine.model.parameters())
            found["ours", rejected] = saved_bytes(lambda: mine.compute_loss(mine.model, batch)) - weights  # noqa: B023
            torch.manual_seed(0)
            model = Qwen3ForCausalLM(Qwen3Config(**qwen3_sizes(size)))
            args = settings(DPOConfig, tmp_path, LISTS * rejected)
            other = PairTrainer(model, frozen_copy(model), args, train_dataset=pairs, processing_class=tokenizer)
            rows = other.data_collator([other.train_dataset[row] for row in range(LISTS * rejected)])
            found["trl", rejected] = saved_bytes(lambda: other.compute_loss(model, rows)) - weights  # noqa: B023
        for side in ("ours", "trl"):
            one, more = (found[side, rejected] / LISTS for rejected in (few, many))
            report.add(
                side=side,
                kb_of_one_rejected=one / 1e3,
                kb_of_eight=more / 1e3,
                kb_per_rejected=(more - one) / (many - few) / 1e3,
            )
