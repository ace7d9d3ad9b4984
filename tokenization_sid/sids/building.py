"""From embeddings to Semantic IDs: keyword fusion, codebooks, codes of all items and queries, diagnostics.

`build_sids` writes to ``sids/``: ``codebooks.safetensors`` (`quantizers/`), ``keywords.parquet`` (`keyword_files.py`),
``item_codes.safetensors`` and ``query_codes.safetensors`` (`code_files.py`), ``diagnostics.json`` (`diagnostics.py`) and its page as
``diagnostics.png`` and ``diagnostics.svg`` (`plots.py`), all of which but the page name the fingerprint of the codebooks;
``built_from.json`` (`sid_folder.py`), which names the embeddings; and ``recogniser/`` if one was trained (`recogniser.py`).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.data.session_pairs import category_ids, query_rows, session_items
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, write_json

from ..embedding.embeddings import distinct_queries, load_embeddings, load_encoder
from ..embedding.text_encoder import embed_texts, unit_rows
from ..keywords.configs import KeywordConfig
from ..keywords.keyword_files import KEYWORDS_NAME, read_dictionary, save_keywords
from ..keywords.keywords import CoreKeywords, Keyword
from ..keywords.recognised import market_keywords
from ..quantizers.base import Quantizer
from ..quantizers.configs import QuantizerConfig, suggest_codebook_sizes
from ..quantizers.loading import fit_quantizer
from .appended_files import FOLDER as APPENDED
from .code_files import Reference, StoredCodes, codes_path
from .diagnostics import DIAGNOSTICS_NAME, SCHEMA, agreement, diagnose, purity
from .encoding import encode_rows, encode_share
from .fusion import FusionCheck, check_fusion, decide
from .item_codes import ItemCodes, item_popularity
from .level_meaning import item_values, level_meaning
from .plots import PAGE_NAMES, draw_page, plots_available
from .sid_encoder import centroid_distances, code_centroids, known_rows
from .sid_folder import replaced_sids, write_source

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

DEFAULT_KEYWORDS = KeywordConfig()
"""Keywords of a build that is given none of its own: mined lists, fused unless that lowers ICR or purity."""

MAX_PREFIXES_PER_ITEM = 5000
"""Number of possible prefixes per item above which a warning says that the residual levels are too large. `suggest_codebook_sizes` stays
at 512 and below. Our choice."""


def build_sids(
    run: RunFolder,
    config: QuantizerConfig | Callable[[int], QuantizerConfig],
    keywords: KeywordConfig | None = DEFAULT_KEYWORDS,
    fit_on: str = "items",
    dictionary: str | Path | None = None,
    page: bool = True,
    accelerator: Accelerator | None = None,
    add_parts: Callable[[Path, ItemCodes], None] | None = None,
) -> ItemCodes | None:
    """Build the SIDs of a run and write ``sids/`` (see the module), whose parts appear together or not at all.

    1. Mine core keywords and fuse them into the embeddings of items and queries.
    2. Train the codebooks.
    3. Encode the catalogue and the distinct queries.
    4. Measure the codes and draw the diagnostics.

    Args:
        run: run with a market and embeddings.
        config: config of the quantizer: `RQOPQConfig`, `RQKMeansConfig`, `PRQConfig`, `RQVAEConfig` or `SimVQConfig`. A
            function, such as `suggest_codebook_sizes`, is called with the number of distinct item vectors and returns one: items with
            equal vectors cannot train different codes.
        keywords: which core keywords are mined, and whether they are fused. None mines none and encodes the embeddings as they are.
        fit_on: vectors that train the codebooks: ``items``, or ``both`` for items and distinct queries together, as in the authors' code.
            Both are then encoded by the same codebooks. With the static encoder short queries lie far from item texts and take many of
            the codes: on the simulated market (2,000 items, 8,370 queries) ``both`` leaves 3 of 64 first codes to items and gives 56 % of
            them a SID of their own; ``items`` leaves 64 and gives 99 %.
        dictionary: file of further keywords, see `read_dictionary`.
        page: draw the diagnostics, if matplotlib is installed.
        accelerator: its processes share the encoding on one run folder, and the main one trains the codebooks and writes. The files are
            those of one process. None does everything in this process.
        add_parts: writes further parts, such as the item index, into the folder that it is called with, before the folder takes the
            place of ``sids/``.

    Returns:
        Codes of the items; None in processes other than the main one.

    Raises:
        FileNotFoundError: the run has no market or no embeddings, or the dictionary does not exist.
        ValueError: an argument is invalid, or the vectors cannot train the codebooks.
    """
    if accelerator is not None and not accelerator.is_main_process:
        encode_share(run, accelerator)
        return None
    if fit_on not in ("items", "both"):
        raise ValueError(f"fit_on={fit_on!r} is unknown; allowed are 'items', 'both'")
    if dictionary is not None and keywords is None:
        raise ValueError(
            f"dictionary={str(dictionary)!r} needs keywords: without them it would be ignored; give a KeywordConfig"
        )
    given = read_dictionary(dictionary) if dictionary is not None else []
    market = Market.load(run.require("market", "onesearch data"))
    with replaced_sids(run) as folder:
        write_source(run, folder)
        fused = _fused_vectors(run, market, given, keywords, folder)
        if callable(config):
            config = config(_distinct(fused.items))
        _warn_if_too_large(config, len(fused.items))
        known_queries = fused.queries[known_rows(fused.queries)] if fit_on == "both" else fused.queries[:0]
        quantizer = fit_quantizer(np.concatenate([fused.items, known_queries]), config)
        quantizer.save_pretrained(folder)
        save_keywords(folder / KEYWORDS_NAME, fused.core, quantizer.fingerprint)
        if accelerator is not None:
            accelerator.wait_for_everyone()  # the others read the codebooks now
        coded = _encode(folder, quantizer, fused, accelerator)
        report = {
            "schema": SCHEMA,
            "fingerprint": quantizer.fingerprint,
            "codebook_sizes": list(quantizer.config.codebook_sizes),
            "fit_on": fit_on,
            "keywords": fused.core.fused and bool(fused.core.keywords),
            "fusion": None if fused.check is None else fused.check.to_dict(),
            "keyword_lists": dict(Counter(keyword.kind for keyword in fused.core.keywords)),
            "named": fused.named,
            **_measured(market, quantizer, coded, fused),
            "page": _draw(folder, market, coded.items, fused.items, page),
        }
        write_json(folder / DIAGNOSTICS_NAME, report)
        built = _item_codes(market, coded.items)
        if add_parts is not None:
            add_parts(folder, built)
    logger.info("%s items, %s distinct SIDs", f"{len(fused.items):,}", f"{report['items']['distinct_sids']:,}")
    _warn_of_appended(run, quantizer.fingerprint)
    return built


class _Fused(NamedTuple):
    """Unit vectors with keywords fused in, (items, dimension) and (queries, dimension), and the keywords.

    `named` is the share of the ``items`` and of the ``queries`` that name a keyword, `check` what fusion does to the codes; None if there
    was no choice.
    """

    items: np.ndarray
    queries: np.ndarray
    core: CoreKeywords
    named: dict[str, float]
    check: FusionCheck | None


class _Coded(NamedTuple):
    """Codes of the items and of the distinct queries."""

    items: StoredCodes
    queries: StoredCodes


def _distinct(vectors: np.ndarray) -> int:
    """Number of distinct rows."""
    return len({hash(row.tobytes()) for row in vectors})


def _fused_vectors(
    run: RunFolder, market: Market, given: Sequence[Keyword], keywords: KeywordConfig | None, folder: Path
) -> _Fused:
    """Read the embeddings and fuse the mined keywords and those of a dictionary (`given`) into them, if that pays."""
    items, queries = load_embeddings(run, "items"), load_embeddings(run, "queries")
    core = _no_keywords(items.shape[1])
    if keywords is not None:
        core = _core_keywords(run, market, given, keywords, items.shape[1], folder)
    item_matches = core.match(item_texts(market), core.further_texts(market.items.with_format("arrow")[:]))
    query_matches = core.match(distinct_queries(market))
    named = {"items": _share_with_match(item_matches), "queries": _share_with_match(query_matches)}
    fused_items, check = core.fuse_matched(items, item_matches), None
    if keywords is not None and core.fused and core.keywords:
        categories = category_ids(market.items.data.column("categories"))[0]
        check = check_fusion(unit_rows(items), fused_items, categories)
        core = replace(core, fused=decide(keywords.fusion, check))
    fused_items, fused_queries = core.fuse_matched(items, item_matches), core.fuse_matched(queries, query_matches)
    return _Fused(fused_items, fused_queries, core, named, check)


def _share_with_match(matches: Sequence[Sequence[int]]) -> float:
    return float(np.mean([bool(rows) for rows in matches] or [False]))


def held_out_agreement(market: Market, items: StoredCodes, queries: StoredCodes, split: str = "validation") -> dict[str, Any]:
    """Agreement of the codes of queries with those of the items that followed, in the sessions of one split.

    Args:
        market: sessions and catalogue.
        items: codes of the items table.
        queries: codes of the distinct queries.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        ``split``, and `agreement` for ``click`` and ``purchase``.
    """
    rows = query_rows(market, distinct_queries(market))
    found: dict[str, Any] = {"split": split}
    for kind, column in (("click", "clicked"), ("purchase", "purchased")):
        sessions, targets = session_items(market, split, (column,))
        asked = rows[sessions]
        usable = (asked >= 0) & queries.known[asked]
        found[kind] = agreement(queries.codes[asked[usable]], items.codes[targets[usable]], items.codebook_sizes)
    return found


def _warn_if_too_large(config: QuantizerConfig, items: int) -> None:
    """The paper's codebook sizes make nearly every SID of a small catalogue unique, so that items share no prefixes to learn from."""
    prefixes = math.prod(config.residual_sizes)
    if prefixes > MAX_PREFIXES_PER_ITEM * items:
        better = suggest_codebook_sizes(items)
        levels, opq = ",".join(map(str, better.residual_sizes)), "x".join(map(str, better.opq))
        logger.warning(
            "residual sizes %s give %s prefixes for %s items, far too many; better: --residual-sizes %s --opq %s",
            ",".join(map(str, config.residual_sizes)), f"{prefixes:,}", f"{items:,}", levels, opq,
        )  # fmt: skip


