"""Rankings and targets as files of trec_eval: runs and qrels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onesearch.data.ids import ID_RULE, is_id
from onesearch.files import atomic_file

from .retrievers import Ranking


def write_run(rankings: Mapping[str, Ranking], name: str, path: str | Path) -> None:
    """Write the rankings of a retriever as a TREC run: session id, Q0, item id, rank from 1, score, name.

    trec_eval sorts by 32-bit scores. Scores are therefore written as strictly decreasing 32-bit floats: a score that does not decrease
    becomes the next smaller number.

    Args:
        rankings: session id → ranking.
        name: name of the retriever.
        path: file to write; it appears whole or not at all.

    Raises:
        ValueError: an id breaks the rule of `onesearch.data.ids`, or a score is not finite.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for session_id, ranking in rankings.items():
            prefix = f"{_word(session_id)} Q0"
            for rank, (item, score) in enumerate(zip(ranking.item_ids, _decreasing(ranking.scores)), start=1):
                file.write(f"{prefix} {_word(item)} {rank} {score:.9g} {name}\n")


def write_qrels(truth: Mapping[str, Sequence[str]], path: str | Path) -> None:
    """Write target items as TREC qrels: session id, 0, item id, 1.

    Args:
        truth: session id → target items.
        path: file to write; it appears whole or not at all.

    Raises:
        ValueError: an id breaks the rule of `onesearch.data.ids`.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for session_id, items in truth.items():
            file.writelines(f"{_word(session_id)} 0 {_word(item)} 1\n" for item in dict.fromkeys(items))


def _decreasing(scores: tuple[float, ...]) -> list[float]:
    """Scores as strictly decreasing 32-bit floats, ``(items,)``.

    Floats are numbered in order (neighbouring floats differ by 1), so that number + rank must not increase.
    """
    values = np.asarray(scores, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"scores {scores} cannot be written to a run file; they must be finite 32-bit floats")
    bits = values.view(np.int32).astype(np.int64)
    number = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    ranks = np.arange(len(number))
    number = np.minimum.accumulate(number + ranks) - ranks
    magnitude = np.abs(number).astype(np.int32).view(np.float32)
    return np.where(number < 0, -magnitude, magnitude).tolist()


def _word(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"id {text!r} cannot be written to a TREC file; {ID_RULE}")
    return text


__all__ = ["write_qrels", "write_run"]
