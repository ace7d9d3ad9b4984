"""Tasks that `harness.in_fresh_process` runs in a process of their own. The last line printed is a JSON object."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from catalogues import CODEBOOK_SIZES, FINGERPRINT, names

from onesearch import SidIndex, SidTrie


def memory(name: str) -> int:
    """Bytes of this process by the kernel's name for them: VmRSS, VmHWM (its peak), RssAnon, RssFile. `getrusage` would count the
    parent's peak too, which a child inherits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def peak_of(run: Callable[[], object]) -> tuple[object, int]:
    """What `run` returns, and by how many bytes the resident memory rose at most while it ran."""
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    before = memory("VmRSS")
    result = run()
    return result, memory("VmHWM") - before


def cpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def trie(file: str, way: str, rounds: str) -> dict[str, float]:
    """Build a trie of the codes in `file`.

    Args:
        way: ``trie`` for `SidTrie.build`, ``rows`` for `SidTrie.build_with_leaves`, which also maps rows to leaves.
    """
    build = SidTrie.build if way == "trie" else SidTrie.build_with_leaves
    build(np.zeros((1, len(CODEBOOK_SIZES)), dtype=np.int16), CODEBOOK_SIZES)
    codes = np.load(file)
    built, peak = peak_of(lambda: build(codes, CODEBOOK_SIZES))
    table = built if way == "trie" else built[0]
    return {
        "seconds": cpu_seconds(lambda: build(codes, CODEBOOK_SIZES), int(rounds)),
        "peak": peak,
        "nbytes": table.nbytes,
        "sids": len(table),
    }


def index(file: str, path: str) -> dict[str, float]:
    """Build the item index of the codes in `file` and write it to `path`."""
    codes = np.load(file)
    item_ids, popularity = names(len(codes)), np.zeros(len(codes), dtype=np.float32)
    start = time.process_time()
    built, peak = peak_of(lambda: SidIndex.build(item_ids, codes, popularity, CODEBOOK_SIZES, FINGERPRINT))
    build = time.process_time() - start
    return {"seconds": build, "peak": peak, "save": cpu_seconds(lambda: built.save(path), 1), "file": Path(path).stat().st_size}


def serve(path: str, beams: str) -> dict[str, float]:
    """Load the index at `path` and search it with the small model."""
    from models import bart, prompts

    model = bart("small")
    model.set_sid_index(
        SidIndex.build(["item-0"], np.zeros((1, len(CODEBOOK_SIZES))).astype(int), np.zeros(1), CODEBOOK_SIZES, FINGERPRINT)
    )
    search = {**prompts(), "num_beams": int(beams)}
    model.search(**search)
    anonymous, mapped = memory("RssAnon"), memory("RssFile")
    load = cpu_seconds(lambda: model.set_sid_index(SidIndex.load(path)), 5)
    loaded = memory("RssAnon") - anonymous, memory("RssFile") - mapped
    first = cpu_seconds(lambda: model.search(**search), 1)
    searched = memory("RssAnon") - anonymous, memory("RssFile") - mapped
    next_one = cpu_seconds(lambda: model.search(**search), 5)
    values = (load, *loaded, first, *searched, next_one)
    labels = ("load", "loaded_anonymous", "loaded_mapped", "first", "searched_anonymous", "searched_mapped", "next")
    return dict(zip(labels, values))


if __name__ == "__main__":
    torch.set_num_threads(1)
    tasks = {task.__name__: task for task in (trie, index, serve)}
    print(json.dumps(tasks[sys.argv[1]](*sys.argv[2:])))
