"""Trainings on GPUs, without one: a simulated GPU for the tensors, and a count of GPUs for the processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from onesearch import devices
from onesearch.files import RunFolder
from onesearch.pipeline import steps
from onesearch.trainers.configs import StageConfig
from onesearch.trainers.sft.sft_config import SidSFTConfig

TESTS = Path(__file__).parents[1]


@pytest.fixture
def gpus(monkeypatch):
    """Sets the number of GPUs that this package counts."""
    return lambda count: monkeypatch.setattr(devices, "count_gpus", lambda: count)


def test_every_training_runs_on_a_gpu(tmp_path):
    """In bfloat16, the default there, and without a tensor of the GPU that meets one of the processor: stages with soft targets, histories
    as vectors and averages of the weights, the dense term, the reward model, three kinds of preference training, a decoder-only
    model with an adapter and self-distillation, UniSearch. Searches there find the same hits."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(TESTS / "simulated_gpu.py"), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    ran = dict(
        line.removesuffix(" operations").split(": ") for line in finished.stdout.splitlines() if line.endswith(" operations")
    )
    assert set(ran) == {"onesearch", "decoder-only", "unisearch"} and all(int(count) > 5_000 for count in ran.values())


@pytest.mark.parametrize(
    ("count", "expected"), [(0, (2, 1)), (1, (1, 2)), (2, (2, 1)), (8, (2, 1))], ids=["none", "one", "two", "eight"]
)
def test_fewer_gpus_than_processes_are_one_process(gpus, count, expected):
    gpus(count)
    assert devices.processes_here(2) == expected
    assert devices.processes_here(2, use_cpu=True) == (2, 1)
    assert devices.processes_here(1) == (1, 1)


def test_one_process_takes_the_whole_batch(recipe, gpus, monkeypatch, tmp_path):
    """Of the recipe, and of a stage that has a batch of its own."""
    gpus(1)
    stages = (StageConfig("alignment", arguments={"per_device_train_batch_size": 5}), StageConfig("personalised"))
    arguments = {"num_train_epochs": 1}
    asked = replace(recipe, processes=4, training=replace(recipe.training, stages=stages, arguments=arguments))
    seen = []
    monkeypatch.setattr("onesearch.trainers.training.train_run", lambda run, config, *rest, **options: seen.append(config))
    steps.make_checkpoint(asked, RunFolder(tmp_path), resume=False, progress=False)
    (config,) = seen
    assert [stage.arguments.get("per_device_train_batch_size") for stage in config.stages] == [20, None]
    assert config.arguments == {"num_train_epochs": 1, "per_device_train_batch_size": 32}  # transformers' own is 8


def test_more_processes_than_gpus_are_refused(gpus, monkeypatch, tmp_path):
    gpus(2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="3 processes were started on a machine with 2 GPUs; start at most one per GPU"):
        SidSFTConfig(output_dir=str(tmp_path))
    assert SidSFTConfig(output_dir=str(tmp_path), use_cpu=True).use_cpu


def test_one_process_uses_one_of_several_gpus(monkeypatch, tmp_path):
    """transformers would cut its batches among all."""
    arguments = SidSFTConfig(output_dir=str(tmp_path))
    arguments._n_gpu = 4
    devices.use_one_gpu(arguments)
    assert arguments.n_gpu == 1
