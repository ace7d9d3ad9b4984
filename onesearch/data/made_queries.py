"""Queries made of an item's own words and facets, for a catalogue with few or no real queries. Our addition; the papers have none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from .arrow_tables import as_dataset
from .choices import RECOMMENDATION, UNKNOWN_SCENE
from .market import Market
from .requests import has_query, is_search
from .schema import ATTRIBUTE_TYPES
from .text import item_texts

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Japanese and Chinese letters, whose words have no blanks between them."""

_RUN = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")
_GAP = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")

PIECE = (2, 4)
"""Shortest and longest piece that stands for a word where there are no blanks; our choice."""

MOST_FACETS = 3
"""Largest number of facets of one query; our choice."""

FEW_SEARCHES = 300
"""With fewer answered searches than this, made queries are measured as well: the real ones are too few to measure on. Our choice."""

TITLE_WORDS = 3
"""Largest number of words of a title in the query of an item without facets; our choice."""


def with_made_queries(market: Market, seed: int = 0) -> tuple[Market, str]:
    """Give a query to each session that has a click or purchase and no query, so that a log of orders alone can be learned from.

    The query is made of one item of the session: up to three of its category, brand, attributes and tags (`facet_query`), or, for an item
    without these, up to three words of its title. Amazon's reviews are turned into product searches in the same way (HEM, Ai et al.,
    SIGIR 2017: category paths alone).

    * With at least `FEW_SEARCHES` answered searches of its own, the market keeps these for measuring: sessions with a made query have
      the scene ``recommendation``, which `request_rows` takes for training alone.
    * Otherwise made queries count like real ones, with the scene ``unknown``: figures are then of artificial queries, and
      ``info["queries"]`` says so.

    Args:
        market: its sessions.
        seed: draws the item and its facets; the same seed makes the same queries.

    Returns:
        The market, and a sentence for the user; "" and the same market if no session needs a query.
    """
    column = market.sessions.data.column
    bought, clicked = column("purchased").to_pylist(), column("clicked").to_pylist()
    touched = [list(items or clicks or ()) for items, clicks in zip(bought, clicked)]
    has_events = np.array([bool(items) for items in touched], dtype=bool)
    rows = np.flatnonzero(has_events & ~has_query(market))
    if not len(rows):
        return market, ""
    answered = int((is_search(market) & has_events).sum())
    is_measured = answered < FEW_SEARCHES
    queries, scenes = column("query").to_pylist(), column("scene").to_pylist()
    made = _queries_of(market, [touched[row] for row in rows], np.random.default_rng(seed))
    for row, query in zip(rows.tolist(), made):
        queries[row] = query
        scenes[row] = UNKNOWN_SCENE if is_measured else RECOMMENDATION
    table = market.sessions.data.table
    for name, values in (("query", queries), ("scene", scenes)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, type=table.schema.field(place).type))
    info = {**market.info, "queries": MADE_AND_MEASURED} if is_measured else market.info
    use = (
        f"the log has {answered:,} answered searches of its own, so the figures below are of made queries, too"
        if is_measured
        else f"they are learned from; the figures below are of the {answered:,} answered searches of the log"
    )
    sentence = f"{len(rows):,} sessions without a query get one that is made of their item's category, brand, attributes and tags; {use}"
    return replace(market, sessions=as_dataset(table), info=info), sentence


MADE_AND_MEASURED = "artificial: made of the clicked or bought item's category, brand, attributes and tags"
"""What ``info["queries"]`` says of a market whose figures are of made queries."""


def _queries_of(market: Market, touched: Sequence[Sequence[str]], random: np.random.Generator) -> list[str]:
    """A query for each list of item ids."""
    row_of = {item: row for row, item in enumerate(market.items.data.column("item_id").to_pylist())}
    facets, texts = facets_of(market), item_texts(market)
    made = []
    for items in touched:
        row = row_of[items[int(random.integers(len(items)))]]
        made.append(facet_query(facets[row], random) or sampled_words(texts[row], TITLE_WORDS, random))
    return made


def sampled_words(text: str, most: int, random: np.random.Generator) -> str:
    """Between 1 and `most` words of a text, sampled without replacement and kept in order.

    In scripts without blanks, pieces of 2 to 4 letters take the place of words, and no blank stands between two of them.
    """
    words = split_words(text, random)
    count = min(len(words), int(random.integers(1, most + 1)))
    places = np.sort(random.choice(len(words), count, replace=False)) if words else ()
    return _GAP.sub("", " ".join(words[place] for place in places))


def split_words(text: str, random: np.random.Generator) -> list[str]:
    """Words of a text; a run of letters without blanks is cut into pieces of random length."""
    words: list[str] = []
    for word in text.split():
        for run in _RUN.findall(word):
            words += _pieces(run, random) if _is_unspaced(run) else [run]
    return words


def facets_of(market: Market) -> list[list[str]]:
    """The facets of each item that a shopper might search for: leaf category, brand, attributes and tags; each value once."""
    column = market.items.data.column
    names = ("categories", "brand", "attributes", "tags")
    found = []
    for path, brand, attributes, tags in zip(*(column(name).to_pylist() for name in names)):
        values = [*(path or ())[-1:], brand or ""]
        for kind in ATTRIBUTE_TYPES:
            values += (attributes or {}).get(kind) or []
        found.append(list(dict.fromkeys(value.strip() for value in [*values, *(tags or ())] if value and value.strip())))
    return found


def facet_query(facets: Sequence[str], random: np.random.Generator) -> str:
    """Between 1 and `MOST_FACETS` facets of an item in random order; "" for an item without any."""
    if not facets:
        return ""
    count = min(len(facets), int(random.integers(1, MOST_FACETS + 1)))
    chosen = random.choice(len(facets), count, replace=False)
    return _GAP.sub("", " ".join(facets[place] for place in chosen))


def _is_unspaced(run: str) -> bool:
    return _RUN.fullmatch(run) is not None and re.match(f"[{UNSPACED}]", run) is not None


def _pieces(run: str, random: np.random.Generator) -> list[str]:
    """A run of letters in pieces of random length; the last may be shorter."""
    pieces, start = [], 0
    while start < len(run):
        end = start + int(random.integers(PIECE[0], PIECE[1] + 1))
        pieces.append(run[start:end])
        start = end
    return pieces


__all__ = ["FEW_SEARCHES", "facet_query", "facets_of", "sampled_words", "split_words", "with_made_queries"]
