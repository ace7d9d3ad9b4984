"""Run by test_index_files_onesearch in a process of its own: two writers and three readers of one item index for some seconds.

Each writer adds items of its own, one after another, and removes the one before the last, so at any time its newest items are there.
Most changes are written as updates, every tenth as a whole index. Prints the counts as JSON; raises if anything is lost or comes back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from onesearch import SidIndex

SIZES = (16, 16)


def update(path, writer, turn):
    """Add item `turn` of a writer and remove the one before the last; load the index again whenever another writer was faster."""
    refused = 0
    while True:
        index = SidIndex.load(path)
        index.add_items([f"{writer}-{turn}"], np.array([[turn % 16, turn // 16 % 16]]))
        if turn >= 2:
            index.remove_items([f"{writer}-{turn - 2}"])
        try:
            if turn % 10 == 9:
                index.save(path)
            else:
                index.save_updates(path)
            return refused
        except ValueError as error:
            if "repeat the update" not in str(error):
                raise
            refused += 1


def write(path, writer, until):
    turn = refused = 0
    while time.monotonic() < until:
        refused += update(path, writer, turn)
        turn += 1
    return {"writer": writer, "updates": turn, "refused": refused}


def newest(item_ids, writer):
    """Numbers of the items of a writer."""
    return [int(item_id.split("-")[1]) for item_id in item_ids if item_id.startswith(writer)]


def read(path, until):
    """Load time and again: the items of a writer are its newest, and those that were removed do not come back."""
    loads, last = 0, {"a": -1, "b": -1}
    while time.monotonic() < until:
        item_ids = SidIndex.load(path).item_ids
        for writer, before in last.items():
            numbers = newest(item_ids, writer)
            assert numbers == list(range(numbers[0], numbers[-1] + 1))[-2:] if numbers else before < 0, (numbers, before)
            last[writer] = max(numbers, default=-1)
            assert last[writer] >= before, (numbers, before)
        assert "item-0" in item_ids
        loads += 1
    return {"loads": loads}


def main(path, seconds):
    SidIndex.build(
        [f"item-{row}" for row in range(500)], np.random.default_rng(0).integers(0, 16, (500, 2)), np.zeros(500), SIZES, "f"
    ).save(path)
    until = time.monotonic() + seconds
    tasks = [lambda: write(path, "a", until), lambda: write(path, "b", until), *[lambda: read(path, until)] * 3]
    children = []
    for task in tasks:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.write(writer, json.dumps(task()).encode())
            os._exit(0)
        os.close(writer)
        children.append((child, reader))
    found = []
    for child, reader in children:
        found.append(json.loads(os.read(reader, 1000) or b"null"))
        assert os.waitpid(child, 0)[1] == 0
    item_ids = SidIndex.load(path).item_ids
    for result in found[:2]:
        assert newest(item_ids, result["writer"]) == [result["updates"] - 2, result["updates"] - 1]
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
