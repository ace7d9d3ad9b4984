"""A toy language for the trainers' tests: four words determine the five codes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import torch
from datasets import Dataset
from tiny import tiny_causal_model, tiny_model
from transformers import TrainerCallback

from onesearch import SidSFTConfig, SidSFTTrainer, SidTokenizer

LEVELS, CODES, WORDS = 5, 8, 16
TOKENIZER = SidTokenizer.train(
    [f"w{word}" for word in range(WORDS)] * 9, [CODES] * LEVELS, vocab_size=320, fingerprint="fingerprint"
)


def toy_rows(rows, seed):
    draw = random.Random(seed)
    words = [[draw.randrange(WORDS) for _ in range(4)] for _ in range(rows)]
    sids = [[(row[level % 4] + level) % CODES for level in range(LEVELS)] for row in words]
    return [" ".join(f"w{word}" for word in row) for row in words], sids


def toy_dataset(rows=64, seed=0, teacher=False):
    """`teacher`: also prompts that name the first words twice."""
    texts, sids = toy_rows(rows, seed)
    prompts = TOKENIZER.encode_prompts(texts)
    columns = {
        "input_ids": prompts,
        "labels": TOKENIZER.sids_to_ids(sids).tolist(),
        "length": [len(prompt) for prompt in prompts],
    }
    if teacher:
        columns["teacher_input_ids"] = TOKENIZER.encode_prompts([f"{text} {text[:2]}" for text in texts])
    return Dataset.from_dict(columns)


def ragged(dataset):
    """Targets of unequal length."""
    return dataset.map(lambda row, number: {"labels": row["labels"][: 5 - number % 3]}, with_indices=True)


def toy_model(**changes):
    sizes = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "init_std": 0.02}
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = tiny_model([CODES] * LEVELS, **{**sizes, "vocab_size": len(TOKENIZER), **changes})
    model.config.sid_offset = TOKENIZER.sid_offset
    return model


def toy_causal_model(**changes):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "initializer_range": 0.02}
    model = tiny_causal_model([CODES] * LEVELS, **{**sizes, "vocab_size": len(TOKENIZER), **changes})
    model.config.sid_offset = TOKENIZER.sid_offset
    return model


MODELS = {"bart": toy_model, "qwen3": toy_causal_model}


def arguments(folder, config=SidSFTConfig, **changes):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return config(**{**settings, **changes})


def trainer_of(
    model,
    folder,
    dataset=None,
    eval_dataset=None,
    retrieval_metrics=None,
    peft_config=None,
    callbacks=None,
    long_view=None,
    **changes,
):
    return SidSFTTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=toy_dataset() if dataset is None else dataset,
        eval_dataset=eval_dataset,
        processing_class=TOKENIZER,
        retrieval_metrics=retrieval_metrics,
        long_view=long_view,
        peft_config=peft_config,
        callbacks=callbacks,
    )


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(one, two, atol=1e-6):
    assert set(one) == set(two)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def script_of(folder, call, *more):
    """A script that runs `call` with the shared test modules at hand, and with those of the folders `more`; processes end together.

    It leaves without the interpreter's own end, in which torch's threads were once seen to abort (about one run in a hundred).
    """
    folders = [str(path) for path in (Path(__file__).parent, *more)]
    script = folder / "script.py"
    end = "from onesearch.pipeline.processes import leave_group\nleave_group()\nsys.stdout.flush(), sys.stderr.flush()\nos._exit(0)"
    script.write_text(
        f"import os, sys; sys.path[:0] = {folders!r}\nimport conftest, pathlib\n{call}\n{end}\n", encoding="utf-8"
    )
    return [str(script)]


def torchrun(processes):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def two_processes(folder, call, tests, timeout=500):
    """Run a call under torchrun (`accelerate launch --cpu --num_processes 2` quietly starts one process); `tests` holds its module."""
    return subprocess.run([*torchrun(2), *script_of(folder, call, tests)], capture_output=True, text=True, timeout=timeout)
