"""From embeddings to Semantic IDs: keyword fusion, codebooks, codes of all items, diagnostics."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, write_json

from .diagnostics import diagnose
from .embeddings import distinct_queries, load_embeddings, load_encoder
from .keywords import KeywordMatcher, fuse, mine_keywords
from .quantizers.rq_opq import RQOPQ, RQOPQConfig, suggest_widths
from .text_encoder import embed_texts

logger = logging.getLogger(__name__)

MAX_PREFIXES_PER_ITEM = 5000
"""Above this the residual levels are called too wide; ours. `suggest_widths` stays below 2,200."""


@dataclass(frozen=True)
class ItemCodes:
    """Codes of a catalogue, ready for an item index.

    Args:
        item_ids: as in the items table.
        codes: (items, levels).
        popularity: (items,) purchases in the training split, plus a click as a hundredth of one.
        widths: codes per level.
        digest: of the codebooks.
    """

    item_ids: list[str]
    codes: np.ndarray
    popularity: np.ndarray
    widths: tuple[int, ...]
    digest: str


def build_sids(run: RunFolder, config: RQOPQConfig, keywords: bool = True, fit_on: str = "items") -> ItemCodes:
    """Train codebooks on a run's items, encode the catalogue, write ``sids/codebooks.safetensors`` and diagnostics.

    Args:
        keywords: fuse the embeddings of core keywords into those of items and queries.
        fit_on: ``items``, or ``both`` to train on items and distinct queries together as the authors' code does. Both are then encoded
            by the same codebooks. With our static encoder short queries lie far from item texts and take the codes away: on the
            simulated market (2,000 items, 8,370 queries) ``both`` leaves 3 of 64 first codes to items and 56 % of them with a SID of
            their own, ``items`` 64 and 99 %.
    """
    if fit_on not in ("items", "both"):
        raise ValueError(f"fit_on={fit_on!r}: allowed are 'items', 'both'")
    market = Market.load(run.require("market", "onesearch data"))
    items, queries = load_embeddings(run, "items"), load_embeddings(run, "queries")
    _warn_if_too_wide(config, len(items))
    if keywords:
        items, queries = _with_keywords(run, market, items, queries)
    known = queries[np.abs(queries).sum(axis=1) > 0] if fit_on == "both" else queries[:0]
    quantizer = RQOPQ.fit(np.concatenate([items, known]), config)
    codes = quantizer.encode(items)
    quantizer.save_pretrained(run.sids)
    decoded = None if config.normalise_residuals else quantizer.decode(codes)
    report = diagnose(codes, config.widths, items, decoded)
    write_json(run.sids / "diagnostics.json", {**report, "digest": quantizer.digest, "keywords": keywords, "fit_on": fit_on})
    logger.info("%s items, %s distinct SIDs", f"{len(codes):,}", f"{report['distinct_sids']:,}")
    item_ids = market.items.data.column("item_id").to_pylist()
    return ItemCodes(item_ids, codes, item_popularity(market, item_ids), config.widths, quantizer.digest)


def _warn_if_too_wide(config: RQOPQConfig, items: int) -> None:
    """Paper widths on a small catalogue make nearly every SID unique by accident and leave the model nothing to share."""
    prefixes = math.prod(config.levels)
    if prefixes > MAX_PREFIXES_PER_ITEM * items:
        better = suggest_widths(items)
        levels, opq = ",".join(map(str, better.levels)), "x".join(map(str, better.opq))
        logger.warning(
            "levels %s span %s prefixes for %s items, far too many; better: --levels %s --opq %s",
            ",".join(map(str, config.levels)), f"{prefixes:,}", f"{items:,}", levels, opq,
        )  # fmt: skip


def item_popularity(market: Market, item_ids: list[str]) -> np.ndarray:
    """(items,) float32: the order of items that share a SID, from the training split alone."""
    counts: Counter[str] = Counter()
    for request in build_requests(market, "train"):
        counts.update(dict.fromkeys(request.purchased, 1.0))
        counts.update(dict.fromkeys(request.clicked, 0.01))
    return np.array([counts[item_id] for item_id in item_ids], dtype=np.float32)


def _with_keywords(run: RunFolder, market: Market, items: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = mine_keywords(market)
    if not found:
        logger.info("no item has attributes: nothing to fuse")
        return items, queries
    matcher = KeywordMatcher(found)
    vectors = embed_texts(load_encoder(run), [keyword.text for keyword in found])
    fused_items = fuse(items, [matcher.match(text) for text in item_texts(market)], vectors)
    return fused_items, fuse(queries, [matcher.match(text) for text in distinct_queries(market)], vectors)
