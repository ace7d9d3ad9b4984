"""Recipes that follow from a market, and what is checked before a run trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from markets import BASE, market_of

from onesearch.data.splits import SplitConfig
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline import preconditions
from onesearch.pipeline.auto_codes import choose_for
from onesearch.pipeline.auto_recipe import auto_recipe, auto_split
from onesearch.pipeline.market_facts import MarketFacts, SplitFacts
from onesearch.pipeline.preconditions import disk_bytes, epoch_examples, possible
from onesearch.pipeline.recipe import Recipe, load_recipe, save_recipe
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig
from onesearch.tokenization_sid.quantizers.configs import RQOPQConfig
from onesearch.trainers.configs import StageConfig, TrainingConfig
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.trainers.tasks import TASKS

SESSIONS = [
    ("u", 1, "dress", ["a", "b"], ["a"]),
    ("u", 2, "dress", ["b"], []),
    ("v", 2, "shoe", ["c"], []),
    ("v", 3, "", ["d"], ["d"]),
    ("v", 4, "hat", [], []),
]
FACTS = MarketFacts.of(market_of(SESSIONS))
NOTHING = SplitFacts()


def facts_of(items: int, train: SplitFacts = NOTHING, validation: SplitFacts = NOTHING, **changes) -> MarketFacts:
    values = {
        "texts": items,
        "with_text": items,
        "with_category": items,
        "with_facets": items,
        "words": 8.0,
        "unspaced": 0.0,
        "judged": 0,
    }
    splits = {"train": train, "validation": validation, "test": NOTHING}
    return MarketFacts(items=items, splits=splits, **{**values, **changes})


LOG = SplitFacts(5000, 1500, 5000, 1500, 8000, 2000, 6000, 4000)
HELD_OUT = SplitFacts(300, 90, 300, 90, 500, 200, 400, 250)


def test_every_task_has_a_number_of_examples():
    counts = {task: FACTS.examples(task) for task in TASKS}
    assert counts["item-tastes"] == counts["item-words"] == 6 and min(counts.values()) >= 0


def test_a_market_is_counted():
    assert FACTS.items == 6 and FACTS.texts == 6 and FACTS.with_facets == 6 and FACTS.unspaced == 0
    train = FACTS.train
    assert (train.requests, train.purchase_requests, train.click_requests) == (3, 1, 3)
    assert (train.purchases, train.clicks) == (1, 3), (
        "an item that was bought is no click; sessions without a query are no requests"
    )
    assert (train.queries, train.pairs, train.with_history) == (2, 3, 1)
    assert FACTS.validation == NOTHING
    often = MarketFacts.of(market_of([("u", day, "dress", ["a"], []) for day in range(14)])).train
    assert (often.requests, often.with_history, often.with_long_history) == (14, 13, 3)
    chinese = MarketFacts.of(
        type(BASE).from_rows(items=[{"item_id": "a", "title": "红色连衣裙 xl"}, {"item_id": "b", "title": "红色连衣裙 xl"}])
    )
    assert chinese.texts == 1 and chinese.unspaced == pytest.approx(5 / 7) and chinese.with_facets == 0


def test_examples_are_those_that_the_training_makes(shared_run, market, recipe):
    from onesearch.trainers.run_inputs import load_inputs

    facts, inputs = MarketFacts.of(market), load_inputs(shared_run, recipe.training)
    for task in ("purchases", "clicks", "item-text-to-sid", "item-words", "item-facets", "query-text-to-item-text"):
        assert facts.examples(task) == sum(map(len, inputs.builder.chunks(task, "train"))) > 0, task


def test_the_recipe_is_a_plain_file(tmp_path):
    for facts in (facts_of(300, LOG, HELD_OUT), facts_of(300), FACTS):
        chosen = auto_recipe(facts, "shop").recipe
        save_recipe(chosen, tmp_path / "recipe.yaml")
        assert load_recipe(tmp_path / "recipe.yaml") == chosen


def test_the_tasks_follow_the_behaviour():
    def tasks(facts):
        return set(auto_recipe(facts, "shop").recipe.training.stages[0].tasks)

    made = {"item-text-to-sid", "item-words", "item-facets"}
    assert tasks(facts_of(300)) == made
    assert tasks(facts_of(300, with_facets=0)) == made - {"item-facets"}
    assert tasks(facts_of(2000, LOG)) == {"purchases", "clicks", *made}
    assert tasks(facts_of(100, LOG)) == {"purchases", "clicks", "item-text-to-sid"}
    assert "purchases" not in tasks(facts_of(2000, replace(LOG, purchases=0)))


def test_what_learns_from_behaviour_needs_some():
    without, thin, log = (
        auto_recipe(facts_of(300, train), "shop").recipe for train in (NOTHING, replace(LOG, requests=60), LOG)
    )
    assert without.alignment is None and without.reward is None and without.training.prompt.items == 0
    assert thin.alignment is not None and thin.reward is None
    assert log.alignment is not None and log.reward is not None and log.training.prompt.items == 10
    assert auto_recipe(facts_of(300, replace(LOG, with_history=10)), "shop").recipe.training.prompt.items == 0


def test_a_long_history_is_shown_as_vectors_with_the_means_of_what_repeats():
    def chosen(**counts):
        return auto_recipe(facts_of(300, replace(LOG, **counts), repeating=("brand", "price")), "shop")

    long, short = chosen(with_long_history=2_000), chosen(with_long_history=1_999)
    prompt = long.recipe.training.prompt
    assert prompt.has_vectors and prompt.items == 50 and prompt.item_summaries == ("brand", "price")
    assert "last 50 items, one vector each, and the mean of their brand and price (40 % of" in "\n".join(long.reasons)
    assert not short.recipe.training.prompt.has_vectors and short.recipe.training.prompt.items == 10
    assert not chosen(with_history=10, with_long_history=10).recipe.training.prompt.items


def test_kinds_that_repeat_are_counted():
    """A kind counts if a fifth of the items have a value that three items share, and if it tells items apart."""

    def item(number, **fields):
        return {"item_id": str(number), "title": f"thing {number}", **fields}

    colours = {"attributes": {"color": ["red"]}}, {"attributes": {"color": ["blue"]}}, {}
    rows = [
        item(number, brand="Mo" if number < 5 else f"brand {number}", categories=["things"], **colours[min(number // 3, 2)])
        for number in range(20)
    ]
    assert MarketFacts.of(type(BASE).from_rows(items=rows)).repeating == ("color",), (
        "one brand repeats, and all items have the same category"
    )
    two = [{**row, "categories": ["things" if place % 2 else "goods"]} for place, row in enumerate(rows)]
    assert MarketFacts.of(type(BASE).from_rows(items=two)).repeating == ("category", "color")


def test_the_teacher_is_a_reward_model_that_saw_enough():
    few, sparse, enough = (
        auto_recipe(facts_of(items, replace(LOG, requests=count)), "shop")
        for items, count in ((300, 4_999), (951, 5_000), (950, 5_000))
    )
    assert few.recipe.training.soft_targets is None and "teacher: none (4,999 answered" in "\n".join(few.reasons)
    assert sparse.recipe.training.soft_targets is None and "with 10.0 clicks and purchases per item" in "\n".join(
        sparse.reasons
    )
    soft_targets = enough.recipe.training.soft_targets
    assert (soft_targets.teacher, soft_targets.weight) == ("reward", 0.8) and soft_targets.reward == enough.recipe.reward


def test_the_text_match_teaches_a_catalogue_without_a_log(monkeypatch):
    chosen = auto_recipe(facts_of(300), "shop")
    soft_targets = chosen.recipe.training.soft_targets
    assert (soft_targets.teacher, soft_targets.made_queries, soft_targets.weight) == ("none", True, 0.9)
    assert "teacher: the text match" in "\n".join(chosen.reasons)
    monkeypatch.setattr("onesearch.pipeline.auto_recipe.find_spec", lambda module: None)
    assert auto_recipe(facts_of(300), "shop").recipe.training.soft_targets is None


def test_no_teacher_is_trained_by_several_processes(tmp_path, monkeypatch, capsys):
    """`torchrun … onesearch train` cannot train a teacher; one process of it does."""
    from argparse import Namespace

    from onesearch.commands.train import _recipe

    options, facts = Namespace(recipe="auto"), facts_of(300, replace(LOG, requests=5_000))
    assert _recipe(options, RunFolder(tmp_path), facts).training.soft_targets is not None
    assert "* teacher: a reward model" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _recipe(options, RunFolder(tmp_path), facts).training.soft_targets is None
    assert "* teacher: none, as one process trains a teacher before" in capsys.readouterr().out


def test_the_dense_term_learns_where_it_can():
    without, thin, log = (
        auto_recipe(facts_of(300, train), "shop").recipe.dense for train in (NOTHING, replace(LOG, requests=999), LOG)
    )
    assert without == thin == DenseConfig(epochs=0) and log == DenseConfig()


def test_the_steps_follow_the_size():
    def passes(items, train=NOTHING):
        facts = facts_of(items, train)
        recipe = auto_recipe(facts, "shop").recipe
        training = recipe.training
        epochs = training.arguments["num_train_epochs"]
        return epochs * epoch_examples(training.stages[0], facts, training.examples.copies), recipe

    assert passes(2)[0] == pytest.approx(2_000, rel=0.1), "a handful of items trains in seconds"
    assert passes(300)[0] == pytest.approx(30_000, rel=0.1)
    assert passes(5_000)[0] == pytest.approx(140_000, rel=0.1)
    assert passes(20_000)[0] == pytest.approx(560_000, rel=0.1)
    assert passes(5_000)[1].processes == 1 and passes(20_000)[1].processes == 2
    assert passes(5_000)[1].training.arguments["per_device_train_batch_size"] == 64
    arguments = passes(20_000)[1].training.arguments
    assert arguments["per_device_train_batch_size"] == 64 and arguments["warmup_steps"] == 0.1


def test_weights_are_chosen_where_enough_requests_are_held_out():
    few, enough = (
        auto_recipe(facts_of(300, LOG, held_out), "shop").recipe.training
        for held_out in (replace(HELD_OUT, requests=29), HELD_OUT)
    )
    assert few.patience is None and few.arguments["eval_strategy"] == "no"
    assert enough.patience == 4 and enough.arguments["eval_steps"] == enough.arguments["save_steps"] == 0.125


def test_more_is_held_out_of_a_small_log():
    assert auto_split(0) is None
    assert auto_split(9_999) == SplitConfig("time", 0.1, 0.1) and auto_split(10_000) == SplitConfig("time", 0.05, 0.1)


def test_every_decision_has_its_reason():
    reasons = "\n".join(auto_recipe(facts_of(300, LOG, HELD_OUT), "shop").reasons)
    for words in (
        "1,500 purchases and 8,000 clicks",
        "300 validation requests",
        "width 128",
        "last 10 items",
        "teacher: ",
        "dense term: ",
        "aligned with 5,000",
    ):
        assert words in reasons


# Codes


def test_product_codes_are_added_only_where_they_tell_items_apart():
    random = np.random.default_rng(0)
    apart = random.normal(size=(400, 16)).astype(np.float32)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    choice = choose_for(apart)
    assert (
        choice.config.opq == (0, 0)
        and choice.plain >= 0.85
        and choice.with_opq is None
        and "without product codes" in str(choice)
    )
    centres = random.normal(size=(4, 64))
    alike = np.repeat(centres, 100, axis=0) + 0.02 * random.normal(size=(400, 64))
    alike = (alike / np.linalg.norm(alike, axis=1, keepdims=True)).astype(np.float32)
    crowded = choose_for(np.concatenate([alike, alike]))
    assert crowded.distinct == 400 and max(crowded.config.codebook_sizes) <= 400
    if crowded.with_opq is not None:
        assert (crowded.config.opq != (0, 0)) == (crowded.with_opq >= crowded.plain + 0.05)


# Preconditions


RECIPE = Recipe(
    "shop",
    alignment=AlignmentConfig(),
    reward=RewardConfig(),
    search=SearchConfig(rerank=True, candidates="beam+text"),
    training=TrainingConfig(
        stages=(StageConfig("co-occurrence"), StageConfig("personalised", {"purchases": 1, "item-words": 1})),
        arguments={"eval_strategy": "epoch", "warmup_steps": 200, "per_device_train_batch_size": 10, "num_train_epochs": 2},
    ),
)


def test_what_has_no_examples_is_left_out_with_a_line(tmp_path):
    found = possible(RECIPE, facts_of(100), RunFolder(tmp_path / "run"))
    assert found.recipe.alignment is None and found.recipe.reward is None
    assert found.recipe.search == replace(RECIPE.search, rerank=False, candidates="beam")
    with_text = replace(RECIPE, dense=DenseConfig(), search=SearchConfig(candidates="beam+text+dense", text_weight=1.0))
    assert possible(with_text, facts_of(100), RunFolder(tmp_path / "run")).recipe.search == with_text.search
    lines = "\n".join(found.left_out)
    assert "personalised trains without purchases" in lines
    assert "alignment of the text encoder is left out" in lines and "reward model is left out" in lines
    assert "not measured while it runs" in lines
    assert "has 20 steps, and the learning rate rises for 200" in lines
    complete = possible(RECIPE, facts_of(5000, LOG, HELD_OUT), RunFolder(tmp_path / "run"))
    assert complete.recipe == RECIPE and not complete.left_out


def test_everything_that_would_stop_the_run_is_named_at_once(tmp_path, monkeypatch):
    wrong = replace(
        RECIPE,
        codes=RQOPQConfig(residual_sizes=(64, 8), opq=(0, 0)),
        keywords=None,
        training=replace(RECIPE.training, stages=(StageConfig("personalised"),)),
    )
    monkeypatch.setattr(preconditions, "SPARE", 10**18)
    with pytest.raises(ValueError) as error:
        possible(wrong, facts_of(50, texts=20), RunFolder(tmp_path / "not" / "there"))
    message = str(error.value)
    assert "a codebook of 64 codes, but the 50 items have 20 distinct texts" in message
    assert "GB of disk" in message and "nothing to train on" in message and "item-words" in message
    with pytest.raises(ValueError, match="no item has any text"):
        possible(RECIPE, facts_of(50, with_text=0), RunFolder(tmp_path))


def test_the_disk_that_is_asked_for_grows_with_what_is_kept():
    few, many = (replace(RECIPE, training=replace(RECIPE.training, arguments={"save_total_limit": kept})) for kept in (1, 10))
    assert disk_bytes(few, FACTS) < disk_bytes(many, FACTS)
