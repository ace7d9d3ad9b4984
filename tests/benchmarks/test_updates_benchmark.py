"""Additions to and removals from a large index, and what they cost the searches after them."""

from __future__ import annotations

import copy

import pytest
from catalogues import clustered, names
from harness import Report, alternate, sized
from models import bart, prompts

from onesearch import SidIndex
from onesearch.modeling_onesearch.catalogue_onesearch import SID_UPDATES_NAME

SIZES = sized([10**6], [10**6, 10**7])
CHANGED = 1_000


@pytest.mark.slow
def test_updates(saved_index):
    with Report("updates", f"{CHANGED:,} items added or removed, CPU and wall milliseconds") as report:
        for items in SIZES:
            path = saved_index(items)
            loaded = SidIndex.load(path)
            new = names(CHANGED, first=items)
            codes = clustered(CHANGED, seed=1)
            old = names(items)[:: items // CHANGED]
            loaded.rows_of(old)  # the pages of the tables are in memory then
            for name, timing in timed(loaded, path, new, codes, old).items():
                report.add(items=items, what=name, cpu_ms=1000 * timing.cpu, wall_ms=1000 * timing.wall, runs=timing.runs)
            path.with_name(SID_UPDATES_NAME).unlink()


def timed(loaded, path, new, codes, old):
    """Each update on an index that was just loaded; the last one written is read again."""
    index = None

    def start_anew():
        nonlocal index
        path.with_name(SID_UPDATES_NAME).unlink(missing_ok=True)
        index = copy.deepcopy(loaded)

    def change(add, remove, save):
        if add:
            index.add_items(new, codes)
        if remove:
            index.remove_items(old)
        if save:
            index.save_updates(path)

    sides = {
        "add": lambda: change(True, False, False),
        "remove": lambda: change(False, True, False),
        "add and save": lambda: change(True, False, True),
        "remove and save": lambda: change(False, True, True),
        "add, remove and save": lambda: change(True, True, True),
    }
    timings = alternate(sides, rounds=7, before=start_anew)
    again = SidIndex.load(path)
    assert len(again) == len(loaded) + len(new) - len(old)
    assert (again.codes_of(new) == codes).all()
    with pytest.raises(KeyError):
        again.rows_of(old)
    timings |= alternate({"load with these updates": lambda: SidIndex.load(path)})
    return timings


@pytest.mark.slow
def test_search_after_updates(saved_index):
    model = bart("small")
    with Report(
        "search_after_updates", f"Search of an index with {CHANGED:,} changes, small model, CPU milliseconds"
    ) as report:
        for items in SIZES:
            loaded = SidIndex.load(saved_index(items))
            indexes = {name: copy.deepcopy(loaded) for name in ("none", "added", "removed", "both")}
            old = names(items)[:: items // CHANGED]
            for name in ("added", "both"):
                indexes[name].add_items(names(CHANGED, first=items), clustered(CHANGED, seed=1))
            for name in ("removed", "both"):
                indexes[name].remove_items(old)
            for beams in sized((50,), (50, 512)):
                timings = alternate(
                    {name: lambda index=index, beams=beams: searched(model, index, beams) for name, index in indexes.items()}, 9
                )
                base = timings["none"].cpu
                for name, timing in timings.items():
                    report.add(items=items, beams=beams, changes=name, ms=1000 * timing.cpu, ratio=timing.cpu / base)


def searched(model, index, beams):
    model.set_sid_index(index)
    return model.search(**prompts(), num_beams=beams)
