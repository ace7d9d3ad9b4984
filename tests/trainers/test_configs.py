"""Configurations of a training: what they refuse, and that reading them is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from onesearch.trainers.configs import ExampleConfig, ModelConfig, StageConfig, TrainingConfig
from onesearch.trainers.tasks import COPIED, STAGES, TASKS


def test_configurations_are_read_without_the_libraries_that_train():
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
    program = f"import sys, onesearch.trainers.configs; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stages_of_the_paper():
    assert list(STAGES) == ["alignment", "co-occurrence", "personalised"]
    assert set(StageConfig("alignment").tasks) == set(STAGES["alignment"]) and not StageConfig("alignment").personal
    assert StageConfig("mine", {"clicks": 0.5}).personal
    assert {task for tasks in STAGES.values() for task in tasks} == set(TASKS) - set(COPIED)  # all but those with made queries


@pytest.mark.parametrize(
    ("name", "tasks", "words"),
    [
        ("mine", {}, "'mine' has no tasks"),
        ("alignment", {"item-text-to-sids": 1}, "'item-text-to-sids' is unknown"),
        ("alignment", {"clicks": 0}, "must be positive"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused(name, tasks, words):
    with pytest.raises(ValueError, match=words):
        StageConfig(name, tasks)


@pytest.mark.parametrize("stages", [(), (StageConfig("alignment"), StageConfig("alignment"))])
def test_a_training_needs_stages_with_different_names(stages):
    with pytest.raises(ValueError, match="at least one stage"):
        TrainingConfig(stages=stages)


@pytest.mark.parametrize(("config", "field"), [(ExampleConfig, "windows"), (ModelConfig, "backbone")])
def test_an_unknown_choice_is_refused(config, field):
    with pytest.raises(ValueError, match=f"{field}='some'"):
        config(**{field: "some"})


@pytest.mark.parametrize(
    "module",
    # The first imports all else before: test_install runs `onesearch train` without the extra in the ordinary suite.
    [pytest.param("training", marks=pytest.mark.slow), "sft.sft_trainer", "distillation.distillation_trainer"],
)
def test_training_without_trl_ends_in_one_line(module):
    program = f"import sys; sys.modules['trl'] = None; import onesearch.trainers.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and "trl" in last and "pip install" in last and "onesearch[train]" in last
