"""The reward model as plain functions gives the log-odds of its modules, for one request and for many, with and without padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onesearch.modeling_onesearch import reward_functions_onesearch as module
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS, GAP_BUCKETS, OneSearchRewardConfig
from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel
from onesearch.modeling_onesearch.reward_functions_onesearch import RewardFunctions

ITEMS, FEATURES = 40, 7
GROUPS = np.stack([np.arange(ITEMS) % 5 - 1, np.arange(ITEMS) // 10 - 1], axis=1)  # with items that have no group


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    names = [str(number) for number in range(FEATURES)]
    config = OneSearchRewardConfig(
        vector_size=6, codebook_sizes=[4], num_facets=9, num_ids=5, features=names, hidden_size=24, attention_heads=3, recent=3
    )
    model = OneSearchRewardModel(config).eval()
    for parameter in model.parameters():  # also those that begin at zero
        torch.nn.init.normal_(parameter, std=0.15)
    model.feature_mean.normal_()
    model.feature_scale.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def states():
    return torch.randn(ITEMS, 24, generator=torch.Generator().manual_seed(1))


def requests(lengths, counts, seed=0):
    """Requests with histories and candidates of these lengths."""
    draw = np.random.default_rng(seed)

    def padded(sizes):
        rows = draw.integers(0, ITEMS, (len(sizes), max(*sizes, 1)))
        return np.where(np.arange(rows.shape[1]) < np.array(sizes)[:, None], rows, -1)

    history, candidates = padded(lengths), padded(counts)
    return {
        "candidates": candidates,
        "features": draw.normal(0, 4, (*candidates.shape, FEATURES)).astype(np.float32),
        "query_vectors": draw.normal(size=(len(lengths), 6)).astype(np.float32),
        "history": history,
        "kinds": draw.integers(0, len(EVENT_KINDS), history.shape),
        "gaps": draw.integers(0, GAP_BUCKETS, history.shape),
    }


def by_modules(model, states, given):
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    with torch.no_grad():
        return model(**tensors, item_states=states, item_groups=torch.from_numpy(GROUPS)).logits.numpy()


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [([9], [20]), ([9], [1]), ([0], [5]), ([9, 2, 0, 5], [20, 3, 7, 0]), ([4, 4], [6, 6])],
    ids=["one", "one candidate", "no history", "padded", "full"],
)
def test_log_odds_are_those_of_the_modules(model, states, lengths, counts):
    given = requests((*lengths,), (*counts,))
    expected = by_modules(model, states, given)
    found = RewardFunctions(model, states, GROUPS)(given)
    there = given["candidates"] >= 0
    np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=1e-5)
    assert not found[~there].any() and np.ptp(expected[there]) > 0


def test_requests_are_scored_in_parts_of_bounded_size(model, states, monkeypatch):
    given = requests((7, 2, 9), (5, 8, 3))
    whole = RewardFunctions(model, states, GROUPS)(given)
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 1)
    np.testing.assert_allclose(RewardFunctions(model, states, GROUPS)(given), whole, rtol=0, atol=1e-6)


def test_no_candidate_has_no_score(model, states):
    assert RewardFunctions(model, states, GROUPS)(requests((3, 1), (0, 0))).shape == (2, 1, 3)
