"""What the evaluator asks of a model or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from onesearch.data.requests import Request

Sid = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Answer to one request, best first. The position is the rank: `scores` are reported, never sorted by.

    Args:
        item_ids: without duplicates, at most as many as were asked for.
        scores: one per item, higher is better.
        sids: SID of each item as a generative model produced it; None for an item that came another way. Empty for baselines.
        invalid: beams whose SID belongs to no item of the catalogue; 0 for baselines.
        beams: beams in all, valid and invalid; must be given where `invalid` is not 0.

    Raises:
        ValueError: lengths differ, an item occurs twice, or `invalid` exceeds `beams`.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    sids: tuple[Sid | None, ...] = ()
    invalid: int = 0
    beams: int = 0

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.item_ids):
            raise ValueError(f"ranking with {len(self.item_ids)} items and {len(self.scores)} scores; give one score per item")
        if self.sids and len(self.sids) != len(self.item_ids):
            raise ValueError(f"ranking with {len(self.item_ids)} items and {len(self.sids)} SIDs; give one (or None) per item")
        if len(set(self.item_ids)) != len(self.item_ids):
            twice = next(item for item in self.item_ids if self.item_ids.count(item) > 1)
            raise ValueError(f"item {twice!r} occurs twice in a ranking; keep its best position only")
        if not 0 <= self.invalid <= self.beams:
            raise ValueError(f"ranking with {self.invalid} invalid of {self.beams} beams; count every beam in `beams`")


@runtime_checkable
class Retriever(Protocol):
    """A model or a baseline. `name` names its rows in reports and its run files: letters, digits, ``.``, ``_`` and ``-``."""

    name: str

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank the whole catalogue for each request; one ranking per request, in order, of at most `top_k` items.

        A retriever may read a request's query, user and history. `clicked` and `purchased` are the truth it is measured by.
        """
        ...
