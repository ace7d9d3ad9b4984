"""Run by test_index_files_onesearch in a process of its own: damaged and crafted files of an item index.

* `damaged` changes bytes of the files: loading raises a ValueError that names the file, or every result stays the same.
* `unverified` does so without the comparison with the fingerprint: loading raises, or searching ends.
* `crafted` changes entries of tables and gives the file a right fingerprint: loading raises, or searching ends.

Prints the counts of each as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from tiny import random_codes, tiny_index

from onesearch import SidIndex
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME
from onesearch.modeling_onesearch.generation_onesearch import beam_search
from onesearch.modeling_onesearch.tensor_files_onesearch import content_fingerprint, read_tensors

SIZES = (16, 8, 8)
NAMES = (SID_INDEX_NAME, SID_UPDATES_NAME)
FORMATS = ("onesearch-sid-index/2", "onesearch-sid-index-updates/2")


def write(folder):
    """Write an index of 200 items with updates; some SIDs have several items, some updates have SIDs of their own."""
    codes = random_codes(200, SIZES)
    codes[150:] = codes[:50]
    paths = [("shop", f"kind-{row % 7}") for row in range(200)]
    index = tiny_index(codes, SIZES, popularity=np.arange(200) % 9, categories=paths)
    index.save(folder / SID_INDEX_NAME)
    index.add_items([f"new-{row}" for row in range(20)], random_codes(20, SIZES, seed=1), np.arange(20), [("shop", "new")] * 20)
    index.remove_items(["item-3", "item-55", "new-4"])
    index.save_updates(folder / SID_INDEX_NAME)


def results(index):
    """Everything that the index tells, and what beam searches in it find."""
    random = np.random.default_rng(0)
    logits = [torch.from_numpy(random.normal(size=(2, size)).astype(np.float32)) for size in SIZES]

    def step(codes, parents, level):
        return logits[level].repeat_interleave(1 if codes is None else codes.shape[1], 0), None

    found = [
        index.item_ids,
        index.codes.tolist(),
        index.popularity.tolist(),
        index.categories,
        index.codes_of(index.item_ids).tolist(),
    ]
    for item_filter in (None, index.filter(exclude=index.item_ids[::3]), index.filter(categories=["kind-2"])):
        trie = index.trie if item_filter is None else item_filter.trie
        for compiled in (True, False):
            beams = beam_search(step, trie, 2, 40, compiled=compiled)
            found += [
                index.hits(beams.leaves, beams.scores, 50, item_filter=item_filter, rank_by=rule) for rule in ("sid", "item")
            ]
    return found


def changed(content, random):
    """Return the content after one change: a bit, some bytes, an extreme number, an end that is cut off, or a part that is doubled."""
    content, place = bytearray(content), int(random.integers(len(content)))
    match int(random.integers(6)):
        case 0 | 1:
            content[place] ^= 1 << int(random.integers(8))
        case 2:
            content[place : place + 9] = random.bytes(len(content[place : place + 9]))
        case 3:
            width = int(random.choice([2, 4, 8]))
            place -= place % width
            value = random.choice([-1, 0, 1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1))])
            content[place : place + width] = int(value).to_bytes(width, "little", signed=True)[: len(content) - place]
        case 4:
            del content[place:]
        case 5:
            content[place:place] = content[place : place + 16]
    return bytes(content)


def replace(path, content):
    """Write a file anew; the old one stays where it is mapped."""
    path.unlink()
    path.write_bytes(content)


def damaged(folder, count, random):
    """Load and search after a change of the bytes of one of the files."""
    whole = {name: (folder / name).read_bytes() for name in NAMES}
    expected, counts = results(SidIndex.load(folder / SID_INDEX_NAME)), Counter()
    for turn in range(count):
        name = NAMES[turn % 2]
        replace(folder / name, changed(whole[name], random))
        try:
            index = SidIndex.load(folder / SID_INDEX_NAME)
        except ValueError as error:
            counts["refused" if name in str(error) else f"refused without a name: {error}"] += 1
        else:
            counts["same" if results(index) == expected else f"other results after change {turn}"] += 1
        replace(folder / name, whole[name])
    assert results(SidIndex.load(folder / SID_INDEX_NAME)) == expected
    return counts


def unverified(folder, count, random):
    """The same with files that are too large to be compared with their fingerprint."""
    whole, counts = {name: (folder / name).read_bytes() for name in NAMES}, Counter()
    for turn in range(count):
        name = NAMES[turn % 2]
        replace(folder / name, changed(whole[name], random))
        try:
            results(SidIndex.load(folder / SID_INDEX_NAME, verify=False))
        except (ValueError, KeyError) as error:  # a KeyError of an item whose name has changed
            counts["KeyError" if isinstance(error, KeyError) else "ValueError"] += 1
        else:
            counts["searched"] += 1
        replace(folder / name, whole[name])
    return counts


def crafted(folder, count, random):
    """Load and search files whose tables were changed and whose fingerprints are right."""
    whole, counts = {name: (folder / name).read_bytes() for name in NAMES}, Counter()
    files = {name: read_tensors(folder / name, json_format) for name, json_format in zip(NAMES, FORMATS)}
    for turn in range(count):
        name = NAMES[turn % 2]
        tensors, metadata = {key: value.clone() for key, value in files[name].tensors.items()}, dict(files[name].metadata)
        table = tensors[sorted(tensors)[int(random.integers(len(tensors)))]]
        if not table.numel():
            continue
        limits = [-(2**31), 2**31 - 1] if not table.is_floating_point() else [float("nan"), float("inf")]
        if table.dtype in (torch.int16, torch.uint8):
            limits = [-1, 255] if table.dtype == torch.int16 else [0, 255]
        value = random.choice([*limits, 0, 1, 2, int(random.integers(200))])
        table.view(-1)[int(random.integers(table.numel()))] = float(value) if table.is_floating_point() else int(value)
        keys = ("codebook_sizes", "fingerprint") if name == SID_INDEX_NAME else ("base", "revision")
        own = "build" if name == SID_INDEX_NAME else "content"
        metadata[own] = content_fingerprint(tensors, [metadata[key] for key in keys])
        if name == SID_INDEX_NAME:  # its updates belong to it
            updates = dict(files[SID_UPDATES_NAME].metadata, base=metadata[own])
            updates["content"] = content_fingerprint(files[SID_UPDATES_NAME].tensors, (updates["base"], updates["revision"]))
            replace(folder / SID_UPDATES_NAME, save(dict(files[SID_UPDATES_NAME].tensors), updates))
        replace(folder / name, save(tensors, metadata))
        try:
            results(SidIndex.load(folder / SID_INDEX_NAME))
        except (ValueError, KeyError) as error:
            counts["KeyError" if isinstance(error, KeyError) else "ValueError"] += 1
        else:
            counts["searched"] += 1
        for each in NAMES:
            replace(folder / each, whole[each])
    return counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    amounts, seed = dict(zip(("damaged", "unverified", "crafted"), map(int, sys.argv[1:4]))), int(sys.argv[4])
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        counts = {kind: globals()[kind](Path(place), amount, np.random.default_rng(seed)) for kind, amount in amounts.items()}
    print(json.dumps(counts))
