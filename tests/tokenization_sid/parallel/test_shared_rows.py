"""Rows that processes make together are those of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onesearch.tokenization_sid.parallel.shared_rows import make_rows


class Process:
    """One of several processes as `make_rows` sees it; what the others sent is known beforehand."""

    device = "cpu"

    def __init__(self, process_index, sent):
        self.process_index, self.num_processes, self.sent, self.own = process_index, len(sent), sent, None

    def gather(self, rows):
        self.own = rows.clone()
        return torch.cat([self.own if rows is None else torch.as_tensor(rows) for rows in self.sent])


@pytest.mark.parametrize("count", [0, 1, 7, 20])
@pytest.mark.parametrize("processes", [2, 3])
def test_every_process_gets_all_rows_in_order(count, processes):
    table = np.arange(2 * count, dtype=np.int32).reshape(-1, 2)
    asked = [[] for _ in range(processes)]

    def taker(process):
        def make(block):
            asked[process].append(block)
            return table[block]

        return make

    sent = [None] * processes
    for process in range(processes):  # first what each sends, then what each makes of it
        sender = Process(process, [None] * processes)
        make_rows(count, 3, taker(process), sender)
        sent[process] = sender.own.numpy()
    for process in range(processes):
        found = make_rows(count, 3, taker(process), Process(process, sent))
        assert found.dtype == np.int32 and np.array_equal(found, table)
    taken = [slice_ for part in asked for slice_ in part if slice_.stop]
    assert len({slice_.start for slice_ in taken}) == -(-count // 3) and len(taken) == 2 * len(
        {slice_.start for slice_ in taken}
    )
    assert np.array_equal(make_rows(count, 3, taker(0)), table)
