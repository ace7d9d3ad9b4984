"""How well a recogniser finds the values of items in their titles: precision, recall and F1 per attribute type."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pyarrow as pa

from .catalogue_values import CatalogueValues
from .matching import KeywordMatcher, normalise
from .recogniser import TokenRecogniser


class TypeScore(NamedTuple):
    """Scores of one attribute type.

    Attributes:
        values: number of values of the type in the titles.
        precision: share of the recognised values that are values of their item.
        recall: share of the values that are recognised.
        f1: harmonic mean of both.
    """

    values: int
    precision: float
    recall: float
    f1: float


def evaluate_titles(recogniser: TokenRecogniser, items: pa.Table) -> dict[str, TypeScore]:
    """Compare what a recogniser finds in the titles of items with their values.

    A value counts where the title holds it as whole words, once per title. A find is right if its type and its whole text are those of a
    value of the item.

    Args:
        recogniser: recogniser to measure.
        items: items table with attributes, brand and categories.

    Returns:
        Scores of each type that a title holds or in which something was recognised.
    """
    right, recognised, held = Counter[str](), Counter[str](), Counter[str]()
    titles = items.column("title").to_pylist()
    owned = CatalogueValues.read(items).of_items()
    for title, values, spans in zip(titles, owned, recogniser.recognise(titles)):
        plain = normalise(title)
        inside = set(KeywordMatcher([text for _, text in values]).occurrences(plain))
        texts = {text for _, text in (values[row] for row in inside)}
        truth = {(kind, text) for kind, text in values if text in texts}
        found = {(span.kind, plain[span.start : span.end]) for span in spans}
        right.update(kind for kind, _ in found & truth)
        recognised.update(kind for kind, _ in found)
        held.update(kind for kind, _ in truth)
    scores = {}
    for kind in sorted({*held, *recognised}):
        precision, recall = right[kind] / max(recognised[kind], 1), right[kind] / max(held[kind], 1)
        f1 = 2 * right[kind] / (recognised[kind] + held[kind])
        scores[kind] = TypeScore(held[kind], precision, recall, f1)
    return scores


__all__ = ["TypeScore", "evaluate_titles"]
