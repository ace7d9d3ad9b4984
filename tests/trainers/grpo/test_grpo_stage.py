"""The stage of a run: its requests, the rewards that the reward model gives, and what it writes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from onesearch.data.market import Market
from onesearch.data.requests import request_rows
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.pipeline.run import check_recipe, make_steps, preference_steps
from onesearch.trainers.dpo.data.beam_lists import Requests
from onesearch.trainers.dpo.preference_config import PreferenceConfig, PreferenceStage
from onesearch.trainers.dpo.training import passed_stages
from onesearch.trainers.grpo.data import rollout_requests
from onesearch.trainers.grpo.model_rewards import build_rewards, judged_grades
from onesearch.trainers.grpo.reward_mix import RewardMix
from onesearch.trainers.grpo.rewards import BOUGHT, CLICKED, SHOWN
from onesearch.trainers.grpo.rollouts import Rollouts
from onesearch.trainers.grpo.training import PANELS
from onesearch.trainers.preference.session_scores import SessionScorer
from onesearch.trainers.run_inputs import load_inputs
from onesearch.views.reward.reward_folder import load_reward

ARGUMENTS = {"max_steps": 3, "per_device_train_batch_size": 16, "num_generations": 4, "logging_steps": 1, "use_cpu": True}
ARGUMENTS |= {"eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True, "learning_rate": 1e-3, "expert_sids": 1}
STAGE = PreferenceStage("grpo", recombined=0.5, rewards={"item": 0.5, "relevance": 1.0}, arguments=ARGUMENTS)


@pytest.fixture(scope="module")
def inputs(shared_rewarded_run, recipe):
    return load_inputs(shared_rewarded_run, recipe.training)


@pytest.fixture(scope="module")
def scorer(shared_rewarded_run, inputs):
    parts = load_reward(shared_rewarded_run.checkpoint / "reward")
    return SessionScorer.of_run(shared_rewarded_run, inputs.builder.views.market, parts, inputs.index)


def test_rows_hold_the_prompt_and_the_targets_of_the_session(inputs):
    views = inputs.builder.views
    rows = request_rows(views.market, "train")[:40]
    dataset = rollout_requests(views, inputs.tokenizer, Requests(rows, rows), shown=True)
    prompts = inputs.tokenizer.encode_fields(views.fields(rows)).tolist()
    assert dataset["input_ids"][:] == prompts
    sessions = views.market.sessions
    index = inputs.index
    for row, session in zip(dataset, rows.tolist()):
        own = sessions[session]
        wanted = {item: BOUGHT for item in own["purchased"]}
        wanted |= {item: CLICKED for item in own["clicked"] if item not in wanted}
        wanted |= {item: SHOWN for item in own["impressed"] if item not in wanted}
        sids = [tuple(sid) for sid in np.array(row["targets"]).reshape(-1, len(index.codebook_sizes)).tolist()]
        found = sorted(zip(sids, row["target_kinds"]))
        assert found == sorted((tuple(index.sid_of(item)), kind) for item, kind in wanted.items())
        assert row["target_kinds"] == sorted(row["target_kinds"])  # bought ones first


def test_a_query_of_another_session_has_no_targets(inputs):
    views = inputs.builder.views
    rows = request_rows(views.market, "train")[:6]
    asked = np.roll(rows, 1)
    mixed = rollout_requests(views, inputs.tokenizer, Requests(rows, asked))
    assert mixed["targets"][:] == [[]] * 6 and mixed["query_session"][:] == asked.tolist()
    own = rollout_requests(views, inputs.tokenizer, Requests(rows, rows))
    queries = [views.market.sessions[row]["query"] for row in rows.tolist()]
    for row, (plain, other) in enumerate(zip(own["input_ids"], mixed["input_ids"])):
        assert (plain == other) == (queries[row] == queries[row - 1])


def test_rewards_of_the_reward_model_are_its_scores_of_the_best_item(inputs, scorer):
    views, index = inputs.builder.views, inputs.index
    rows = request_rows(views.market, "train")[:3]
    codes = np.unique(index.codes.astype(np.int64), axis=0)[:8]
    sids = np.tile(codes, (3, 1, 1))
    examples = list(rollout_requests(views, inputs.tokenizer, Requests(rows, np.roll(rows, 1))))
    rollouts = Rollouts(torch.from_numpy(sids), examples, torch.zeros(3, 8, dtype=torch.bool), torch.ones(3, 8))
    query = str(views.logs.queries[views.logs.query_rows[rows[2]]])  # asked by the first request
    wanted = scorer(rows, sids, np.roll(rows, 1))
    grades = {(query, int(wanted.items[0, 4])): 3, ("another query", int(wanted.items[0, 5])): 3}
    mix = RewardMix(model=1.0, ctr=2.0, relevance=0.5)
    found = {own.name: (own.weight, own.reward(rollouts)) for own in build_rewards(mix, scorer, grades)}
    assert {name: weight for name, (weight, _) in found.items()} == {"model": 1.0, "ctr": 2.0, "relevance": 0.5}
    torch.testing.assert_close(found["model"][1], torch.from_numpy(wanted.score).float())
    torch.testing.assert_close(found["ctr"][1], torch.from_numpy(wanted.ctr).float())
    assert ((found["ctr"][1] > 0) & (found["ctr"][1] < 1)).all()
    relevance = torch.from_numpy(wanted.relevance.clip(0, 1)).float()
    relevance[0, 4] = 1.0  # judged; the other judgement is of another query
    torch.testing.assert_close(found["relevance"][1], relevance)


def test_judgements_of_held_out_queries_are_not_read(market):
    grades = judged_grades(market)
    held = {market.sessions[row]["query"] for split in ("validation", "test") for row in request_rows(market, split).tolist()}
    assert not {query for query, _ in grades} & held
    judged = {query for query in market.relevance["query"]}
    assert {query for query, _ in grades} <= judged


@pytest.fixture(scope="module")
def grpo_recipe(preference_recipe):
    return replace(preference_recipe, preference=PreferenceConfig((STAGE,), requests=40, validation_requests=12))


@pytest.fixture(scope="module")
def finished(shared_rewarded_run, grpo_recipe, tmp_path_factory):
    """The tiny run after the stage. Read only."""
    run = RunFolder(shutil.copytree(shared_rewarded_run.root, tmp_path_factory.mktemp("grpo") / "tiny"))
    check_recipe(grpo_recipe, run)
    make_steps(preference_steps(grpo_recipe, run, resume=False, progress=False))
    return run


def test_the_stage_leaves_new_weights_and_is_measured_with_and_without_the_reward_model(finished, shared_rewarded_run):
    assert passed_stages(finished.checkpoint) == ["grpo"]
    assert {"onesearch", "onesearch_reward"} == set(read_json(finished.evaluation / "grpo" / "metrics.json")["retrievers"])
    before, after = ((root / "checkpoint/model.safetensors").read_bytes() for root in (shared_rewarded_run.root, finished.root))
    assert before != after == (finished.training / "grpo" / "model" / "model.safetensors").read_bytes()
    assert SidIndex.load(finished.checkpoint / "sid_index.safetensors").fingerprint


def test_the_log_has_every_curve_of_the_plots(finished):
    folder = finished.training / "grpo"
    log = read_json(folder / "log.json")
    for _, _, names in PANELS:
        for name in names:
            assert any(name in entry for entry in log), name
    assert (folder / "preference.png").stat().st_size > 0
    assert {"rewards/item", "rewards/model", "rewards/relevance", "expert_share", "entropy"} <= set().union(*log)


def test_a_stage_that_is_resumed_at_its_end_ends_alike(finished, grpo_recipe, shared_rewarded_run, tmp_path):
    """The weights are gone from the checkpoint, as after a kill before they were put there; the stage's own folder has them."""
    run = RunFolder(shutil.copytree(shared_rewarded_run.root, tmp_path / "tiny"))
    shutil.copytree(finished.training / "grpo", run.training / "grpo")
    make_steps(preference_steps(grpo_recipe, run, resume=True, progress=False))
    one, other = ((root / "checkpoint/model.safetensors").read_bytes() for root in (finished.root, run.root))
    assert one == other and Market.load(run.market).items


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": {}}, "max_steps"),
        ({"preset": "ppo"}, "preset='ppo' is unknown"),
        ({"rewards": {"clicks": 1.0}}, "rewards.clicks is unknown"),
        ({"arguments": {"max_steps": 2, "rollouts": "greedy"}}, "rollouts='greedy'"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused_before_anything_is_trained(grpo_recipe, shared_rewarded_run, changes, words):
    stage = replace(STAGE, **changes)
    wrong = replace(grpo_recipe, preference=replace(grpo_recipe.preference, stages=(stage,)))
    with pytest.raises(ValueError, match=words):
        check_recipe(wrong, shared_rewarded_run)
    with pytest.raises(ValueError, match="preset and rewards belong to the method 'grpo'"):
        PreferenceStage("dpo-1", preset="spo")