def _core_keywords(
    run: RunFolder, market: Market, given: Sequence[Keyword], config: KeywordConfig, dimension: int, folder: Path
) -> CoreKeywords:
    """Mined and recognised keywords and those of a dictionary, embedded by the run's encoder; `folder` gets the recogniser."""
    found = market_keywords(market, given, config, folder)
    if not found.keywords:
        logger.info("no item has attributes, brand, category, price or tags: there are no keywords to fuse")
        return _no_keywords(dimension)
    vectors = embed_texts(load_encoder(run), [keyword.text for keyword in found.keywords])
    return CoreKeywords(found.keywords, vectors, config.core, found.bands, fused=config.fusion != "never")


def _no_keywords(dimension: int) -> CoreKeywords:
    return CoreKeywords([], np.zeros((0, dimension), dtype=np.float32))


def _encode(folder: Path, quantizer: Quantizer[Any], fused: _Fused, accelerator: Accelerator | None) -> _Coded:
    """Encode and save items and queries."""
    sizes, fingerprint = quantizer.config.codebook_sizes, quantizer.fingerprint
    item_codes = encode_rows(quantizer, len(fused.items), fused.items.__getitem__, accelerator)
    query_codes = encode_rows(quantizer.for_queries, len(fused.queries), fused.queries.__getitem__, accelerator)
    reference = _reference(fused.items, item_codes[:, 0], sizes[0])
    coded = _Coded(
        StoredCodes(item_codes, known_rows(fused.items), sizes, fingerprint, reference),
        StoredCodes(query_codes, known_rows(fused.queries), sizes, fingerprint),
    )
    coded.items.save(codes_path(folder, "items"))
    coded.queries.save(codes_path(folder, "queries"))
    return coded


