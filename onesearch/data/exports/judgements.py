"""Judged pairs of a query and an item in a shop's files: how grades are written, and what the pairs are used for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from .names import plain

BEST, RELEVANT = 3, 2
"""Highest grade, and the lowest that counts as relevant: the scale of the relevance table."""

ENOUGH = 1_000
"""Number of judged queries from which they are learned from. Fewer are for measuring alone. Our choice."""

WORDS = {
    3: "exact e perfect excellent veryrelevant highlyrelevant best 完全相关 強相关 强相关",
    2: "relevant substitute s good useful 相关",
    1: "complement c partial partiallyrelevant marginal marginallyrelevant fair related 弱相关",
    0: "irrelevant i notrelevant nonrelevant unrelated bad off wrong 不相关 无关",
}
"""Grade → words for it, as plain names."""

GRADE_OF = {word: grade for grade, words in WORDS.items() for word in words.split()}


class Judged(NamedTuple):
    """A judged pair.

    Attributes:
        query: text of the query.
        item_id: id of the item.
        grade: 0 (irrelevant) to 3 (exact).
    """

    query: str
    item_id: str
    grade: int


def grades_of(texts: Collection[str]) -> dict[str, int] | None:
    """Grade of each distinct text of a column; None if the texts are no grades.

    Whole numbers from 0 to 3 are grades if 2 or 3 is among them. Other numbers are spread over 0 to 3 between the smallest and the largest,
    so that 1 of 0 and 1 is 3. Words are those of `WORDS`.

    Example:
        >>> grades_of({"E", "S", "I"}) == {"E": 3, "S": 2, "I": 0}
        True
        >>> grades_of({"1", "3", "5"}) == {"1": 0, "3": 2, "5": 3}
        True
    """
    found = {text: GRADE_OF.get(plain(text)) for text in set(texts)}
    if len(found) < 2:
        return None
    if all(grade is not None for grade in found.values()):
        return {text: grade for text, grade in found.items() if grade is not None}
    try:
        numbers = {text: float(text) for text in found}
    except ValueError:
        return None
    least, most = min(numbers.values()), max(numbers.values())
    if least >= 0 and most in (RELEVANT, BEST) and all(number.is_integer() for number in numbers.values()):
        return {text: int(number) for text, number in numbers.items()}
    return {text: round(BEST * (number - least) / (most - least) + 1e-9) for text, number in numbers.items() if most > least}


def judged_sessions(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """A session for each judged query with a relevant item, as if those had been clicked; rows of the sessions table."""
    clicked: dict[str, dict[str, None]] = defaultdict(dict)
    for query, item_id, grade in judged:
        if grade >= RELEVANT:
            clicked[query].setdefault(item_id)
    return [
        {
            "session_id": f"judged-{number}",
            "user_id": f"judged-{number}",
            "time": number,
            "query": query,
            "scene": "search",
            "impressed": [],
            "clicked": list(items),
            "carted": [],
            "purchased": [],
        }
        for number, (query, items) in enumerate(clicked.items(), start=1)
    ]


def relevance_rows(judged: Sequence[Judged], queries: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Rows of the relevance table: the pairs of some queries, or of all; a pair that was judged twice has its higher grade."""
    grades: dict[tuple[str, str], int] = {}
    for query, item_id, grade in judged:
        if queries is None or query in queries:
            grades[query, item_id] = max(grade, grades.get((query, item_id), 0))
    return [{"query": query, "item_id": item_id, "grade": grade} for (query, item_id), grade in grades.items()]


def judged_note(judged: Sequence[Judged], held_out: int | None) -> str:
    """What the judged pairs are used for, as a sentence; `held_out` queries measure, None if all do."""
    pairs = f"{len(judged):,} judged pairs of {len({query for query, _, _ in judged}):,} queries"
    if held_out is None:
        return f"{pairs} measure the search; from {ENOUGH:,} queries on they are learned from, too"
    return f"{pairs}: relevant items count as clicked; {held_out:,} queries are held out, and their pairs measure the search"


def counts_by_grade(judged: Sequence[Judged]) -> Mapping[int, int]:
    """Number of pairs of each grade, the highest grade first."""
    return {grade: sum(pair.grade == grade for pair in judged) for grade in range(BEST, -1, -1)}


__all__ = [
    "ENOUGH",
    "RELEVANT",
    "Judged",
    "counts_by_grade",
    "grades_of",
    "judged_note",
    "judged_sessions",
    "relevance_rows",
]
