"""What presets add to items: features in place of an embedding of their picture or frames, and texts for what the title leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from .catalogue import Catalogue
from .config import ResolvedConfig
from .vocabulary import WORD_TYPES, Vocabulary

_SEEN = ("style", "color", "material", "pattern")
"""Types of words that a picture shows, besides the product group."""

_PHRASES = {
    "audience": "for {}",
    "function": "{}",
    "material": "made of {}",
    "pattern": "{} pattern",
    "season": "for {} days",
    "modifier": "{}",
    "scene": "good for {}",
    "specifications": "{}",
    "location": "{}",
}
"""How texts name an attribute that a title can lack, by its type."""


def item_features(
    config: ResolvedConfig, vocabulary: Vocabulary, catalogue: Catalogue, rows: np.ndarray
) -> pa.ListArray | None:
    """Features of some items: the sum of one random vector for each visible attribute, plus noise.

    Args:
        config: settings; the dimension is `features`, the noise relative to the signal is `feature_noise`.
        vocabulary: all words.
        catalogue: all items.
        rows: item numbers, ascending, ``(rows,)``.

    Returns:
        Lists of `config.features` numbers, ``(rows,)``; None if the dimension is 0.
    """
    if not config.features:
        return None
    rng = config.stream("features")
    size = config.features
    words = rng.normal(size=(len(vocabulary.words), size)).astype(np.float32)
    groups = rng.normal(size=(int(vocabulary.groups.max()) + 1, size)).astype(np.float32)
    seen = groups[vocabulary.groups[catalogue.leaves[rows]]]
    for kind in _SEEN:
        values = catalogue.words[WORD_TYPES.index(kind), rows]
        seen = seen + np.where((values >= 0)[:, None], words[values], np.float32(0.0))
    if config.feature_leaf:
        leaves = config.stream("feature leaves").normal(size=(config.leaves, size)).astype(np.float32)
        seen = seen + np.float32(config.feature_leaf) * leaves[catalogue.leaves[rows]]
    scale = np.float32((len(_SEEN) + 1 + config.feature_leaf**2) ** -0.5)
    noise = config.stream("feature noise", int(rows[0])).normal(size=seen.shape).astype(np.float32)
    features = scale * seen + np.float32(config.feature_noise) * noise
    offsets = size * np.arange(len(rows) + 1)
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), pa.array(features.ravel(), type=pa.float32()))


def further_texts(
    config: ResolvedConfig, values: Mapping[str, Sequence[str | None]], in_title: Sequence[frozenset[str]], first: int
) -> dict[str, pa.Array]:
    """Descriptions and picture texts of some items. Each attribute that the title lacks stands in one of the two.

    Args:
        config: settings; `texts` is the share of items that have them.
        values: value of every attribute type for each item.
        in_title: types that the title of each item names, ``(rows,)``.
        first: number of the first item.

    Returns:
        The columns ``description`` and ``ocr_text``, null where there is nothing to say; no columns if `texts` is 0.
    """
    if not config.texts:
        return {}
    rng = config.stream("texts", first)
    written = (rng.random(len(in_title)) < config.texts).tolist()
    in_picture = (rng.random((len(in_title), len(_PHRASES))) < 0.5).tolist()
    columns: dict[str, list[str | None]] = {"description": [], "ocr_text": []}
    for row, titled in enumerate(in_title):
        parts: dict[str, list[str]] = {"description": [], "ocr_text": []}
        for (kind, phrase), picture in zip(_PHRASES.items(), in_picture[row]):
            value = values[kind][row]
            if value is not None and kind not in titled:
                parts["ocr_text" if picture else "description"].append(phrase.format(value))
        for name, phrases in parts.items():
            columns[name].append(", ".join(phrases) if phrases and written[row] else None)
    return {name: pa.array(texts, type=pa.string()) for name, texts in columns.items()}


__all__ = ["further_texts", "item_features"]