def _reference(vectors: np.ndarray, first: np.ndarray, size: int) -> Reference:
    """Comparison for new items, from vectors (items, dimension), their level-0 codes (items,) and the size of that codebook."""
    centroids = code_centroids(vectors, first, size)
    distances = centroid_distances(vectors, first, centroids)
    return Reference(centroids, np.percentile(distances, np.arange(101)).astype(np.float32))


def _measured(market: Market, quantizer: Quantizer[Any], coded: _Coded, fused: _Fused) -> dict[str, Any]:
    """Parts of the diagnostics that are measured: measures, purity, what each level tells, and agreement."""
    known, sizes = coded.queries.known, quantizer.config.codebook_sizes
    vectors = fused.items, fused.queries[known]
    found = diagnose(coded.items.codes, coded.queries.codes[known], sizes, vectors, quantizer.decode)
    column = market.items.data.column("categories")
    depths = {"coarse": category_ids(column, 1)[0], "fine": category_ids(column)[0]}
    found["purity"] = {depth: purity(coded.items.codes, sizes, ids) for depth, ids in depths.items()}
    found["told"] = level_meaning(coded.items.codes, sizes, item_values(market))
    found["agreement"] = held_out_agreement(market, coded.items, coded.queries)
    return found


def _draw(folder: Path, market: Market, coded: StoredCodes, vectors: np.ndarray, wanted: bool) -> list[str]:
    """Draw the page into `folder` and return the names of its files."""
    if not wanted:
        return []
    if not plots_available():
        logger.warning("matplotlib is not installed, so no page of the diagnostics is drawn: pip install onesearch[plots]")
        return []
    titles = market.items.data.column("title").to_pylist()
    draw_page(folder, coded.codes, coded.codebook_sizes, vectors, titles)
    return list(PAGE_NAMES)


def _warn_of_appended(run: RunFolder, fingerprint: str) -> None:
    """Items of earlier appends stay on disk, but a new item index does not hold them."""
    folder = run.sids / APPENDED
    if any(folder.glob("*.parquet")):
        logger.warning(
            "%s holds items that were appended to the SIDs before codebooks %s…; the new item index does not hold them: put them into "
            "the market's items and build again, or remove the folder and append them again with `onesearch sids append`",
            folder, fingerprint[:12],
        )  # fmt: skip


def _item_codes(market: Market, coded: StoredCodes) -> ItemCodes:
    """Codes of the items table, for an item index."""
    item_ids = market.items.data.column("item_id").to_pylist()
    categories = [list(path or ()) for path in market.items.data.column("categories").to_pylist()]
    popularity = item_popularity(market, item_ids)
    return ItemCodes(item_ids, coded.codes, popularity, coded.codebook_sizes, coded.fingerprint, categories)


__all__ = ["build_sids", "held_out_agreement"]
