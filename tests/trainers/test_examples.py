"""Training examples of the tiny market: what a prompt may hold, and which item is its target."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from onesearch.data.requests import build_requests, split_sessions
from onesearch.data.text import item_texts
from onesearch.trainers.examples import item_text_examples, request_examples


@pytest.fixture(scope="module")
def index(shared_searcher):
    return shared_searcher.model.sid_index


@pytest.fixture(scope="module")
def tokenizer(shared_searcher):
    return shared_searcher.tokenizer


def sids_in(prompt, tokenizer):
    """SIDs of the history in a prompt, oldest first."""
    ids = [token for token in prompt if token >= tokenizer.sid_offset]
    return [tuple(sid) for sid in tokenizer.ids_to_sids(ids).tolist()] if ids else []


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_prompt_holds_its_target_s_session_or_anything_later(market, index, tokenizer, split):
    """Checked against the raw table: the history in a prompt is the tail of what the user did strictly before."""
    requests = build_requests(market, split)
    examples = request_examples(requests, index, tokenizer)
    sessions = {row["session_id"]: row for row in market.sessions}
    of_user = defaultdict(list)
    for row in market.sessions:
        of_user[row["user_id"]].append(row)
    number = 0
    for request in requests:
        session = sessions[request.session_id]
        before = [row for row in of_user[request.user_id] if row["time"] < session["time"]]
        events = [
            item for row in before for item in [*(c for c in row["clicked"] if c not in row["purchased"]), *row["purchased"]]
        ]
        expected = [index.sid_of(item) for item in events[-5:]]
        for target in dict.fromkeys((*session["purchased"], *session["clicked"])):
            example = examples[number]
            assert sids_in(example["input_ids"], tokenizer) == expected
            assert tuple(tokenizer.ids_to_sids([example["labels"]])[0].tolist()) == index.sid_of(target)
            number += 1
    assert number == len(examples) > 0


def test_training_examples_come_from_training_sessions_alone(market):
    assigned = split_sessions(market)
    ids = [row for row, part in zip(market.sessions["session_id"], assigned) if part == 0]
    assert {request.session_id for request in build_requests(market, "train")} <= set(ids)


def test_prompts_start_with_the_query_and_lengths_are_right(market, index, tokenizer):
    requests = build_requests(market, "train")[:50]
    examples = request_examples(requests, index, tokenizer, clicks=False)
    queries = [request.query for request in requests for _ in dict.fromkeys(request.purchased)]
    assert len(queries) == len(examples)
    for query, example in zip(queries, examples):
        head = tokenizer.encode_prompts([query])[0]
        assert example["input_ids"][: len(head)] == head
        assert example["length"] == len(example["input_ids"])


def test_clicks_can_be_left_out(market, index, tokenizer):
    requests = build_requests(market, "train")
    bought = sum(len(set(request.purchased)) for request in requests)
    touched = sum(len({*request.purchased, *request.clicked}) for request in requests)
    assert len(request_examples(requests, index, tokenizer, clicks=False)) == bought < touched
    assert len(request_examples(requests, index, tokenizer)) == touched


def test_no_requests_give_no_examples(index, tokenizer):
    assert len(request_examples([], index, tokenizer)) == 0


def test_item_texts_point_to_their_own_sid(market, index, tokenizer):
    examples = item_text_examples(market, index, tokenizer)
    assert tokenizer.ids_to_sids(examples["labels"]).tolist() == index.codes_of(market.items["item_id"]).tolist()
    assert examples["input_ids"][:] == tokenizer.encode_prompts(item_texts(market), name="item-text/1")


def test_drawn_words_are_some_of_the_text_in_order_and_seeded(market, index, tokenizer):
    few, again, other = (
        item_text_examples(market, index, tokenizer, words=3, copies=2, seed=seed)["input_ids"][:] for seed in (0, 0, 1)
    )
    assert few == again != other and len(few) == 2 * len(market.items)
    for prompt, text in zip(few, item_texts(market) * 2):
        words = tokenizer.decode(prompt, skip_special_tokens=True).split()
        places = iter(text.lower().split())
        assert 1 <= len(words) <= 3 and all(word in places for word in words)  # a subsequence
    assert np.ptp([len(prompt) for prompt in few]) > 0
