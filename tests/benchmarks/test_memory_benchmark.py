"""Memory, build time and files of the trie and the item index, each in a fresh process."""

from __future__ import annotations

import numpy as np
import pytest
from catalogues import KINDS
from harness import Report, in_fresh_process, sized

TRIE_SIZES = sized([10**6], [10**5, 10**6, 10**7])
INDEX_SIZES = sized([10**6], [10**6, 10**7])
BEAMS = 512


@pytest.fixture
def codes_file(tmp_path):
    """`codes_file(kind, items, order)` → .npy of int16 codes."""

    def path_of(kind, items, order):
        path = tmp_path / f"{kind}-{items}-{order}.npy"
        if not path.exists():
            codes = KINDS[kind](items)
            np.save(path, codes[np.lexsort(codes.T[::-1])] if order == "sorted" else codes)
        return path

    return path_of


@pytest.mark.slow
def test_trie_memory_and_build(codes_file):
    with Report("trie_memory", "A trie of int16 codes: bytes per item, and building it, CPU, fresh processes") as report:
        for kind in KINDS:
            for items in TRIE_SIZES:
                orders = [("trie", "sorted"), ("trie", "unsorted"), *([("rows", "unsorted")] if kind == "clustered" else [])]
                for way, order in orders:
                    one = in_fresh_process("trie", codes_file(kind, items, order), way, 5 if items < 10**7 else 3)
                    report.add(
                        kind=kind,
                        items=items,
                        sids=one["sids"],
                        built="SidTrie.build" if way == "trie" else "SidTrie.build_with_leaves",
                        codes=order,
                        bytes_per_item=one["nbytes"] / items,
                        millions_per_second=items / one["seconds"] / 1e6,
                        peak_bytes_per_item=one["peak"] / items,
                    )


@pytest.mark.slow
def test_index_build_load_and_serve(codes_file, tmp_path):
    with Report(
        "index_memory", f"An item index: building, its file, and serving {BEAMS} beams from it, fresh processes"
    ) as report:
        for items in INDEX_SIZES:
            path = tmp_path / f"{items}.safetensors"
            built = in_fresh_process("index", codes_file("clustered", items, "unsorted"), path)
            served = in_fresh_process("serve", path, BEAMS)
            report.add(
                items=items,
                build_s=built["seconds"],
                peak_bytes_per_item=built["peak"] / items,
                save_s=built["save"],
                file_bytes_per_item=built["file"] / items,
                load_ms=1000 * served["load"],
                first_search_ms=1000 * served["first"],
                next_search_ms=1000 * served["next"],
                **{name: f"{served[name] / 2**20:.1f} MiB" for name in served if "anonymous" in name or "mapped" in name},
            )
