"""Numbers of items that a search is compared with. Imports the standard library alone, so that a recipe is read without numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NegativeSampling:
    """Numbers of items that the clicked and bought ones of a search are compared with, by kind. All numbers are our choice.

    Args:
        shown: items that were shown and not clicked; where a search has fewer, all of them.
        beam: items of the generator's own beam, where beams are given.
        category: items of the query's category that were not shown. They resemble the hits of a search. Raising the number
            made the ranking better.
        random: items of the whole catalogue.

    Raises:
        ValueError: a number is negative, or all are 0.
    """

    shown: int = 6
    beam: int = 8
    category: int = 20
    random: int = 2

    def __post_init__(self) -> None:
        counts = (self.shown, self.beam, self.category, self.random)
        if min(counts) < 0 or not sum(counts):
            raise ValueError(f"{self}: every number must be at least 0, and one of them above 0")


__all__ = ["NegativeSampling"]
