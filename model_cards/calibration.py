"""Calibration of the generator: are items of which it says 10 % bought in one request of ten?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from onesearch.evaluation.reports import Report

GROUPS = 10
"""Number of groups of hits, of equal size; our choice."""

GENERATOR = "onesearch"
"""Name of the arm whose scores are log-probabilities of items."""


class CalibrationGroup(NamedTuple):
    """Hits with similar probabilities.

    Attributes:
        predicted: mean probability that the generator gave them.
        observed: share that was bought.
        low: lower end of the 95 % interval of `observed` (Wilson).
        high: upper end.
        hits: number of hits.
    """

    predicted: float
    observed: float
    low: float
    high: float
    hits: int


def calibration(folder: Path, report: Report) -> list[CalibrationGroup]:
    """Compare the probabilities of the hits of an evaluation with what was bought.

    Hits and targets are those of the TREC files beside the report, so nothing is searched again. Only hits count whose score was a
    log-probability, and only requests with a purchase.

    Args:
        folder: folder of the evaluation.
        report: its report.

    Returns:
        Groups of ascending probability; none if the files are not there.
    """
    run, qrels = folder / f"{GENERATOR}.{report.split}.run", folder / f"purchase.{report.split}.qrels"
    if not run.is_file() or not qrels.is_file():
        return []
    with open(qrels, encoding="utf-8") as file:
        bought = {tuple(line.split(" ")[0:3:2]) for line in file}
    sessions = {session for session, _ in bought}
    scores, hits = [], []
    with open(run, encoding="utf-8") as file:
        for line in file:
            session, _, item, _, score, _ = line.split(" ")
            if session in sessions:
                scores.append(float(score))
                hits.append((session, item) in bought)
    return groups_of(np.exp(np.array(scores)), np.array(hits, dtype=bool))


def groups_of(predicted: np.ndarray, observed: np.ndarray) -> list[CalibrationGroup]:
    """Divide hits into groups of equal size by their probability; both arguments are ``(hits,)``."""
    order = np.argsort(predicted, kind="stable")
    groups = []
    for rows in np.array_split(order, GROUPS):
        if len(rows):
            share = float(observed[rows].mean())
            low, high = _wilson(share, len(rows))
            groups.append(CalibrationGroup(float(predicted[rows].mean()), share, low, high, len(rows)))
    return groups


def _wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` draws."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - float(half), 0.0), min(middle + float(half), 1.0)


__all__ = ["CalibrationGroup", "calibration", "groups_of"]
