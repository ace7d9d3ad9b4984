"""Schedule of the phases, report of a refresh, and the state beside a trainer's checkpoint."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from tiny import random_codes

from onesearch.trainers.unisearch.moving_sids import MovingSids, refresh_report
from onesearch.trainers.unisearch.plots import draw_history, draw_trainings
from onesearch.trainers.unisearch.schedule import Schedule
from onesearch.trainers.unisearch.unisearch_config import UniSearchTrainingConfig


def test_phases_and_refreshes():
    schedule = Schedule.of(UniSearchTrainingConfig(warm_up=0.2, freeze=0.8, refresh_steps=3), 10, 5)
    assert [schedule.phase(step) for step in (0, 1, 2, 7, 8, 9)] == [
        "contrast", "contrast", "joint", "joint", "generator", "generator",
    ]  # fmt: skip
    assert [step for step in range(11) if schedule.refreshes(step)] == [2, 3, 6, 8]
    whole = Schedule.of(UniSearchTrainingConfig(warm_up=0.0), 10, 5)
    assert {whole.phase(step) for step in range(10)} == {"joint"}
    two_stage = Schedule.of(UniSearchTrainingConfig(two_stage=True, freeze=0.5), 10, 5)
    assert [two_stage.phase(step) for step in (4, 5)] == ["contrast", "generator"]


def test_a_refresh_reports_churn_collisions_and_a_collapsed_level_by_name(caplog):
    sizes = (8, 4)
    before = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [4, 0], [5, 1], [6, 2], [7, 3]])
    after = before.copy()
    after[0], after[1] = (0, 1), (2, 2)
    report = refresh_report(after, before, sizes, 7, collapse=0.5)
    assert report["sid_step"] == 7 and report["churn"] == 0.25
    assert (report["churn_0"], report["churn_1"]) == (0.125, 0.25)
    assert report["utilisation_0"] == 0.875 and report["utilisation_1"] == 1
    assert report["collisions"] == 0.25 and report["distinct_sids"] == 7 and not caplog.records
    collapsed = after.copy()
    collapsed[:, 1] = 0
    with caplog.at_level(logging.WARNING):
        refresh_report(collapsed, None, sizes, 9, collapse=0.5)
    assert [record.message.split(" uses")[0] for record in caplog.records] == ["level 1 of the Semantic IDs"]


def test_the_state_is_read_back_as_it_was(tmp_path):
    codes = random_codes(20, (8, 4)).astype(np.int64)
    averages = {"quantizer.levels.0.codebook": torch.randn(8, 4)}
    state = MovingSids(codes, torch.randn(20, 2, 4), np.array([[1, -1]] * 5), averages)
    state.save(tmp_path / "state.safetensors")
    loaded = MovingSids.load(tmp_path / "state.safetensors", torch.device("cpu"))
    assert np.array_equal(loaded.codes, codes) and torch.equal(loaded.bank, state.bank)
    assert np.array_equal(loaded.beams, state.beams)
    assert torch.equal(loaded.averages["quantizer.levels.0.codebook"], averages["quantizer.levels.0.codebook"])
    with pytest.raises(FileNotFoundError):
        MovingSids.load(tmp_path / "none", torch.device("cpu"))


def test_the_plots_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    codes = random_codes(30, (8, 4))
    history = [
        refresh_report(codes, None, (8, 4), 0, 0.0),
        refresh_report(random_codes(30, (8, 4), seed=1), codes, (8, 4), 5, 0.0),
    ]
    draw_history(history, tmp_path / "moving.png")
    log = [{"loss": 3.0, "step": 2}, *history, {"loss": 2.0, "step": 4}, {"train_runtime": 1.0}]
    draw_trainings({"joint": [log, log[:2]], "another": [log]}, tmp_path / "several.png")
    for name in ("moving.png", "several.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
