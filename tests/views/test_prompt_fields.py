"""The one implementation of prompt fields, and that training and serving both use it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from markets import market_of
from tiny import tiny_index

from onesearch.data.requests import build_requests, request_rows
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.sids.sid_encoder import Encoded
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.tokenization_sid.user_ids import user_signatures
from onesearch.views import request_views, session_views
from onesearch.views.prompt_fields import RequestColumns, history_length, long_view_codes, prompt_fields

CODEBOOK_SIZES = (3, 2)
LAYOUT = PromptLayout(items=2, queries=2, long_items=3, query_vector=True)
OWN = [[0, 0], [1, 1], [2, 0], [2, 1]]
COLUMNS = RequestColumns(
    queries=["red shoe", "hat"],
    query_sids=np.array([[1, 0], [-1, -1]]),
    histories=Ragged.of([OWN, []], (2,)),
    default_histories=Ragged.of([[[0, 1]], [[1, 0], [1, 1], [2, 1]]], (2,)),
    earlier_queries=[["blue"], []],
    profiles=[("f",), ()],
    query_vectors=np.array([[0.6, 0.8], [0.0, 0.0]]),
)


def test_each_view_has_its_most_recent_entries():
    found = prompt_fields(COLUMNS, LAYOUT, CODEBOOK_SIZES)
    assert found.items.tolist() == [OWN[-2:], [[1, 1], [2, 1]]]  # the second user has no history: the default one
    short, long = (Ragged.of([OWN[-most:], [[1, 0], [1, 1], [2, 1]][-most:]], (2,)) for most in (2, 3))
    assert found.users.tolist() == np.stack([user_signatures(part, CODEBOOK_SIZES) for part in (short, long)], 1).tolist()
    assert (found.texts, found.queries, found.profiles) == (COLUMNS.queries, COLUMNS.earlier_queries, COLUMNS.profiles)
    assert found.sids is COLUMNS.query_sids and found.vectors is COLUMNS.query_vectors and len(found) == 2


@pytest.mark.parametrize(
    ("view", "field"),
    [("sid", "sids"), ("query_vector", "vectors"), ("user", "users"), ("queries", "queries"), ("profile", "profiles")],
)
def test_a_view_that_the_layout_lacks_has_no_field(view, field):
    found = prompt_fields(COLUMNS, replace(LAYOUT, **{view: 0}), CODEBOOK_SIZES)
    assert getattr(found, field) is None
    others = {"sids", "users", "queries", "profiles"} - {field}
    assert all(getattr(found, other) is not None for other in others)


def test_a_history_is_read_as_far_as_the_fields_need_it():
    assert history_length(LAYOUT) == 3 and history_length(replace(LAYOUT, user=False)) == 2
    assert history_length(replace(LAYOUT, items=0, long_items=0)) == 1  # a signature of the most recent item
    assert history_length(replace(LAYOUT, items=0, user=False)) == 0


def test_long_sequences_are_padded_per_prompt():
    sequences = Ragged.of([[[1, 1]], [], [[0, 0], [2, 1]], [[1, 0]]], (2,))
    none = [-1, -1]
    assert long_view_codes(sequences, 2).tolist() == [[[[1, 1], none], [none, none]], [[[0, 0], [2, 1]], [[1, 0], none]]]
    assert long_view_codes(Ragged.of([], (2,)), 0).shape == (0, 0, 1, 2)


def test_training_and_serving_supply_the_same_columns_to_one_function(monkeypatch):
    supplied = []

    def recorded(columns, layout, codebook_sizes):
        supplied.append(columns)
        return prompt_fields(columns, layout, codebook_sizes)

    for module in (session_views, request_views):
        assert module.prompt_fields is prompt_fields and module.long_view_codes is long_view_codes
        monkeypatch.setattr(module, "prompt_fields", recorded)
    sessions = [("u", 0, "dress", ["a", "b"], ["b"]), ("v", 1, "shoe", ["c"], []), ("u", 2, "shoe", ["d"], [])]
    sessions += [("w", 3, "dress", ["a"], []), ("u", 4, "dress", ["e"], ["f"])]
    market = market_of(sessions, {"method": "time", "validation": 0.1, "test": 0.4})
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]])
    index = tiny_index(codes, CODEBOOK_SIZES, list("abcdef"))
    sids = np.array([[0, 1], [1, 0]])
    training = session_views.SessionViews(market, index, LAYOUT, ["dress", "shoe"], sids)

    training.query_vectors = np.array([[1, 0], [0.6, 0.8]], dtype=np.float16)[
        [["dress", "shoe"].index(own) for own in training.logs.queries]
    ]

    class Encoder:
        """SIDs and vectors of the two queries."""

        def encode(self, texts):
            codes = sids[[["dress", "shoe"].index(text) for text in texts]]
            return Encoded(codes, np.ones(len(texts), dtype=bool), self.vectors(texts))

        def vectors(self, texts):
            return np.array([[1, 0], [0.6, 0.8]], dtype=np.float16)[[["dress", "shoe"].index(text) for text in texts]]

    tokenizer = SidTokenizer.train(["dress shoe"], CODEBOOK_SIZES, vocab_size=300, prompt=LAYOUT)
    serving = request_views.RequestViews(index, tokenizer, Encoder(), training.frozen_defaults())
    training.fields(request_rows(market, "test"))
    serving.fields(build_requests(market, "test"))
    assert len(supplied) == 2 and len(supplied[0].queries) == 2
    for field in fields(RequestColumns):
        trained, served = (getattr(columns, field.name) for columns in supplied)
        trained, served = (np.asarray(one).tolist() if isinstance(one, np.ndarray) else one for one in (trained, served))
        if isinstance(trained, Ragged):
            trained, served = trained.tolist(), served.tolist()
        assert list(trained) == list(served), field.name
