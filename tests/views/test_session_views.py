"""Views of whole tables: no prompt sees its target or anything later, and search makes the same prompts of single requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import BASE, SESSIONS, before, market_of, touched
from tiny import tiny_index

from onesearch.data.requests import build_requests, request_rows
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.sids.sid_encoder import Encoded
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.tokenization_sid.user_ids import user_signatures
from onesearch.views.history_table import HistoryTable
from onesearch.views.request_views import RequestViews
from onesearch.views.reward.facets import item_facets
from onesearch.views.reward.inputs import ItemTable
from onesearch.views.reward.item_files import KnownItems
from onesearch.views.session_views import LongViewTable, SessionViews, ViewTensors

CODEBOOK_SIZES = (3, 2, 2)
ITEM_IDS = list("abcdef")
CODES = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 1], [2, 1, 0], [2, 0, 1]])
SID_OF = dict(zip(ITEM_IDS, CODES.tolist()))
QUERIES = ["dress", "shoe"]
QUERY_SIDS = np.array([[0, 0, 1], [1, 1, 0]])
INDEX = tiny_index(CODES, CODEBOOK_SIZES, ITEM_IDS)
LAYOUT = PromptLayout(long_view_sequences=("clicked", "purchased", "shown"), items=3, queries=2, long_items=4)


class Encoder:
    """SIDs of the two queries."""

    def encode(self, texts):
        codes = QUERY_SIDS[[QUERIES.index(text) for text in texts]]
        return Encoded(codes, np.ones(len(texts), dtype=bool), np.zeros((len(texts), 2), dtype=np.float16))


def views_of(sessions, layout=LAYOUT, split=None):
    return SessionViews(market_of(sessions, split), INDEX, layout, QUERIES, QUERY_SIDS)


def counted(sessions, row):
    """The default history before a session, by going through all sessions: clicks of the query, its SID, its category, all."""
    earlier = [session for session in sessions if session[1] < sessions[row][1]]
    query = sessions[row][2]
    same = [session for session in earlier if session[2] == query and session[3]]
    if not same:  # the other query shares no code; next the category of the items below the query's first code
        word = {"dress": "ab", "shoe": "cd"}[query]
        same = [(*s[:3], [item for item in s[3] if item in word], s[4], s[5]) for s in earlier]
        by_category = [s for s in same if s[3]]
        same = by_category or [s for s in earlier if s[3]]
        count_views = not by_category
    else:
        count_views = True
    clicks, seen = {}, {}
    for session in same:
        for item in session[3]:
            clicks[item] = clicks.get(item, 0) + 1
    for session in earlier if not [s for s in earlier if s[2] == query and s[3]] else [s for s in earlier if s[2] == query]:
        for item in session[5] if count_views else ():
            seen[item] = seen.get(item, 0) + 1
    best = sorted(clicks, key=lambda item: (-clicks[item], item))[:10]
    return sorted(best, key=lambda item: (seen.get(item, 0), clicks[item], -ITEM_IDS.index(item)))


@settings(max_examples=150)
@given(sessions=SESSIONS)
def test_no_view_sees_its_session_or_anything_later(sessions):
    views = views_of(sessions)
    rows = request_rows(views.market, "train")
    fields = views.fields(rows)
    for place, row in enumerate(rows.tolist()):
        earlier = before(sessions, row)
        own = touched(earlier)
        # A user without history gets what clicks on the query were worth strictly before; clicks of bought items count too.
        clicked_before = [(*s[:3], [*s[3], *(b for b in s[4] if b not in s[3])], s[4], s[5]) for s in sessions]
        history = own or counted(clicked_before, row)
        assert fields.items[place].tolist() == [SID_OF[item] for item in history[-3:]]
        short, long = (Ragged.of([[SID_OF[item] for item in history[-most:]]], (3,)) for most in (3, 4))
        assert fields.users[place].tolist() == [user_signatures(part, CODEBOOK_SIZES)[0].tolist() for part in (short, long)]
        assert fields.queries[place] == [session[2] for session in earlier if session[2].strip()][-2:]
        assert fields.texts[place] == sessions[row][2]
        assert fields.sids[place].tolist() == QUERY_SIDS[QUERIES.index(sessions[row][2])].tolist()


LAYOUTS = (LAYOUT, replace(LAYOUT, user=False, items=2), replace(LAYOUT, items=3, long_items=1), replace(LAYOUT, items=0))
TOKENIZERS = {
    layout: SidTokenizer.train(["dress shoe f 25"], CODEBOOK_SIZES, vocab_size=300, prompt=layout) for layout in LAYOUTS
}


@settings(max_examples=100)
@given(sessions=SESSIONS, layout=st.sampled_from(LAYOUTS))
def test_search_makes_the_prompts_that_training_made(sessions, layout):
    split = {"method": "time", "validation": 0.1, "test": 0.4}
    views = views_of(sessions, layout, split)
    rows = request_rows(views.market, "test")
    requests = build_requests(views.market, "test")
    if not requests:
        return
    tokenizer = TOKENIZERS[layout]
    serving = RequestViews(INDEX, tokenizer, Encoder(), views.frozen_defaults())
    trained, served = tokenizer.encode_fields(views.fields(rows)), tokenizer.encode_fields(serving.fields(requests))
    last_training = max((s[1] for s, part in zip(sessions, _assigned(views.market)) if part == 0), default=-1)
    for place, row in enumerate(rows.tolist()):
        if touched(before(sessions, row)) or sessions[row][1] > last_training:  # at the same time, search knows of more clicks
            assert trained[place].tolist() == served[place].tolist()
    table = LongViewTable(views, 2)
    spans = views.long_spans(rows)
    codes = table([{"long_view": one.ravel()} for one in spans])
    assert codes.tolist() == serving.long_view_codes(requests, 2).tolist()


VECTORS = tuple(
    replace(LAYOUT, item_form="vector", items=4, user=False, **changes)
    for changes in (
        {"item_summaries": ("category", "brand")},
        {"item_events": ("purchased",), "item_inputs": ("facets", "kind"), "default_history": False},
        {"item_events": ("clicked",), "item_inputs": ("text", "age"), "sid": False, "long_view_tokens": 0},
    )
)
VECTOR_TOKENIZERS = [SidTokenizer.train(["dress shoe"], CODEBOOK_SIZES, vocab_size=300, prompt=layout) for layout in VECTORS]


def table_of(layout):
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    known = KnownItems(ITEM_IDS, ItemTable(vectors, CODES, item_facets(BASE.items.data.table), np.arange(6)))
    return HistoryTable(known, layout)


@settings(max_examples=100)
@given(sessions=SESSIONS, number=st.sampled_from(range(len(VECTORS))))
def test_search_makes_the_histories_that_training_made(sessions, number):
    layout, tokenizer = VECTORS[number], VECTOR_TOKENIZERS[number]
    views = views_of(sessions, layout, {"method": "time", "validation": 0.1, "test": 0.4})
    views.history_table = table_of(layout)
    rows, requests = request_rows(views.market, "test"), build_requests(views.market, "test")
    if not requests:
        return
    events = views.history_events(rows)
    for place, row in enumerate(rows.tolist()):
        kinds = [kind for kind in ("clicked", "purchased") if kind in layout.item_events]
        own = (
            touched(before(sessions, row))
            if len(kinds) > 1
            else [i for s in before(sessions, row) for i in s[3 if kinds == ["clicked"] else 4]]
        )
        if own:
            assert [ITEM_IDS[item] for item in events[place][:, 0]] == own[-4:]
            bought = {item for session in before(sessions, row) for item in session[4]}
            assert events[place][:, 1].tolist() == [2 if item in bought else 0 for item in own[-4:]]
    serving = RequestViews(INDEX, tokenizer, Encoder(), views.frozen_defaults(), table_of(layout))
    trained, served = tokenizer.encode_fields(views.fields(rows)), tokenizer.encode_fields(serving.fields(requests))
    made = ViewTensors(views)([{"history": events[place].ravel()} for place in range(len(rows))])
    found = serving.tensors(requests)
    last_training = max((s[1] for s, part in zip(sessions, _assigned(views.market)) if part == 0), default=-1)
    for place, row in enumerate(rows.tolist()):
        is_cold = views.history_log.begin[row] == views.history_log.end[row]
        if is_cold and sessions[row][1] <= last_training:  # at the same time, search knows of more clicks
            continue
        assert trained[place].tolist() == served[place].tolist()
        assert (np.array(served[place]) == tokenizer.history_token_id).sum() == (found["history_items"][place, :, 0] >= 0).sum()
        length = int((made["history_items"][place, :, 0] >= 0).sum())
        ours, theirs = (own["history_items"][place, :length].copy() for own in (made, found))
        ours[:, 4], theirs[:, 4] = 0, 0  # ages are known in training alone
        assert ours.tolist() == theirs.tolist()
        if "text" in layout.item_inputs:
            assert np.array_equal(made["history_vectors"][place, :length], found["history_vectors"][place, :length])


def test_ages_are_hidden_in_half_of_the_sessions_and_measured_in_the_others():
    sessions = [("u", time, "dress", ["a"], [], []) for time in range(200)]
    views = views_of(sessions, VECTORS[0])
    gaps = [
        events[:, 2].tolist() for events in (views.history_events(np.arange(200))[row] for row in range(200)) if len(events) > 3
    ]
    known = [own for own in gaps if any(own)]
    assert all(own == [3, 2, 2, 1] for own in known)  # 4, 3, 2 and 1 units of time ago
    assert 0.35 < len(known) / len(gaps) < 0.65


def _assigned(market):
    from onesearch.data.requests import split_sessions

    return split_sessions(market).tolist()


def test_behaviour_is_looked_up_and_padded():
    views = views_of(
        [("u", 0, "dress", ["a", "c"], ["c"], ["a", "b", "c"]), ("u", 1, "shoe", ["d"], []), ("v", 2, "dress", ["e"], [])]
    )
    codes = LongViewTable(views, 2)([{"long_view": one.ravel()} for one in views.long_spans(np.array([1, 2]))])
    none = [-1, -1]
    assert codes.shape == (2, 3, 3, 2)
    assert codes[0].tolist() == [[[0, 0], [1, 0], none], [[1, 0], none, none], [[0, 0], [0, 0], [1, 0]]]
    assert (codes[1] == -1).all()


def test_views_can_be_left_out():
    layout = replace(LAYOUT, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)
    views = SessionViews(market_of([("u", 0, "dress", ["a"], [])]), INDEX, layout)
    fields = views.fields(np.array([0]))
    assert (fields.sids, fields.users, fields.queries, fields.profiles) == (None,) * 4
    assert not len(fields.items[0]) and views.long_spans(np.array([0])).shape == (1, 0, 2)


def test_a_layout_that_needs_query_sids_says_so():
    with pytest.raises(ValueError, match="needs the SIDs of queries"):
        SessionViews(market_of([]), INDEX, LAYOUT)
    tokenizer = SidTokenizer.train(["dress"], CODEBOOK_SIZES, vocab_size=300, prompt=LAYOUT)
    with pytest.raises(ValueError, match="need query_encoder and defaults"):
        RequestViews(INDEX, tokenizer)
