"""A teacher's lists of items, one per request, in a parquet file. They are made once and found again by their fingerprint.

The columns say where each list comes from: ``session`` and ``asked`` are rows of the sessions table (the user and moment, and the query, of
the request), ``items`` rows of the items table, ``scores`` logarithms of masses. The file's metadata names the teacher and its settings.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from onesearch.files import atomic_file
from onesearch.parquet_files import read_given_table, read_own_table, write_table
from onesearch.tokenization_sid.ragged import Ragged, offsets_of

from .best_items import BestItems, Teacher

logger = logging.getLogger(__name__)

FORMAT = "onesearch-teacher-lists"
"""Format in the metadata of the file."""

SCORED_AT_ONCE = 128
"""Requests that a teacher scores together."""

NO_LIST = -1
"""In place of the number of a list, for an example without one."""


@dataclass(frozen=True, eq=False)
class TeacherLists:
    """Lists of n requests.

    Args:
        sessions: rows of the sessions whose users and moments the requests have, ``(n,)``.
        asked: rows of the sessions whose queries they ask, ``(n,)``; another one than its own makes a request that nobody made.
        items: rows of the items of each list, best first, n rows.
        scores: logarithm of the mass of each item, which need not be normalised, n rows.
    """

    sessions: np.ndarray
    asked: np.ndarray
    items: Ragged
    scores: Ragged

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def observed(self) -> np.ndarray:
        """Whether somebody made each request, ``(n,)``."""
        return self.sessions == self.asked

    def number_of(self, sessions: int) -> np.ndarray:
        """Number of the list of each session's own request, `NO_LIST` without one, ``(sessions,)``."""
        found = np.full(sessions, NO_LIST, dtype=np.int64)
        own = np.flatnonzero(self.observed & (self.items.lengths > 0))
        found[self.sessions[own]] = own
        return found

    def masses(self, numbers: np.ndarray, temperature: float) -> BestItems:
        """Items and normalised masses of some lists.

        Args:
            numbers: numbers of lists, `NO_LIST` for an empty one, ``(rows,)``.
            temperature: masses are the softmax of the scores divided by it.

        Returns:
            Items ``(rows, longest)``, -1 for padding, and masses, which add up to 1, or to 0 where there is no item.
        """
        there, lists = numbers >= 0, np.maximum(numbers, 0)
        begin, end = self.items.offsets[:-1][lists], self.items.offsets[1:][lists]
        end = np.where(there, end, begin)
        items, scores = (Ragged.of_spans(rows.values, begin, end) for rows in (self.items, self.scores))
        return masses_of(items, scores, temperature)

    def save(self, path: Path, fingerprint: str, provenance: dict[str, Any]) -> None:
        """Write the lists, whole or not at all.

        Args:
            path: parquet file.
            fingerprint: fingerprint of everything that they depend on.
            provenance: teacher and settings, for a reader of the file.
        """
        table = pa.table(
            {
                "session": pa.array(self.sessions.astype(np.int64)),
                "asked": pa.array(self.asked.astype(np.int64)),
                "items": _list_array(self.items, np.int32),
                "scores": _list_array(self.scores, np.float32),
            }
        )
        metadata = {"format": FORMAT, "fingerprint": fingerprint, "provenance": json.dumps(provenance, sort_keys=True)}
        with atomic_file(path) as temporary:
            write_table(table.replace_schema_metadata(metadata), temporary)

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> TeacherLists:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or its fingerprint is another one.
        """
        table = read_own_table(path, FORMAT, fingerprint, "remove the file, and the training makes it anew")
        sessions, asked = (table.column(name).to_numpy() for name in ("session", "asked"))
        return cls(sessions, asked, _ragged(table.column("items")), _ragged(table.column("scores")))

    @classmethod
    def of_teacher(cls, teacher: Teacher, sessions: np.ndarray, asked: np.ndarray) -> TeacherLists:
        """Ask a teacher, some requests at a time; sessions and asked are ``(n,)``."""
        items, scores, lengths = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)], [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(sessions), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            found = teacher(sessions[part], asked[part])
            there = found.items >= 0
            items.append(found.items[there])
            scores.append(found.scores[there])
            lengths.append(there.sum(1))
        offsets = offsets_of(np.concatenate(lengths))
        return cls(sessions, asked, Ragged(np.concatenate(items), offsets), Ragged(np.concatenate(scores), offsets))


def masses_of(items: Ragged, scores: Ragged, temperature: float) -> BestItems:
    """Items and normalised masses of lists of items and scores; see `TeacherLists.masses`."""
    padded = items.padded(-1)
    logs = np.where(padded >= 0, scores.padded(0) / temperature, -np.inf)
    highest = logs.max(1, keepdims=True)
    shares = np.exp(logs - np.where(np.isfinite(highest), highest, 0.0))
    return BestItems(padded, (shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)).astype(np.float32))


def given_lists(path: str, session_ids: Sequence[str], item_ids: Sequence[str], most: int) -> TeacherLists:
    """Lists that another program made; see `SoftTargetConfig.file`. Items and sessions that the market lacks are passed over.

    Args:
        path: parquet file.
        session_ids: id of each session of the market.
        item_ids: id of each item of the market.
        most: number of items of a list that are kept, those with the highest scores.

    Raises:
        ValueError: the file is damaged, lacks a column, has a score that is no finite number, or knows no session of the market.
    """
    given = read_given_table(path)
    missing = [name for name in ("session_id", "item_ids", "scores") if name not in given.column_names]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}; it needs the columns session_id, item_ids and scores")
    row_of, item_of = ({name: row for row, name in enumerate(names)} for names in (session_ids, item_ids))
    sessions, items, scores = [], [], []
    for session, names, values in zip(*(given.column(name).to_pylist() for name in ("session_id", "item_ids", "scores"))):
        if session not in row_of:
            continue
        if len(names) != len(values) or not np.isfinite(np.array(values, dtype=np.float64)).all():
            raise ValueError(
                f"{path}: session {session!r} has {len(names)} items and the scores {values}; give one finite score per item"
            )
        known = [(item_of[name], value) for name, value in zip(names, values) if name in item_of]
        known.sort(key=lambda pair: -pair[1])
        sessions.append(row_of[session])
        items.append(np.array([item for item, _ in known[:most]], dtype=np.int64))
        scores.append(np.array([value for _, value in known[:most]], dtype=np.float32))
    if not sessions:
        raise ValueError(
            f"{path} has no list of a session of the market; its session_id are {given.column('session_id').to_pylist()[:3]}"
        )
    rows = np.array(sessions, dtype=np.int64)
    offsets = offsets_of(np.array([len(part) for part in items], dtype=np.int64))
    return TeacherLists(rows, rows, Ragged(np.concatenate(items), offsets), Ragged(np.concatenate(scores), offsets))


def _list_array(rows: Ragged, kind: type) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), pa.array(rows.values.astype(kind)))


def _ragged(column: pa.ChunkedArray) -> Ragged:
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return Ragged(array.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]], offsets - offsets[0])


__all__ = ["NO_LIST", "TeacherLists", "given_lists", "masses_of"]
