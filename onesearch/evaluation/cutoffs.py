"""Cut-offs k of the metrics: which are allowed, and which a beam search can be measured at.

A list that comes from n beams ends after about n items. HR@k with k above n says how long the list is, not how well it is ranked, so a
report never shows it: HR@350 needs 350 beams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

CUTOFFS = (5, 10, 50)
"""Cut-offs that are measured by default."""

MAX_CUTOFF = 350
"""Largest cut-off; the largest of the paper (OneSearch, arXiv 2509.03236: HR@350 and MRR@350)."""


def check_cutoffs(cutoffs: Sequence[int]) -> None:
    """Refuse cut-offs that no report has.

    Raises:
        ValueError: there is none, one is no whole number from 1 to `MAX_CUTOFF`, or one occurs twice.
    """
    whole = all(isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= MAX_CUTOFF for k in cutoffs)
    if not cutoffs or not whole or len(set(cutoffs)) != len(cutoffs):
        raise ValueError(f"cutoffs are {list(cutoffs)}; give distinct whole numbers from 1 to {MAX_CUTOFF}, at least one")


def check_beams(cutoffs: Sequence[int], num_beams: int, who: str = "the search") -> None:
    """Refuse cut-offs above the number of beams.

    Args:
        cutoffs: cut-offs that were asked for.
        num_beams: beams of the search.
        who: what searches, for the message.

    Raises:
        ValueError: a cut-off is above `num_beams`; the message says how many beams are needed.
    """
    above = [k for k in cutoffs if k > num_beams]
    if above:
        raise ValueError(
            f"cutoffs {above} are above the {num_beams} beams of {who}, after which its list ends; they need "
            f"num_beams={max(above)} (--beams {max(above)}), or leave them out"
        )


def default_cutoffs(beams: Iterable[int]) -> tuple[int, ...]:
    """Return the cut-offs of a report for which none were asked for, ascending.

    Args:
        beams: number of beams of each retriever that searches with beams. One below the smallest of `CUTOFFS` becomes a cut-off itself,
            so that every retriever is measured at one cut-off at least.
    """
    return tuple(sorted({*CUTOFFS, *(number for number in beams if number < min(CUTOFFS))}))


def up_to(cutoffs: Sequence[int], num_beams: int | None) -> tuple[int, ...]:
    """Return the cut-offs that a retriever is measured at: those up to its number of beams, all of them if it has none (None)."""
    return tuple(k for k in cutoffs if num_beams is None or k <= num_beams)


def reason(name: str, num_beams: int, left_out: Sequence[str]) -> str:
    """Return the sentence that says why metrics of a retriever are left out.

    Args:
        name: name of the retriever.
        num_beams: its number of beams.
        left_out: names of the metrics, such as ``HR@50``.
    """
    needed = max(cutoff_of(metric) for metric in left_out)
    return (
        f"{name} has no {', '.join(left_out)}: its lists come from {num_beams} beams and end there; "
        f"num_beams={needed} (--beams {needed}) measures it"
    )


def cutoff_of(metric: str) -> int:
    """Return the cut-off of a metric, 10 for ``HR@10``.

    Raises:
        ValueError: the name has no cut-off.
    """
    found = re.fullmatch(r"[^@]*@(\d+)", metric)
    if found is None:
        raise ValueError(f"metric {metric!r} has no cut-off; write for example HR@10")
    return int(found[1])


def check_measured(metrics: Iterable[str], cutoffs: Sequence[int] | None, num_beams: int) -> None:
    """Refuse metrics that an evaluation will not measure, before anything is trained.

    Args:
        metrics: names such as ``HR@10``.
        cutoffs: cut-offs of the evaluation; None for the default ones.
        num_beams: beams of the search.

    Raises:
        ValueError: the cut-off of a metric is not measured; the message names those that are.
    """
    measured = up_to(default_cutoffs([num_beams]) if cutoffs is None else cutoffs, num_beams)
    for metric in metrics:
        if cutoff_of(metric) not in measured:
            raise ValueError(
                f"metric {metric!r} is not measured: with num_beams={num_beams} the cut-offs are {list(measured)}; change "
                "evaluation.cutoffs and search.num_beams, or the metric"
            )


def by_cutoff(rows: Mapping[str, Mapping[str, object]], cutoffs: Sequence[int]) -> tuple[str, ...]:
    """Return the columns of a table of retrievers.

    Args:
        rows: retriever → metric → value.
        cutoffs: cut-offs of the report, ascending.

    Returns:
        All four metrics at the main cut-off: 10 if every retriever is measured there, else the largest below it or the smallest above it
        that every one is measured at. HR follows at each larger cut-off that some retriever is measured at.
    """
    shared = [k for k in cutoffs if all(f"HR@{k}" in row for row in rows.values())]
    main = max((k for k in shared if k <= 10), default=min(shared, default=min(cutoffs, default=10)))
    larger = [k for k in cutoffs if k > main and any(f"HR@{k}" in row for row in rows.values())]
    return (*(f"{name}@{main}" for name in ("HR", "Recall", "MRR", "NDCG")), *(f"HR@{k}" for k in larger))


__all__ = [
    "CUTOFFS",
    "MAX_CUTOFF",
    "by_cutoff",
    "check_beams",
    "check_cutoffs",
    "check_measured",
    "cutoff_of",
    "default_cutoffs",
    "reason",
    "up_to",
]
