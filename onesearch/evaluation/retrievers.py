"""The protocol of models and baselines that the evaluator measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from onesearch.data.requests import Request

Sid = tuple[int, ...]
"""Codes of an item, one per level."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranking of the catalogue for one request, best first. The order of the items is the ranking; nothing is sorted by `scores`.

    Args:
        item_ids: ids of the items, without duplicates.
        scores: score of each item; higher is better.
        sids: SID of each item as a generative model produced it, None for an item that was found in another way. Empty for baselines.
        invalid: number of beams whose SID belongs to no item of the catalogue; 0 for baselines.
        beams: number of all beams, valid and invalid. Needed where `invalid` is not 0.
        beam_sids: SIDs of the beam search, best first, each once: the SID level is measured on them. Where a reward model or the text ranks
            the items, their SIDs come first, in that order. None for baselines, whose SIDs are those of their items.

    Raises:
        ValueError: lengths differ, an item or a SID of the beam search occurs twice, or `invalid` exceeds `beams`.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    sids: tuple[Sid | None, ...] = ()
    invalid: int = 0
    beams: int = 0
    beam_sids: tuple[Sid, ...] | None = None

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
        if self.beam_sids is not None and len(set(self.beam_sids)) != len(self.beam_sids):
            twice_sid = next(sid for sid in self.beam_sids if self.beam_sids.count(sid) > 1)
            raise ValueError(f"SID {twice_sid} occurs twice among the beams of a ranking; keep its best position only")


@runtime_checkable
class Retriever(Protocol):
    """A model or a baseline. `name` is used for rows of reports and for run files: letters, digits, ``.``, ``_`` and ``-``."""

    name: str

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank the whole catalogue for each request.

        A retriever may read the query, the user and the history of a request. `clicked` and `purchased` are the targets that it is
        measured on and must not be read.

        Args:
            requests: the requests.
            top_k: largest number of items per ranking.

        Returns:
            One ranking per request, in order.
        """
        ...


@runtime_checkable
class BeamRetriever(Retriever, Protocol):
    """A retriever whose lists come from a beam search. It is not measured at cut-offs above its number of beams."""

    @property
    def num_beams(self) -> int:
        """Number of beams of the search."""
        ...


@runtime_checkable
class RecordedRetriever(Retriever, Protocol):
    """A retriever that may return rankings which it made before, and knows how long they took then."""

    def spent(self, requests: Sequence[Request], top_k: int) -> tuple[float, float]:
        """Wall and CPU seconds that making the rankings of these requests took."""
        ...


def beams_of(retriever: Retriever) -> int | None:
    """Return the number of beams of a retriever, None for one that does not search with beams."""
    return retriever.num_beams if isinstance(retriever, BeamRetriever) else None
