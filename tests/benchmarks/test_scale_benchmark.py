"""Whole searches of ever larger catalogues: the latency should depend on the model and the beam alone."""

from __future__ import annotations

import pytest
from harness import Report, alternate, sized
from models import bart, decoder_rows, prompts

from onesearch import SidIndex

SIZES = sized([10**4, 10**6], [10**4, 10**5, 10**6, 10**7])
CASES = sized([("small", (50,))], [("small", (50, 512)), ("base", (50, 512))])


@pytest.mark.slow
def test_latency_does_not_grow_with_the_catalogue(saved_index):
    with Report(
        "scale", "Whole search of clustered catalogues, CPU seconds, one thread, and decoder rows of each level"
    ) as report:
        indexes = {items: SidIndex.load(saved_index(items)) for items in SIZES}
        for size, beams in CASES:
            model = bart(size)
            for count in beams:
                for normalize in ("children", "level"):
                    measure(report, model, indexes, count, normalize, size)


def measure(report, model, indexes, beams, normalize, size):
    """One row per catalogue, all of them searched in turn; the ratio is to the smallest."""
    search = {**prompts(), "num_beams": beams, "normalize": normalize}

    def searched(index):
        model.set_sid_index(index)
        return model.search_sids(**search)

    timings = alternate({items: lambda index=index: searched(index) for items, index in indexes.items()}, rounds=5, budget=8.0)
    for items, index in indexes.items():
        model.set_sid_index(index)
        report.add(
            size=size,
            beams=beams,
            normalize=normalize,
            items=items,
            seconds=timings[items].cpu,
            ratio=timings[items].cpu / timings[min(indexes)].cpu,
            rows=" ".join(map(str, decoder_rows(model, **search))),
        )
