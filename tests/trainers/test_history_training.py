"""Histories as vectors from training to search: one checkpoint whose new items need no training."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from run_copies import copied

from onesearch import OneSearchForCausalLM, PromptLayout, RunFolder, Searcher, UserContext
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.parquet_files import write_table
from onesearch.pipeline.appending import append_to_run
from onesearch.serving.catalogue import add_from_table
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.configs import ExampleConfig, SidLoraConfig, StageConfig, TrainingConfig
from onesearch.trainers.dpo.data.beam_lists import Requests, prompt_batch, prompts_of
from onesearch.trainers.preference.likelihoods import candidate_likelihoods
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.training import train_run
from onesearch.views.history_table import HistoryTable

VECTORS = replace(PLAIN_LAYOUT, items=20, item_form="vector", item_summaries=("brand", "color"), item_id_events=3)


def training_of(recipe, **changes):
    arguments = {"max_steps": 3, "per_device_train_batch_size": 16, "use_cpu": True, "logging_steps": 1, "item_dropout": 0.2}
    stages = (StageConfig("personalised", {"purchases": 1, "item-text-to-sid": 1}),)
    return TrainingConfig(
        **{"model": recipe.training.model, "prompt": VECTORS, "stages": stages, "arguments": arguments, **changes}
    )


@pytest.fixture(scope="module")
def trained(shared_run, recipe, tmp_path_factory):
    """Read only."""
    run = copied(shared_run, tmp_path_factory.mktemp("vectors") / "run")
    train_run(run, training_of(recipe), progress=False)
    return run


@pytest.fixture(scope="module")
def searcher(trained):
    return Searcher.from_pretrained(trained.checkpoint, num_beams=10)


@pytest.fixture(scope="module")
def requests(trained):
    return [request for request in build_requests(Market.load(trained.market), "test") if len(request.history) > 3]


def test_a_history_costs_one_place_per_item(searcher, requests):
    request = max(requests, key=lambda own: len(own.history))
    with_history, without = (
        searcher.model_inputs([replace(request, history=history, context=UserContext(clicked=history))])
        for history in (tuple(request.history), ())
    )
    places = min(len(request.history), 20)
    assert with_history["attention_mask"].sum() - without["attention_mask"].sum() == places + 2 + 1  # summaries, end token
    assert (with_history["history_items"][0, :, 0] >= 0).sum() == places
    assert without["history_items"].shape[1] == 1 and (without["history_items"][..., 0] < 0).all()


def test_search_batch_and_explain_give_the_hits_of_search(searcher, requests):
    some = requests[:5]
    batch = searcher.search_batch(
        [own.query for own in some], [own.history for own in some], 5, contexts=[own.context for own in some], explain=True
    )
    for own, hits in zip(some, batch):
        alone = searcher.search(own.query, own.history, 5, context=own.context, explain=True)
        assert [hit.item_id for hit in hits] == [hit.item_id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-4)
        assert sum(hits[0].level_scores) == pytest.approx(hits[0].score, abs=1e-4)


def test_kinds_and_ages_of_a_request_reach_the_model(searcher, requests):
    request = requests[0]
    history = list(request.history)[:3]
    context = UserContext(clicked=history, ages=[100, 9, 1], kinds=["clicked", "carted", "purchased"])
    found = searcher.model_inputs([replace(request, history=history, context=context)])["history_items"][0]
    levels = len(searcher.index.codebook_sizes)
    assert found[:3, levels].tolist() == [0, 1, 2] and found[:3, levels + 1].tolist() == [7, 4, 1]
    hidden = searcher.model_inputs([replace(request, history=history, context=context)], ["items"])["history_items"]
    assert (hidden[..., 0] < 0).all()


def test_a_new_item_needs_no_training(trained, requests, tmp_path):
    checkpoint = shutil.copytree(trained.checkpoint, tmp_path / "checkpoint")
    before = HistoryTable.load(checkpoint / "history", VECTORS).known
    market = Market.load(trained.market)
    codes = Searcher.from_pretrained(checkpoint).index.codes_of([before.item_ids[0]])[0].tolist()
    text, categories = market.items.data.column("title")[0].as_py(), market.items.data.column("categories")[0].as_py()
    rows = {"item_id": ["new"], "codes": [codes], "categories": [categories], "text": [text]}
    write_table(pa.table(rows), tmp_path / "new.parquet")
    add_from_table(checkpoint, tmp_path / "new.parquet")
    after = HistoryTable.load(checkpoint / "history", VECTORS).known
    assert after.item_ids == [*before.item_ids, "new"] and np.array_equal(after.table.vectors[:-1], before.table.vectors)
    assert np.linalg.norm(after.table.vectors[-1]) == pytest.approx(1, abs=1e-3)
    assert len(after.table.facets.of_items[len(before.item_ids)]) > 0 and after.table.ids[-1] == 0
    searcher = Searcher.from_pretrained(checkpoint, num_beams=10)
    assert searcher.search(requests[0].query, ["new", *requests[0].history[:2]], 3)


def test_an_item_that_is_appended_to_the_run_has_its_facets(trained, requests, tmp_path):
    run = RunFolder(shutil.copytree(trained.root, tmp_path / "run"))
    before = HistoryTable.load(run.checkpoint / "history", VECTORS).known
    row = Market.load(run.market).items.data.table.slice(0, 1)
    twin = row.set_column(row.column_names.index("item_id"), "item_id", pa.array(["twin"]))
    write_table(twin, tmp_path / "twin.parquet")
    append_to_run(run, tmp_path / "twin.parquet")
    after = HistoryTable.load(run.checkpoint / "history", VECTORS)
    facets = before.table.facets
    own, twins = (after.known.table.facets.of_items[after.row_of[item_id]] for item_id in (before.item_ids[0], "twin"))
    assert twins.tolist() == own.tolist() and facets.kinds.index("price") in facets.kind_of[twins]
    vectors = after.known.table.vectors
    assert vectors[-1] @ vectors[0] == pytest.approx(1, abs=1e-3)


def test_a_damaged_or_missing_table_is_named(trained, tmp_path):
    checkpoint = shutil.copytree(trained.checkpoint, tmp_path / "checkpoint")
    (checkpoint / "history" / "history_items.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="history_items.safetensors"):
        Searcher.from_pretrained(checkpoint)
    shutil.rmtree(checkpoint / "history")
    with pytest.raises(FileNotFoundError, match=r"history/history\.json"):
        Searcher.from_pretrained(checkpoint)
    parts = Searcher.from_pretrained(trained.checkpoint)
    with pytest.raises(ValueError, match="history_table"):
        Searcher(parts.model, parts.tokenizer)


def test_preference_prompts_carry_the_histories(trained, recipe, searcher):
    inputs = load_inputs(trained, training_of(recipe))
    views = inputs.builder.views
    sessions = np.flatnonzero(views.history_log.end - views.history_log.begin > 2)[-3:]
    prompts, columns = prompts_of(views, inputs.tokenizer, Requests(sessions, sessions))
    batch = prompt_batch(searcher.model, views, prompts, columns)
    assert {"history_items", "history_vectors"} <= set(batch)
    sids, scores = searcher.model.search_sids(**batch, num_beams=4)
    found = candidate_likelihoods(searcher.model, batch, sids).of_sids()
    np.testing.assert_allclose(found.detach().numpy(), scores.numpy(), atol=1e-4)


WAYS = {
    "decoder-only": lambda recipe: {"model": replace(recipe.training.model, backbone="qwen3")},
    "adapter": lambda recipe: {"lora": SidLoraConfig(r=2, extra_modules=("history_reader",))},
    "streaming": lambda recipe: {"streaming": True},
    "self-distillation": lambda recipe: {
        "distillation": {"item_dropout": 0.0},
        "model": replace(recipe.training.model, dropout=0.1),
    },
    "all views": lambda recipe: {"prompt": replace(PromptLayout(), item_form="vector", items=8, item_events=("purchased",))},
    "codes alone": lambda recipe: {"prompt": replace(VECTORS, item_inputs=(), item_summaries=(), item_id_events=0)},
}


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_other_ways_to_train(shared_run, recipe, requests, tmp_path, changes):
    run = copied(shared_run, tmp_path / "run")
    train_run(run, training_of(recipe, **changes(recipe)), progress=False)
    found = Searcher.from_pretrained(run.checkpoint, num_beams=5)
    assert len(found.search(requests[0].query, requests[0].history, 3, context=requests[0].context)) == 3
    if found.tokenizer.prompt.default_history:
        assert len(found.search(requests[0].query, top_k=3)) == 3
    if isinstance(found.model, OneSearchForCausalLM):
        assert found.model.config.history_places == 20


REMOTE = """
import sys, json, torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
folder, inputs = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert tokenizer.history_token_id == model.config.history_token_id
hits = model.search(**{name: torch.tensor(value) for name, value in inputs.items()}, num_beams=10, top_k=5)
print(json.dumps([[hit.item_id for hit in row] for row in hits]))
"""


def test_remote_code_reads_histories_without_this_package(trained, searcher, requests, tmp_path):
    import json

    inputs = searcher.model_inputs(requests[:2])
    expected = [[hit.item_id for hit in row] for row in searcher.model.search(**inputs, num_beams=10, top_k=5)]
    given = json.dumps({name: tensor.tolist() for name, tensor in inputs.items()})
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-I", "-c", REMOTE, str(trained.checkpoint), given]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert json.loads(finished.stdout.splitlines()[-1]) == expected


def test_an_unknown_kind_of_summary_is_named(shared_run, recipe, tmp_path):
    run = copied(shared_run, tmp_path / "run")
    config = training_of(recipe, prompt=replace(VECTORS, item_summaries=("smell",)), examples=ExampleConfig())
    with pytest.raises(ValueError, match="item_summaries names 'smell'; the items of this market have facets of"):
        train_run(run, config, progress=False)


LAYOUTS = {
    "form": ({"item_form": "picture"}, "item_form='picture' is unknown; allowed are tokens, vector"),
    "events": ({"item_events": ("shown",)}, "item_events holds 'shown'; allowed are clicked, purchased"),
    "no events": ({"item_events": ()}, "item_events is empty"),
    "inputs": ({"item_form": "vector", "item_inputs": ("smell",)}, "item_inputs holds 'smell'"),
    "summaries of tokens": ({"item_summaries": ("brand",)}, "belong to item_form: vector"),
    "summaries without facets": (
        {"item_form": "vector", "item_inputs": ("text",), "item_summaries": ("brand",)},
        "add facets to item_inputs",
    ),
    "twice": ({"item_form": "vector", "item_summaries": ("brand", "brand")}, "names a kind twice"),
}


@pytest.mark.parametrize("changes, message", LAYOUTS.values(), ids=LAYOUTS)
def test_wrong_layouts_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        PromptLayout(**changes)
