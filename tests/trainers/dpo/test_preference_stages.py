"""Preference stages of a run: what they write, which lists they train on, and a run that was stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from onesearch.data.requests import request_rows
from onesearch.files import read_json
from onesearch.pipeline.recipe import SUPERVISED, load_recipe, save_recipe
from onesearch.pipeline.run import make_steps, preference_steps
from onesearch.trainers.dpo.data.beam_lists import BeamLists, Requests
from onesearch.trainers.dpo.data.interaction_lists import InteractionLists
from onesearch.trainers.dpo.data.lists import LIST_COLUMNS, Preferences
from onesearch.trainers.dpo.list_config import BeamListConfig
from onesearch.trainers.dpo.plots import PANELS
from onesearch.trainers.dpo.preference_config import PreferenceConfig, PreferenceStage
from onesearch.trainers.dpo.training import load_policy, passed_stages, train_preference_stage
from onesearch.trainers.preference.session_scores import SessionScorer, recombined
from onesearch.trainers.reward.negatives import NegativeSampling
from onesearch.trainers.run_inputs import load_inputs
from onesearch.views.reward.reward_folder import load_reward

WEIGHTS = "checkpoint/model.safetensors"


def own_of(row):
    return Preferences(*(np.asarray(row[column]) for column in LIST_COLUMNS[1:]))


# The stages of a run


def test_every_stage_is_trained_and_measured_with_and_without_the_reward_model(
    trained_run, shared_rewarded_run, preference_recipe
):
    assert passed_stages(trained_run.checkpoint) == ["dpo-1", "dpo-2"]
    for name in (SUPERVISED, "dpo-1", "dpo-2"):
        assert {"onesearch", "onesearch_reward"} == set(read_json(trained_run.evaluation / name / "metrics.json")["retrievers"])
    before, after = ((root / WEIGHTS).read_bytes() for root in (shared_rewarded_run.root, trained_run.root))
    last = (trained_run.training / "dpo-2" / "model" / "model.safetensors").read_bytes()
    assert before != after == last
    assert sum(read_json(trained_run.checkpoint / "reward" / "reward.json")["weights"].values()) > 0
    kept = {path.name for path in shared_rewarded_run.checkpoint.iterdir()}
    assert {path.name for path in trained_run.checkpoint.iterdir()} == kept | {"preference.json"}
    times = {path: path.stat().st_mtime_ns for path in trained_run.root.rglob("*")}
    make_steps(preference_steps(preference_recipe, trained_run, resume=True, progress=False))
    assert times == {path: path.stat().st_mtime_ns for path in trained_run.root.rglob("*")}, "finished stages are left alone"


def test_the_log_has_every_curve_of_the_plots(trained_run):
    folder = trained_run.training / "dpo-1"
    log = read_json(folder / "log.json")
    for _, _, names in PANELS:
        for name in names:
            values = [entry[name] for entry in log if name in entry]
            assert values and np.isfinite(np.asarray(values, dtype=float)).all(), name
    assert [entry["step"] for entry in log if "eval_reward@10" in entry] == [0, 4]
    assert (folder / "preference.png").stat().st_size > 1000 and (folder / "preference.svg").read_text().startswith("<?xml")


def test_the_report_counts_the_lists_and_their_reasons(trained_run):
    folder = trained_run.training / "dpo-1"
    report = read_json(folder / "lists.json")
    rows = [row for path in sorted((folder / "lists").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert report["requests"] == len(rows) == 32 and 0 < report["changed"] <= 32
    pairs = [own_of(row).pairs for row in rows]
    assert report["pairs"] == sum(own.sum() for own in pairs) and report["lists"] == sum(own.any(1).sum() for own in pairs)
    assert report["recombined"] == sum(row["session"] != row["query_session"] for row in rows)
    reasons = ("chosen_promoted", "chosen_clicked", "chosen_in_order")
    assert sum(report[name] for name in reasons) == report["lists"] == sum(report["chosen_levels"].values())
    other = read_json(trained_run.training / "dpo-2" / "lists.json")
    assert not any(other["chosen_levels"][level] for level in "456")
    assert not any(other["rejected_levels"][level] for level in "123")


def test_stages_out_of_order_and_other_settings_are_refused(rewarded_run, preference_recipe):
    parts = preference_recipe.training, preference_recipe.preference
    with pytest.raises(ValueError, match=r"has passed the preference stages \[\], and 'dpo-2' comes after \['dpo-1'\]"):
        train_preference_stage(rewarded_run, *parts, 1, progress=False)
    with pytest.raises(ValueError, match="max_steps=-1 must be at least 1"):
        train_preference_stage(rewarded_run, parts[0], replace(parts[1], arguments={}), 0, progress=False)
    with pytest.raises(ValueError, match="preference: the stages need a reward model"):
        replace(preference_recipe, reward=None)
    with pytest.raises(ValueError, match="preference stage 'supervised': the name belongs to another part of a run"):
        replace(preference_recipe, preference=PreferenceConfig((PreferenceStage("supervised", "beams"),)))


def test_a_recipe_with_stages_is_read_back(preference_recipe, tmp_path):
    save_recipe(preference_recipe, tmp_path / "own.yaml")
    assert load_recipe(tmp_path / "own.yaml") == preference_recipe


# Lists


@pytest.fixture(scope="module")
def parts(shared_rewarded_run, preference_recipe):
    """Inputs, policy and reward model of the run."""
    inputs = load_inputs(shared_rewarded_run, preference_recipe.training)
    policy = load_policy(shared_rewarded_run.checkpoint).eval()
    market = inputs.builder.views.market
    scorer = SessionScorer.of_run(
        shared_rewarded_run, market, load_reward(shared_rewarded_run.checkpoint / "reward"), inputs.index
    )
    return inputs, policy, scorer


@pytest.mark.parametrize("order", ["changes", "whole"])
def test_lists_of_beams_follow_the_reward_model(parts, order):
    inputs, policy, scorer = parts
    views = inputs.builder.views
    rows = request_rows(views.market, "train")[-12:]
    users, queries = recombined(rows, views.logs.query_rows, 6, seed=0)
    requests = Requests(np.concatenate([rows, users]), np.concatenate([rows, queries]))
    config = BeamListConfig(num_beams=8, chosen=3, tail=2, order=order)
    lists = BeamLists(requests, views, inputs.tokenizer, scorer, config)
    table = lists(policy, np.arange(len(requests.sessions))).to_pylist()
    assert len(table) == len(requests.sessions)
    for row in table:
        own, old, levels = own_of(row), np.asarray(row["old_ranks"]), np.asarray(row["levels"])
        scores = np.asarray(row["scores"])
        sids = own.sids.reshape(len(old), -1)
        session, asked = np.array([row["session"]]), np.array([row["query_session"]])
        again = scorer(session, sids[None], asked).score[0]
        assert scores.tolist() == pytest.approx(again.tolist(), abs=1e-5)
        assert (np.argsort(np.argsort(-scores, kind="stable"), kind="stable") == own.ranks).all()
        if session != asked:
            assert levels.min() >= 5, "nobody made this request"
        wanted = levels <= 3
        assert own.chosen[wanted].all() and not own.rejected[wanted].any()
        place = np.arange(len(old))
        if order == "whole":
            assert (own.chosen == ((own.ranks < 3) | wanted)).all() and (own.rejected == ~wanted).all()
        else:
            assert (own.chosen == (((own.ranks < 3) & (own.ranks < place)) | wanted)).all()
            assert (own.rejected == (((own.ranks > place) | (own.ranks >= len(old) - 2)) & ~wanted)).all()
        # Bought and clicked items that the beam missed are among the candidates.
        touched = [] if session != asked else views.item_sids[lists.interactions._touched(int(session[0]))].tolist()
        assert all(sid in sids.tolist() for sid in touched)


def test_scores_of_a_session_see_nothing_of_itself_and_later(parts):
    """The memory of a scorer that knows the earlier sessions only gives the same scores."""
    inputs, _, scorer = parts
    views = inputs.builder.views
    rows = request_rows(views.market, "train")
    session = rows[len(rows) // 2 : len(rows) // 2 + 1]
    sids = views.item_sids[None, :20]
    whole = scorer(session, sids).score
    late = scorer(rows[-1:], sids).score
    times = np.asarray(views.market.sessions.data.column("time"))
    memory = scorer.inputs.memory
    for name in ("query_clicked", "query_purchased", "transitions"):
        counted = getattr(memory, name)
        assert int(counted.times.max()) >= times[session[0]], "later events are in the memory, and not read"
    assert not np.allclose(whole, late)


def test_lists_of_interactions_are_those_of_the_levels(parts):
    inputs, policy, scorer = parts
    views = inputs.builder.views
    answered = np.intersect1d(views.logs.own("clicked")[0], request_rows(views.market, "train"))[-10:]
    lists = InteractionLists(
        answered, views, inputs.tokenizer, scorer.parts.table.facets.leaf, NegativeSampling(3, 4, 5, 1), num_beams=8
    )
    table = lists(policy, np.arange(len(answered))).to_pylist()
    clicked = {session: set() for session in answered.tolist()}
    for session, item in zip(*views.logs.own("clicked", "purchased")):
        if int(session) in clicked:
            clicked[int(session)].add(tuple(views.item_sids[item].tolist()))
    for row in table:
        own, levels = own_of(row), np.asarray(row["levels"])
        sids = own.sids.reshape(len(levels), -1)
        assert (own.chosen == (levels <= 3)).all() and (own.rejected == (levels >= 4)).all()
        assert {tuple(sid) for sid in sids[levels <= 3].tolist()} == clicked[row["session"]]
        assert len(np.unique(sids, axis=0)) == len(sids)
        weights = np.asarray([2.0, 1.5, 1.0, 0.5, 0.2, 0.0])[levels - 1]
        assert ((own.rewards > 0) == (weights > 0)).all() and (own.rewards <= weights).all()


# A run that was stopped


@pytest.mark.slow
def test_stages_that_are_killed_end_with_the_same_weights(rewarded_run, trained_run, preference_recipe, tmp_path):
    save_recipe(preference_recipe, rewarded_run.root / "recipe.yaml")
    command = [sys.executable, "-m", "onesearch.cli", "preference", str(rewarded_run.root), "--resume"]
    moments = ("dpo-1/lists/00000.parquet", "dpo-1/checkpoint-3", "dpo-1/model", "dpo-2/checkpoint-3")
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (rewarded_run.training / moment).exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert passed_stages(rewarded_run.checkpoint) == ["dpo-1", "dpo-2"]
    for part in (WEIGHTS, "training/dpo-1/lists/00001.parquet", "training/dpo-2/lists/00001.parquet"):
        assert (rewarded_run.root / part).read_bytes() == (trained_run.root / part).read_bytes(), part
