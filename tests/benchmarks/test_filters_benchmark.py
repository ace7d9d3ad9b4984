"""Searches among the items that pass a filter, and making the filter, against a search among all."""

from __future__ import annotations

import numpy as np
import pytest
from catalogues import names
from harness import Report, alternate, sized
from models import bart, prompts

from onesearch import SidIndex

ITEMS = 10**6
BEAMS = sized((50,), (50, 512))
SHARES = (0.001, 0.01, 0.1, 0.5)


def conditions():
    """Arguments of `SidIndex.filter` by name: random items, which are spread over the whole trie."""
    random = np.random.default_rng(2)
    every = {f"mask of {share:.1%}": {"items": random.random(ITEMS) < share} for share in SHARES}
    every["1,000 ids"] = {"items": names(ITEMS)[:: ITEMS // 1000]}
    every["all but 20 ids"] = {"exclude": names(ITEMS)[:: ITEMS // 20]}
    return every


@pytest.mark.slow
def test_filtered_search(saved_index):
    index = SidIndex.load(saved_index(ITEMS))
    model = bart("small")
    model.set_sid_index(index)
    with Report(
        "filters", f"Filter and search of {ITEMS:,} clustered items, small model, CPU milliseconds, one thread"
    ) as report:
        for beams in BEAMS:
            for name, condition in conditions().items():
                measure(report, model, index, beams, name, condition)


def measure(report, model, index, beams, name, condition):
    """One row: unfiltered search, making the filter and searching with it, in turn."""
    top_k = beams
    search = {**prompts(), "num_beams": beams, "top_k": top_k}
    item_filter = index.filter(**condition)
    timings = alternate(
        {
            "unfiltered": lambda: model.search(**search),
            "filter": lambda: index.filter(**condition),
            "search": lambda: model.search(**search, item_filter=item_filter),
        },
        rounds=9,
    )
    unfiltered, made, filtered = (1000 * timing.cpu for timing in timings.values())
    hits = timings["search"].result[0]
    report.add(
        beams=beams,
        filter=name,
        kept=int(item_filter.mask.sum()),
        unfiltered=unfiltered,
        make=made,
        search=filtered,
        ratio=(made + filtered) / unfiltered,
        hits=len(hits),
    )
    assert len(hits) == top_k
    assert item_filter.mask[index.rows_of([hit.item_id for hit in hits])].all()
