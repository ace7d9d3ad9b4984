"""Lists that the current policy makes anew every few steps: on-policy training.

Preferences over the beams of an old policy have been seen to ruin a generator elsewhere, and fresh beams restored it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from onesearch.files import atomic_file
from onesearch.parquet_files import read_table, write_table

from ...sft.data.rows import ArrowRows

ListMaker = Callable[[Any, np.ndarray], pa.Table]
"""`list_maker(model, numbers)` makes the lists of some rows of the training dataset with a model, one row each, in their order."""


class RefreshedLists(torch.utils.data.Dataset):
    """Rows of a training in the order in which it reads them. A *round* of rows is made when its first row is read.

    The lists of each round are stored in a file. A training that was stopped within a round finds them there, and since the policy that
    made them is the one that the resumed training reaches, it goes on as if it had not been stopped.

    Args:
        prompts: rows of the training dataset to draw from.
        total: number of rows that the training reads.
        per_round: number of rows that are made at once.
        make: makes the lists of rows of `prompts` with the current policy.
        folder: folder of the rounds' files.
        seed: seeds the order of the rows; every pass over `prompts`, and every pass over a round, has another one.
        passes: number of times that the rows of a round are read.
        is_main: whether this process makes the lists; the others read them.
        wait: returns when all processes have called it.
    """

    def __init__(
        self,
        prompts: int,
        total: int,
        per_round: int,
        make: Callable[[np.ndarray], pa.Table],
        folder: Path,
        seed: int,
        passes: int = 1,
        is_main: bool = True,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.prompts, self.total, self.per_round = prompts, total, per_round
        self.make, self.folder, self.seed, self.passes, self.is_main, self.wait = make, folder, seed, passes, is_main, wait
        self._round = -1
        self._rows: ArrowRows | None = None

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            lists = self._of_round(row // self.per_round)
            found.append(lists[self._place(row % self.per_round, len(lists))])
        return found

    def _place(self, row: int, lists: int) -> int:
        """Place in a round's lists of the round's row with a number: the lists in order, then in other orders."""
        number, place = divmod(row, lists)
        return place if not number else int(np.random.default_rng([self.seed, 22, number]).permutation(lists)[place])

    def numbers(self, round_number: int) -> np.ndarray:
        """Rows of the training dataset that a round's lists are made of, in order."""
        own = -(-self.per_round // self.passes)
        rows = min(self.per_round, self.total - round_number * self.per_round)
        places = round_number * own + np.arange(-(-rows // self.passes))
        passes = np.unique(places // self.prompts)
        orders = {
            number: np.random.default_rng([self.seed, 19, number]).permutation(self.prompts) for number in passes.tolist()
        }
        return np.array([orders[place // self.prompts][place % self.prompts] for place in places.tolist()])

    def _of_round(self, number: int) -> ArrowRows:
        if number == self._round and self._rows is not None:
            return self._rows
        path = self.folder / f"{number:05d}.parquet"
        if self.is_main and not path.is_file():
            table = self.make(self.numbers(number))
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as temporary:
                write_table(table, temporary)
        self.wait()
        table = read_table(path, "remove the file, and the training makes it anew")
        self._round, self._rows = number, ArrowRows(Dataset(table))
        return self._rows


__all__ = ["ListMaker", "RefreshedLists"]
