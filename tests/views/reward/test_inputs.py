"""Inputs of the reward model: the same tensors whether items are gathered or read from the whole catalogue, and bounded histories."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from markets import market_of

from onesearch.data.user_logs import UserLogs
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS, OneSearchRewardConfig
from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.views.reward.facets import item_facets
from onesearch.views.reward.inputs import UNKNOWN_GAP, ItemTable, RewardInputs, event_kinds, gap_buckets
from onesearch.views.reward.memory import BehaviourMemory
from onesearch.views.reward.session_columns import SessionColumns

SESSIONS = [
    ("u", 1, "dress", ["a"], ["a"], ["a", "b"]),
    ("u", 3, "shoe", ["c", "d"], ["d"], ["c", "d"]),
    ("v", 4, "dress", ["b"], [], ["b", "c"]),
    ("u", 9, "dress", ["b"], ["b"], ["b"]),
]


@pytest.fixture(scope="module")
def parts():
    market = market_of(SESSIONS)
    logs, facets = UserLogs(market), item_facets(market.items.data.table)
    memory = BehaviourMemory.of(market, logs, facets.leaf)
    rng = np.random.default_rng(0)
    vectors = rng.random((6, 4)).astype(np.float32)
    table = ItemTable(vectors, rng.integers(0, 3, (6, 2)), facets, np.arange(6))
    queries = rng.random((2, 4)).astype(np.float32)
    columns = SessionColumns(market, logs, memory, ["dress", "shoe"], queries)
    return RewardInputs(table, memory, max_history=2), columns


def test_a_session_sees_its_past(parts):
    _, columns = parts
    found = columns.of(np.array([3]), np.array([[0, 1]]))
    assert (
        found.history.tolist() == [[0, 2, 3]]
        and found.purchased.tolist() == [[0, 3]]
        and found.shown.tolist() == [[0, 1, 2, 3]]
    )
    assert [EVENT_KINDS[kind] for kind in found.kinds] == ["purchased", "clicked", "purchased"]
    assert found.gaps.tolist() == [1 + 3, 1 + 2, 1 + 2] and found.times.tolist() == [9]


def test_the_model_scores_gathered_items_and_the_whole_catalogue_alike(parts):
    inputs, columns = parts
    torch.manual_seed(0)
    config = OneSearchRewardConfig(
        vector_size=4, codebook_sizes=[3, 3], num_facets=len(inputs.table.facets.kind_of), num_ids=5, features=inputs.names,
        hidden_size=8, attention_heads=2,
    )  # fmt: skip
    model = OneSearchRewardModel(config).eval()
    found = columns.of(np.array([1, 2, 3]), np.array([[0, 1, -1], [5, 4, 3], [2, -1, -1]]))
    every = inputs.table.take(np.arange(6))
    names = ("item_vectors", "item_codes", "item_facets", "item_facet_offsets", "item_ids")
    with torch.no_grad():
        states = model.items(*(torch.from_numpy(every[name]) for name in names))
        gathered = model(**inputs.tensors(found)).logits
        whole = model(**inputs.tensors_with_states(found, states)).logits
    torch.testing.assert_close(gathered, whole)
    assert inputs.tensors(found)["history"].shape == (3, 2)  # the two latest of three events


def test_buckets_of_gaps_double():
    assert gap_buckets(np.array([-1, 0, 1, 2, 3, 4, 1023, 1024, 2**40]), 12).tolist() == [
        UNKNOWN_GAP,
        1,
        1,
        2,
        2,
        3,
        10,
        11,
        11,
    ]


def test_what_was_bought_before_is_a_purchase():
    kinds = event_kinds(Ragged.of([[1, 2], [1]]), Ragged.of([[2], [5]]), items=6)
    assert [EVENT_KINDS[kind] for kind in kinds] == ["clicked", "purchased", "clicked"]
