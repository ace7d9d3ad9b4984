"""Search without the trie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny import random_codes, random_prompts, tiny_model

from onesearch.serving.validity import valid_share

SIZES = (4, 3, 2)


def test_without_a_trie_the_beam_finds_the_most_likely_of_all_sequences():
    """With as many beams as there are sequences, all of them in the order of their probability under the levels' softmax."""
    model = tiny_model(SIZES, random_codes(5, SIZES))
    every = np.array(list(itertools.product(*map(range, SIZES))))
    whole = tiny_model(SIZES, every)  # the same weights, with every sequence in its catalogue
    prompts = random_prompts(3)
    codes, scores = model.free_sids(*prompts, num_beams=len(every))
    expected, expected_scores = whole.search_sids(*prompts, num_beams=len(every), normalize="level")
    assert torch.equal(codes, expected)
    torch.testing.assert_close(scores, expected_scores, atol=1e-5, rtol=1e-5)
    few, _ = model.free_sids(*prompts, num_beams=2)
    assert few.shape == (3, 2, 3)


def test_the_share_of_valid_sids(shared_searcher, market):
    from onesearch.data.requests import build_requests

    requests = build_requests(market, "test")[:5]
    share = valid_share(shared_searcher, requests, num_beams=20)
    inputs = shared_searcher.model_inputs(requests)
    codes, _ = shared_searcher.model.free_sids(**inputs, num_beams=20)
    existing = set(map(tuple, shared_searcher.index.codes.tolist()))
    assert share == pytest.approx(np.mean([tuple(sid) in existing for row in codes.tolist() for sid in row]))
    with pytest.raises(ValueError, match="no requests"):
        valid_share(shared_searcher, [])
