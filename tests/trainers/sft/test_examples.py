"""Training examples of the tiny market: every task, its prompt and its target."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from onesearch.data.requests import request_rows, split_sessions
from onesearch.data.text import item_texts
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.tokenization_sid.templates import PromptLayout, task_template
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.trainers.configs import ExampleConfig
from onesearch.trainers.sft.data import examples as module
from onesearch.trainers.sft.data.catalogue_queries import CatalogueQueries
from onesearch.trainers.sft.data.examples import ExampleBuilder
from onesearch.trainers.sft.data.stored import mixed_examples, stored_examples
from onesearch.trainers.sft.data.streaming import streamed_examples
from onesearch.trainers.sft.data.text_targets import TextTargets
from onesearch.trainers.tasks import TASKS
from onesearch.views.session_views import SessionViews


@pytest.fixture(scope="module")
def views(market, shared_searcher, shared_run):
    codes = load_codes(shared_run, "queries")
    sids = np.where(codes.known[:, None], codes.codes, -1)
    return SessionViews(market, shared_searcher.model.sid_index, PromptLayout(), distinct_queries(market), sids)


@pytest.fixture(scope="module")
def tokenizer(views):
    return SidTokenizer.train(item_texts(views.market), views.codebook_sizes, vocab_size=500, prompt=PromptLayout())


@pytest.fixture(scope="module")
def builder(views, tokenizer, shared_run):
    return ExampleBuilder(views, tokenizer, ExampleConfig(), shared_run.market)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


def rows(dataset):
    return [(tuple(row["input_ids"]), tuple(row["labels"])) for row in dataset]


def test_requests_give_one_example_per_touched_item(builder, market, views, tokenizer, folder):
    bought = stored_examples(builder, "purchases", "train", folder)
    clicked = stored_examples(builder, "clicks", "train", folder)
    sessions = request_rows(market, "train")
    prompts = tokenizer.encode_fields(views.fields(sessions))
    sid_of = dict(zip(market.items["item_id"], views.item_sids.tolist()))
    expected = {"purchased": [], "clicked": []}
    for place, row in enumerate(sessions.tolist()):
        session = market.sessions[row]
        for kind in expected:
            for item in dict.fromkeys(session[kind]):
                if kind == "purchased" or item not in session["purchased"]:
                    target = tokenizer.sids_to_ids([sid_of[item]])[0].tolist()
                    expected[kind].append((tuple(prompts[place].tolist()), tuple(target)))
    assert Counter(rows(bought)) == Counter(expected["purchased"]) and len(bought)
    assert Counter(rows(clicked)) == Counter(expected["clicked"]) and len(clicked)
    spans = views.long_spans(sessions)
    assert {tuple(row["long_view"]) for row in clicked} <= {tuple(one.ravel().tolist()) for one in spans}
    assert all(row["length"] == len(row["input_ids"]) for row in clicked)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.rows in ("items", "queries", "pairs")])
def test_other_tasks_give_what_they_say_and_want_what_they_say(task, builder, market, views, tokenizer, folder):
    """Each example is made again from its own row of the tables."""
    examples = stored_examples(builder, task, "train", folder)
    (given_thing, given_field), (wanted_thing, wanted_field) = TASKS[task].given, TASKS[task].wanted
    in_training = split_sessions(market) == 0
    queries = dict(zip(views.logs.queries.tolist(), range(len(views.logs.queries))))
    pairs = {
        (queries[row["query"]], item)
        for row, trains in zip(market.sessions, in_training)
        if trains and row["query"].strip()
        for item in (*row["clicked"], *row["purchased"])
    }
    number = {item: row for row, item in enumerate(market.items["item_id"])}
    texts = {"item": item_texts(market), "query": views.logs.queries.tolist()}
    categories = {"item": [" > ".join(path) for path in market.items["categories"]]}
    categories["query"] = builder.fields.column("query", "category").tolist()
    codes = {"item": views.item_sids, "query": views.query_sids}

    def field(thing, kind, row):
        if kind == "sid":
            return None if codes[thing][row, 0] < 0 else tuple(codes[thing][row].tolist())
        return (categories if kind == "category" else texts)[thing][row] or None

    things = [("item", row, row) for row in range(len(number))] if TASKS[task].rows == "items" else []
    if TASKS[task].rows == "queries":
        things = [("query", row, row) for row in sorted({query for query, _ in pairs})]
    if TASKS[task].rows == "pairs":
        things = [("pair", query, number[item]) for query, item in pairs]
    expected = Counter()
    for _, query, item in things:
        row_of = {"query": query, "item": item}
        given = field(given_thing, given_field, row_of[given_thing])
        wanted = field(wanted_thing, wanted_field, row_of[wanted_thing])
        if given is None or wanted is None:
            continue
        fields = PromptFields(sids=np.array([given])) if given_field == "sid" else PromptFields([given])
        prompt = tokenizer.encode_fields(fields, task_template(task, "en"))[0].tolist()
        if wanted_field == "sid":
            target = tokenizer.sids_to_ids([wanted])[0].tolist()
        else:
            target = tokenizer(wanted, add_special_tokens=False).input_ids[:48] + [tokenizer.eos_token_id]
        expected[tuple(prompt), tuple(target)] += 1
    assert Counter(rows(examples)) == expected and expected
    assert all(row["long_view"] == [0, 0, 0, 0] for row in examples)


def test_a_category_of_a_query_is_that_of_most_items_after_it(builder, market):
    found = builder.fields.column("query", "category")
    of_item = {row["item_id"]: " > ".join(row["categories"]) for row in market.items}
    counted = {}
    for row, split in zip(market.sessions, split_sessions(market)):
        if split == 0 and row["query"].strip():
            for item in {*row["clicked"], *row["purchased"]}:
                counted.setdefault(row["query"], {}).setdefault(of_item[item], set()).add(item)
    for query, name in zip(builder.views.logs.queries, found):
        sizes = {path: len(items) for path, items in counted.get(query, {}).items()}
        assert name == "" if not sizes else sizes[name] == max(sizes.values())


def test_only_the_last_session_of_each_user_without_sliding_windows(views, tokenizer, market, shared_run, folder):
    last = ExampleBuilder(views, tokenizer, ExampleConfig(windows="last"), shared_run.market)
    sessions = request_rows(market, "train")
    users = [market.sessions[int(row)]["user_id"] for row in sessions]
    latest = {user: int(row) for user, row in zip(users, sessions)}
    wanted = [market.sessions[row] for row in latest.values()]
    touched = sum(len({*row["clicked"], *row["purchased"]}) for row in wanted)
    assert sum(len(stored_examples(last, task, "train", folder)) for task in ("purchases", "clicks")) == touched
    held_out = [
        len(stored_examples(one, "clicks", "validation", folder))
        for one in (last, ExampleBuilder(views, tokenizer, ExampleConfig()))
    ]
    assert held_out[0] == held_out[1] > 0


def test_drawn_words_are_some_of_the_text_in_order_and_seeded(views, tokenizer, market, tmp_path):
    def drawn(seed):
        config = ExampleConfig(words=3, copies=2, seed=seed)
        return stored_examples(ExampleBuilder(views, tokenizer, config), "item-words", "train", tmp_path)["input_ids"][:]

    few, again, other = (drawn(seed) for seed in (0, 0, 1))
    assert few == again != other and len(few) == 2 * len(market.items) and few[: len(few) // 2] != few[len(few) // 2 :]
    for prompt, text in zip(few, item_texts(market) * 2):
        words = tokenizer.decode(prompt, skip_special_tokens=True).replace("<longview>", "").split()
        places = iter(text.lower().split())
        assert 1 <= len(words) <= 3 and all(word in places for word in words)  # a subsequence


@pytest.mark.parametrize("task", ["item-queries", "item-matches"])
def test_made_queries_have_their_semantic_ids_in_the_prompt(task, views, tokenizer, market, shared_run, tmp_path):
    pytest.importorskip("bm25s")
    encoder = SidEncoder.load(shared_run)
    examples = stored_examples(
        ExampleBuilder(views, tokenizer, ExampleConfig(), query_encoder=encoder), task, "train", tmp_path
    )
    made, targets, expected = CatalogueQueries(market), TextTargets(market), []
    random, of_targets = np.random.default_rng([0, 0]), np.random.default_rng([0, 1])
    for item in range(len(made)):
        query = made.sample(item, random)
        item = targets.draw(query, item, of_targets) if task == "item-matches" else item
        prompt = tokenizer.encode_fields(PromptFields([query], sids=encoder.encode([query]).codes))[0].tolist()
        expected.append((tuple(prompt), tuple(tokenizer.sids_to_ids(views.item_sids[[item]])[0].tolist())))
    assert rows(examples) == expected


def test_chunks_do_not_show(views, tokenizer, tmp_path, monkeypatch):
    def made(folder):
        builder = ExampleBuilder(views, tokenizer, ExampleConfig())
        return [
            rows(stored_examples(builder, task, "train", folder)) for task in ("clicks", "query-sid-to-item-sid", "item-words")
        ]

    whole = made(tmp_path / "whole")
    monkeypatch.setattr(module, "CHUNK", 37)
    assert made(tmp_path / "parts") == whole


def test_examples_are_stored_once_and_made_again_when_something_changes(views, tokenizer, shared_run, tmp_path):
    def files():
        return sorted(path.name for path in tmp_path.iterdir())

    builder = ExampleBuilder(views, tokenizer, ExampleConfig(), shared_run.market)
    first = stored_examples(builder, "clicks", "train", tmp_path)
    (name,) = files()
    stamp = (tmp_path / name).stat().st_mtime_ns
    again = stored_examples(ExampleBuilder(views, tokenizer, ExampleConfig(), shared_run.market), "clicks", "train", tmp_path)
    assert rows(first) == rows(again) and files() == [name] and (tmp_path / name).stat().st_mtime_ns == stamp
    stored_examples(
        ExampleBuilder(views, tokenizer, ExampleConfig(language="zh"), shared_run.market), "clicks", "train", tmp_path
    )
    assert len(files()) == 2


def test_weights_repeat_and_thin_out(builder, folder):
    size = len(stored_examples(builder, "clicks", "train", folder))
    items = len(stored_examples(builder, "item-text-to-sid", "train", folder))
    mixed = mixed_examples(builder, {"clicks": 2.5, "item-text-to-sid": 1}, "train", folder)
    assert len(mixed) == 2 * size + round(0.5 * size) + items


def test_streamed_examples_are_the_stored_ones(builder, folder):
    weights = {"clicks": 1.0, "query-sid-to-item-sid": 2.0}
    streamed = streamed_examples(builder, weights, "train")
    assert Counter(rows(streamed)) == Counter(rows(mixed_examples(builder, weights, "train", folder)))


def test_a_task_without_rows_gives_an_empty_dataset(builder, folder):
    assert len(stored_examples(builder, "clicks", "test", folder)) > 0
    from markets import BASE
    from tiny import tiny_index

    index = tiny_index(np.arange(6)[:, None] % 3, (3,), list("abcdef"))
    views = SessionViews(BASE, index, PromptLayout(), [], np.zeros((0, 1), dtype=int))
    tokenizer = SidTokenizer.train(["dress"], (3,), vocab_size=300, prompt=PromptLayout())
    empty = ExampleBuilder(views, tokenizer, ExampleConfig())
    for task in ("clicks", "query-text-to-sid", "query-sid-to-item-sid"):
        assert len(stored_examples(empty, task, "train", folder)) == 0
    assert set(stored_examples(empty, "clicks", "train", folder).column_names) == {"input_ids", "labels", "length", "long_view"}
