"""Random searches with filters, updates and threads: every hit is the one that scoring all items one by one gives."""

from __future__ import annotations

import pytest
import torch
from random_searches import Searches, search_with
from tiny import tiny_model

from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.kernels_onesearch import AVAILABLE


def check(folder, plain, beside_updates, through_a_model, queries, large, seed):
    """Run searches of each kind; each of them checks all of its hits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        searches = Searches()
        searches.run(seed, plain, folder / SID_INDEX_NAME, queries)
        searches.run_beside_updates(seed, beside_updates, queries)
        search_with(searches, tiny_model, seed, through_a_model, queries, large)
    finally:
        torch.set_num_threads(threads)
    counts = searches.counts
    print(dict(counts))
    assert counts["searches"] >= plain + beside_updates + through_a_model
    assert counts["beside updates"] >= beside_updates and counts["model"] >= through_a_model
    assert min(counts["compiled"], counts["torch"]) > 0.4 * plain or not AVAILABLE
    assert counts["filtered"] > 0.4 * plain and counts["hits"] > counts["searches"] and counts["updates"] > 0
    assert counts["close"] <= 0.001 * counts["searches"]  # decisions that rounding may turn are rare


def test_random_searches_give_the_hits_of_brute_force(tmp_path):
    check(tmp_path, 2_000, 900, 60, queries=8, large=0, seed=0)


@pytest.mark.slow
def test_a_million_random_searches_give_the_hits_of_brute_force(tmp_path):
    check(tmp_path, 1_000_000, 200_000, 50_000, queries=64, large=0.15, seed=1)
