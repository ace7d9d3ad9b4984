"""A report of the lists that a training was made of: how many orders the reward model changed, and why candidates were chosen or
rejected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .lists import LIST_COLUMNS, Preferences


def lists_report(tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Counts over the rows of some tables of lists.

    Returns:
        `requests` and `recombined` (those whose query was asked in another session); `with_lists`, `lists`, `pairs` and `candidates`;
        `chosen_levels` and `rejected_levels`, the number of candidates at each interaction level. For lists of beams also
        `changed` (requests whose order the reward model changed), `new_first` (another candidate is first), and the number of candidates by
        reason: `chosen_promoted`, `chosen_clicked` (clicked or bought, not promoted), `chosen_in_order` (kept its place or fell, and heads
        a list of the whole order), `rejected_demoted`, `rejected_in_order` (the tail, or behind a chosen one).
    """
    counts: dict[str, Any] = dict.fromkeys(("requests", "recombined", "with_lists", "lists", "pairs", "candidates"), 0)
    levels = {"chosen_levels": np.zeros(7, dtype=int), "rejected_levels": np.zeros(7, dtype=int)}
    for table in tables:
        for row in table.to_pylist():
            own = Preferences(*(np.asarray(row[column]) for column in LIST_COLUMNS[1:]))
            pairs = own.pairs
            heads, rejected = np.asarray(pairs.any(1)), np.asarray(pairs.any(0))
            found = {
                "requests": 1,
                "recombined": int(row["session"] != row["query_session"]),
                "with_lists": int(pairs.any()),
                "lists": int(heads.sum()),
                "pairs": int(pairs.sum()),
                "candidates": len(heads),
            }
            if "old_ranks" in row:
                found |= _reasons(np.asarray(row["old_ranks"]), own.ranks, np.asarray(row["levels"]), heads, rejected)
            for name, value in found.items():
                counts[name] = counts.get(name, 0) + value
            for name, marked in (("chosen_levels", heads), ("rejected_levels", rejected)):
                levels[name] += np.bincount(np.asarray(row["levels"], dtype=int)[marked], minlength=7)
    return {**counts, **{name: {level: int(own[level]) for level in range(1, 7)} for name, own in levels.items()}}


def _reasons(old: np.ndarray, new: np.ndarray, levels: np.ndarray, heads: np.ndarray, rejected: np.ndarray) -> dict[str, int]:
    """Counts of a list of beams; `old` and `new` are the candidates' ranks."""
    old = np.argsort(np.argsort(old))
    promoted, demoted, clicked = new < old, new > old, levels <= 3
    return {
        "changed": int((new != old).any()),
        "new_first": int(len(new) > 0 and new[old.argmin()] != 0),
        "chosen_promoted": int((heads & promoted).sum()),
        "chosen_clicked": int((heads & ~promoted & clicked).sum()),
        "chosen_in_order": int((heads & ~promoted & ~clicked).sum()),
        "rejected_demoted": int((rejected & demoted).sum()),
        "rejected_in_order": int((rejected & ~demoted).sum()),
    }


def stored_lists(folder: Path) -> Iterable[pa.Table]:
    """The tables of the rounds that a training stored."""
    return (pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


__all__ = ["lists_report", "stored_lists"]
