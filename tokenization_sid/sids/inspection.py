"""The code path of one query or item: what lies under each of its prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.session_pairs import category_ids
from onesearch.files import RunFolder

from ..embedding.embeddings import load_embeddings
from ..keywords.matching import normalise
from .appending import load_appended
from .code_files import load_codes
from .plots import typical_rows
from .sid_encoder import SidEncoder

KINDS = ("auto", "item", "query")


@dataclass(frozen=True)
class Branch:
    """What lies under one prefix of a code path.

    Args:
        level: of the prefix's last code; code: that code.
        items: items under the prefix.
        titles: typical ones, those closest to the centre of the items under the prefix.
        category: the most frequent finest category of the items, None where none has one; share: its share of the items that have one.
    """

    level: int
    code: int
    items: int
    titles: tuple[str, ...]
    category: str | None
    share: float


@dataclass(frozen=True)
class Inspection:
    """Code path of a query or an item.

    Args:
        kind: ``query`` or ``item``; text: the query, or the item's title.
        item_id: None for a query.
        same_title: further items with the title that was asked for.
        keywords: core keywords that the text names.
        codes: (levels,).
        branches: one per level.
    """

    kind: str
    text: str
    item_id: str | None
    same_title: int
    keywords: tuple[str, ...]
    codes: tuple[int, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Published items with what is shown of them.

    Args:
        item_ids, titles: (items,) Arrow strings.
        categories: (items,) ids, -1 without one; category_names: by id.
        codes: (items, levels).
        run: where the encoder, the keywords and the embeddings are; None if only an item index is at hand.
    """

    item_ids: pa.Array
    titles: pa.Array
    categories: np.ndarray
    category_names: Sequence[str]
    codes: np.ndarray
    run: RunFolder | None = None

    @classmethod
    def of_run(cls, run: RunFolder) -> Catalogue:
        """Items of a run, those appended since included."""
        market = Market.load(run.require("market", "onesearch data"))
        stored, added = load_codes(run, "items"), load_appended(run)
        if len(stored.codes) != len(market.items):
            raise ValueError(
                f"{run.sids} holds codes of {len(stored.codes):,} items, the market {len(market.items):,}: "
                "the market has changed; build the SIDs again"
            )
        column = market.items.data.column
        paths = pa.concat_arrays([column("categories").combine_chunks(), added.table.column("categories").combine_chunks()])
        ids, names = category_ids(paths)
        item_ids, titles = (
            pa.concat_arrays([column(name).combine_chunks(), added.table.column(name).combine_chunks()])
            for name in ("item_id", "title")
        )
        return cls(item_ids, titles, ids, names, np.concatenate([stored.codes, added.codes]), run)

    @classmethod
    def of_index(cls, item_ids: Sequence[str], codes: np.ndarray) -> Catalogue:
        """Items of which only ids and codes are known, as a checkpoint alone has them."""
        ids = pa.array(item_ids, pa.string())
        return cls(ids, ids, np.full(len(ids), -1), [], np.asarray(codes))

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """(items, dimension) embeddings of the run's own items; appended ones have none."""
        return load_embeddings(self.run, "items") if self.run is not None else None

    def row_of(self, text: str) -> tuple[int, int] | None:
        """Row of the item with this id or, failing that, this title (first in the catalogue), and how many others have the title."""
        row = pc.index(self.item_ids, text).as_py()
        if row >= 0:
            return row, 0
        titles = pc.utf8_lower(pc.utf8_normalize(self.titles, "NFKC"))
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(titles, r"\s+", " "))
        rows = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(plain, normalise(text)), False)))
        return (int(rows[0]), len(rows) - 1) if len(rows) else None

    def branch(self, rows: np.ndarray, level: int, code: int, count: int) -> Branch:
        """What the items at `rows`, those under one prefix, have in common."""
        known = self.categories[rows]
        known = known[known >= 0]
        number = np.bincount(known) if len(known) else np.zeros(0)
        largest = int(number.argmax()) if len(known) else -1
        name, share = (self.category_names[largest], float(number[largest] / len(known))) if len(known) else (None, 0.0)
        shown = rows[: 0 if not len(rows) else count]
        if self.vectors is not None:
            own = rows[rows < len(self.vectors)]
            shown = typical_rows(self.vectors, own, count) if len(own) else shown
        return Branch(level, code, len(rows), tuple(self.titles[int(row)].as_py() for row in shown), name, share)


def inspect(catalogue: Catalogue, text: str, kind: str = "auto", titles: int = 3) -> Inspection:
    """Code path of a query or of an item, with what lies under each prefix.

    A query is embedded with the run's encoder and keywords and encoded with its frozen codebooks, as its items were.

    Args:
        text: an item's id or title, or any query.
        kind: ``item`` or ``query``; ``auto`` takes an item if there is one of this id or title, else a query.
        titles: typical titles per level.

    Raises:
        ValueError: no such item, a query without a word that the encoder knows, or a query where there is no encoder.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; allowed are {', '.join(KINDS)}")
    if not text.strip():
        raise ValueError("nothing to inspect: the text is empty; give a query, or an item's id or title")
    found = catalogue.row_of(text) if kind != "query" else None
    if found is None and kind == "item":
        raise ValueError(f"no item has the id or title {text!r}; the catalogue has {len(catalogue.item_ids):,} items")
    if found is not None:
        row, others = found
        codes, names, shown = catalogue.codes[row], (), catalogue.titles[row].as_py()
        return _inspection(catalogue, "item", shown, catalogue.item_ids[row].as_py(), others, names, codes, titles)
    codes, names = _query_codes(catalogue, text)
    return _inspection(catalogue, "query", text, None, 0, names, codes, titles)


def _query_codes(catalogue: Catalogue, text: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if catalogue.run is None:
        raise ValueError(
            f"{text!r} is no item id of this checkpoint, and a checkpoint alone has no encoder for queries; pass --run with its run"
        )
    encoder = SidEncoder.load(catalogue.run)
    codes, known = encoder.encode([text])
    if not known[0]:
        raise ValueError(f"{text!r} is no item's id or title, and the run's encoder knows none of its words; try other words")
    return codes[0], tuple(encoder.core.keywords[row].text for row in encoder.core.match([text])[0])


def _inspection(
    catalogue: Catalogue,
    kind: str,
    text: str,
    item_id: str | None,
    others: int,
    names: tuple[str, ...],
    codes: np.ndarray,
    titles: int,
) -> Inspection:
    rows = np.arange(len(catalogue.codes))
    branches = []
    for level, code in enumerate(codes.tolist()):
        rows = rows[catalogue.codes[rows, level] == code]
        branches.append(catalogue.branch(rows, level, code, titles))
    return Inspection(kind, text, item_id, others, names, tuple(codes.tolist()), tuple(branches))


__all__ = ["Branch", "Catalogue", "Inspection", "inspect"]
