"""From embeddings to Semantic IDs: keyword fusion, codebooks, codes of all items and queries, diagnostics.

What `build_sids` leaves in ``sids/``: ``codebooks.safetensors`` (`quantizers/`), ``keywords.parquet`` (`keyword_files.py`),
``item_codes.safetensors`` and ``query_codes.safetensors`` (`code_files.py`), ``diagnostics.json`` (`diagnostics.py`) and its page as
``diagnostics.png`` and ``diagnostics.svg`` (`plots.py`). All but the page name the fingerprint of the codebooks.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.session_pairs import category_ids, query_rows, session_items
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, write_json

from ..embedding.embeddings import distinct_queries, embedding_rows, load_embeddings, load_encoder
from ..embedding.text_encoder import embed_texts
from ..keywords.keyword_files import KEYWORDS_NAME, load_keywords, read_dictionary, save_keywords
from ..keywords.keyword_mining import merge_keywords, mine_keywords
from ..keywords.keywords import CoreKeywords, Keyword, fuse
from ..parallel.shared_rows import make_rows
from ..quantizers.base import Quantizer
from ..quantizers.configs import QuantizerConfig, suggest_codebook_sizes
from ..quantizers.loading import fit_quantizer, load_quantizer
from .code_files import StoredCodes, codes_path
from .diagnostics import SCHEMA, agreement, diagnose, purity
from .plots import PAGE_NAMES, draw_page, plots_available
from .sid_encoder import centroid_distances, code_centroids, known_rows

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

DIAGNOSTICS_NAME = "diagnostics.json"

ROWS_PER_BLOCK = 4096
"""Rows that one of several processes encodes at a time."""

MAX_PREFIXES_PER_ITEM = 5000
"""Above this the residual levels are called too wide; ours. `suggest_codebook_sizes` stays below 2,200."""


@dataclass(frozen=True)
class ItemCodes:
    """Codes of a catalogue or of new items, ready for an item index.

    Args:
        item_ids: as in the items table.
        codes: (items, levels).
        popularity: (items,) purchases in the training split, plus a click as a hundredth of one; new items have 0.
        codebook sizes: codes per level.
        fingerprint: of the codebooks.
        categories: per item its path from coarse to fine.
    """

    item_ids: list[str]
    codes: np.ndarray
    popularity: np.ndarray
    codebook_sizes: tuple[int, ...]
    fingerprint: str
    categories: list[list[str]] = field(default_factory=list)


def build_sids(
    run: RunFolder,
    config: QuantizerConfig,
    keywords: bool = True,
    fit_on: str = "items",
    dictionary: str | Path | None = None,
    page: bool = True,
    accelerator: Accelerator | None = None,
) -> ItemCodes | None:
    """Train codebooks on a run's items, encode the catalogue and its queries, write ``sids/`` (see the module).

    Args:
        config: of the quantizer that makes the codes: `RQOPQConfig`, `RQKMeansConfig`, `PRQConfig`, `RQVAEConfig` or `SimVQConfig`.
        keywords: fuse the embeddings of core keywords into those of items and queries.
        fit_on: ``items``, or ``both`` to train on items and distinct queries together as the authors' code does. Both are then encoded
            by the same codebooks. With our static encoder short queries lie far from item texts and take the codes away: on the
            simulated market (2,000 items, 8,370 queries) ``both`` leaves 3 of 64 first codes to items and 56 % of them with a SID of
            their own, ``items`` 64 and 99 %.
        dictionary: further keywords from a file, see `read_dictionary`.
        page: draw the diagnostics, if matplotlib is installed.
        accelerator: its processes share the encoding, all of them on this run folder; the main one trains the codebooks and writes. What
            the files hold is what one process gives.

    Returns:
        The codes of the items; None in processes other than the main one.
    """
    if accelerator is not None and not accelerator.is_main_process:
        _help_to_encode(run, accelerator)
        return None
    if fit_on not in ("items", "both"):
        raise ValueError(f"fit_on={fit_on!r}: allowed are 'items', 'both'")
    if dictionary is not None and not keywords:
        raise ValueError(f"dictionary={str(dictionary)!r} needs keywords=True: without keywords it would be ignored")
    given = read_dictionary(dictionary) if dictionary is not None else []
    market = Market.load(run.require("market", "onesearch data"))
    items, queries = load_embeddings(run, "items"), load_embeddings(run, "queries")
    _warn_if_too_wide(config, len(items))
    core = _core_keywords(run, market, given, items.shape[1]) if keywords else _no_keywords(items.shape[1])
    names = {"items": core.match(item_texts(market)), "queries": core.match(distinct_queries(market))}
    items, queries = fuse(items, names["items"], core.embeddings), fuse(queries, names["queries"], core.embeddings)
    known = queries[known_rows(queries)] if fit_on == "both" else queries[:0]
    quantizer = fit_quantizer(np.concatenate([items, known]), config)
    quantizer.save_pretrained(run.sids)
    save_keywords(run.sids / KEYWORDS_NAME, core, quantizer.fingerprint)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    coded = {
        "items": _stored(quantizer, items, _encode(quantizer, len(items), items.__getitem__, accelerator), reference=True),
        "queries": _stored(quantizer, queries, _encode(quantizer, len(queries), queries.__getitem__, accelerator)),
    }
    for kind, part in coded.items():
        part.save(codes_path(run, kind))
    named = {kind: float(np.mean([bool(rows) for rows in part] or [0])) for kind, part in names.items()}
    report = {
        "schema": SCHEMA,
        "fingerprint": quantizer.fingerprint,
        "codebook_sizes": list(quantizer.config.codebook_sizes),
        "fit_on": fit_on,
        "keywords": keywords,
        "keyword_lists": dict(Counter(keyword.kind for keyword in core.keywords)),
        "named": named,
        **_measured(market, quantizer, coded, items, queries),
        "page": _draw(run, market, coded["items"], items, page),
    }
    write_json(run.sids / DIAGNOSTICS_NAME, report)
    logger.info("%s items, %s distinct SIDs", f"{len(items):,}", f"{report['items']['distinct_sids']:,}")
    item_ids = market.items.data.column("item_id").to_pylist()
    categories = [list(path or ()) for path in market.items.data.column("categories").to_pylist()]
    popularity = item_popularity(market, item_ids)
    return ItemCodes(
        item_ids, coded["items"].codes, popularity, coded["items"].codebook_sizes, quantizer.fingerprint, categories
    )


def item_popularity(market: Market, item_ids: list[str]) -> np.ndarray:
    """(items,) float32: the order of items that share a SID, from the searches of the training split alone.

    Args:
        item_ids: items of the market, in the order wanted.
    """
    asked = query_rows(market, distinct_queries(market)) >= 0
    counts = np.zeros(len(market.items))
    for kind, weight in (("purchased", 1.0), ("clicked", 0.01)):
        sessions, items = session_items(market, "train", (kind,))
        counts += weight * np.bincount(items[asked[sessions]], minlength=len(counts))
    column = market.items.data.column("item_id").combine_chunks()
    rows = pc.index_in(pa.array(item_ids, column.type), value_set=column)
    return counts.astype(np.float32)[np.asarray(rows, dtype=np.int64)]


def held_out_agreement(market: Market, items: StoredCodes, queries: StoredCodes, split: str = "validation") -> dict[str, Any]:
    """`agreement` of query codes with those of the items clicked and purchased in the sessions of one split."""
    rows = query_rows(market, distinct_queries(market))
    found: dict[str, Any] = {"split": split}
    for kind, column in (("click", "clicked"), ("purchase", "purchased")):
        sessions, targets = session_items(market, split, (column,))
        asked = rows[sessions]
        usable = (asked >= 0) & queries.known[asked]
        found[kind] = agreement(queries.codes[asked[usable]], items.codes[targets[usable]], items.codebook_sizes)
    return found


def _warn_if_too_wide(config: QuantizerConfig, items: int) -> None:
    """Paper codebook sizes on a small catalogue make nearly every SID unique by accident and leave the model nothing to share."""
    prefixes = math.prod(config.residual_sizes)
    if prefixes > MAX_PREFIXES_PER_ITEM * items:
        better = suggest_codebook_sizes(items)
        levels, opq = ",".join(map(str, better.residual_sizes)), "x".join(map(str, better.opq))
        logger.warning(
            "levels %s span %s prefixes for %s items, far too many; better: --residual-sizes %s --opq %s",
            ",".join(map(str, config.residual_sizes)), f"{prefixes:,}", f"{items:,}", levels, opq,
        )  # fmt: skip


def _core_keywords(run: RunFolder, market: Market, given: Sequence[Keyword], dimension: int) -> CoreKeywords:
    found = merge_keywords(mine_keywords(market), given)
    if not found:
        logger.info("no item has attributes: nothing to fuse")
        return _no_keywords(dimension)
    return CoreKeywords(found, embed_texts(load_encoder(run), [keyword.text for keyword in found]))


def _no_keywords(dimension: int) -> CoreKeywords:
    return CoreKeywords([], np.zeros((0, dimension), dtype=np.float32))


def _encode(
    quantizer: Quantizer, count: int, vectors: Callable[[slice], np.ndarray], accelerator: Accelerator | None
) -> np.ndarray:
    """Codes (count, levels) of the rows that `vectors` gives, in every process; each encodes a part of them."""
    nothing = np.zeros((0, len(quantizer.config.codebook_sizes)), dtype=np.int32)

    def codes(block: slice) -> np.ndarray:
        return quantizer.encode(vectors(block)) if block.stop > block.start else nothing

    # One process needs no blocks: the quantizer cuts rows itself.
    return make_rows(count, ROWS_PER_BLOCK if accelerator is not None else max(count, 1), codes, accelerator)


def _help_to_encode(run: RunFolder, accelerator: Accelerator) -> None:
    """What a process does beside the main one: once the codebooks are there, embed its share of rows and encode it."""
    market = Market.load(run.require("market", "onesearch data"))
    accelerator.wait_for_everyone()
    quantizer = load_quantizer(run.sids)
    core = load_keywords(run.sids / KEYWORDS_NAME, quantizer.fingerprint)
    for kind, texts in (("items", item_texts(market)), ("queries", distinct_queries(market))):
        rows = embedding_rows(run, kind)
        _encode(quantizer, len(rows), lambda block, rows=rows, texts=texts: core.fuse(texts[block], rows[block]), accelerator)


def _stored(quantizer: Quantizer, vectors: np.ndarray, codes: np.ndarray, reference: bool = False) -> StoredCodes:
    """`codes` of `vectors`, with `reference` also what new items are held against."""
    known, codebook_sizes = known_rows(vectors), quantizer.config.codebook_sizes
    if not reference:
        return StoredCodes(codes, known, codebook_sizes, quantizer.fingerprint)
    centroids = code_centroids(vectors, codes[:, 0], codebook_sizes[0])
    percentiles = np.percentile(centroid_distances(vectors, codes[:, 0], centroids), np.arange(101)).astype(np.float32)
    return StoredCodes(codes, known, codebook_sizes, quantizer.fingerprint, centroids, percentiles)


def _measured(
    market: Market, quantizer: Quantizer, coded: dict[str, StoredCodes], items: np.ndarray, queries: np.ndarray
) -> dict[str, Any]:
    """The parts of the diagnostics that are measured: measures, purity and agreement."""
    known, codebook_sizes = coded["queries"].known, quantizer.config.codebook_sizes
    vectors = items, queries[known]
    found = diagnose(coded["items"].codes, coded["queries"].codes[known], codebook_sizes, vectors, quantizer.decode)
    column = market.items.data.column("categories")
    depths = {"coarse": category_ids(column, 1)[0], "fine": category_ids(column)[0]}
    found["purity"] = {depth: purity(coded["items"].codes, codebook_sizes, ids) for depth, ids in depths.items()}
    found["agreement"] = held_out_agreement(market, coded["items"], coded["queries"])
    return found


def _draw(run: RunFolder, market: Market, coded: StoredCodes, vectors: np.ndarray, wanted: bool) -> list[str]:
    """Names of the files drawn. An older page goes first: it shows other codes."""
    for name in PAGE_NAMES:
        (run.sids / name).unlink(missing_ok=True)
    if not wanted:
        return []
    if not plots_available():
        logger.warning("matplotlib is not installed, so no page of the diagnostics is drawn; pip install 'onesearch[plots]'")
        return []
    titles = market.items.data.column("title").to_pylist()
    draw_page(run.sids, coded.codes, coded.codebook_sizes, vectors, titles)
    return list(PAGE_NAMES)
