"""The end of a joint training: the whole catalogue is encoded once more, and its Semantic IDs are published. They never move again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.session_pairs import category_ids
from onesearch.files import RunFolder, write_json
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration
from onesearch.serving.item_encoding import encode_items, encoder_fingerprint
from onesearch.tokenization_sid.sids.code_files import Reference, StoredCodes, codes_path
from onesearch.tokenization_sid.sids.diagnostics import DIAGNOSTICS_NAME, SCHEMA, measures, purity
from onesearch.tokenization_sid.sids.level_meaning import item_values, level_meaning
from onesearch.tokenization_sid.sids.plots import PAGE_NAMES, draw_page, plots_available
from onesearch.tokenization_sid.sids.sid_encoder import centroid_distances, code_centroids
from onesearch.tokenization_sid.sids.sid_folder import ITEM_INDEX_NAME, replaced_sids
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

from .building import JointParts

logger = logging.getLogger(__name__)


def publish_sids(run: RunFolder, parts: JointParts, page: bool = True) -> SidIndex:
    """Encode the catalogue with the final item encoder, give model and tokenizer its fingerprint, and write ``sids/``.

    Args:
        run: folder of the run.
        parts: parts of the training, with the trained model.
        page: draw the diagnostics, if matplotlib is installed.

    Returns:
        The item index, which is also set in the model.
    """
    model, tokenizer = parts.model, parts.inputs.tokenizer
    encoded = encode_items(model.model, parts.examples.inputs)
    fingerprint = encoder_fingerprint(model.model)
    index = parts.make_index(encoded.codes, fingerprint)
    _set_fingerprint(model, tokenizer, fingerprint)
    model.set_sid_index(index)
    with replaced_sids(run) as folder:
        _write_parts(folder, parts.market, index, encoded.codes, encoded.vectors.sum(1), page)
    return index


def _set_fingerprint(model: UniSearchForConditionalGeneration, tokenizer: SidTokenizer, fingerprint: str) -> None:
    model.config.sid_fingerprint = fingerprint
    tokenizer.init_kwargs["sid_fingerprint"] = fingerprint


def _write_parts(folder: Path, market: Market, index: SidIndex, codes: np.ndarray, vectors: np.ndarray, page: bool) -> None:
    """Item index, codes, reference for new items, and diagnostics.

    Args:
        folder: folder of the parts.
        market: catalogue.
        index: item index of the codes.
        codes: (items, levels).
        vectors: (items, dim) sum of each item's vectors.
        page: draw the diagnostics.
    """
    sizes = tuple(int(size) for size in index.codebook_sizes)
    index.save(folder / ITEM_INDEX_NAME)
    centroids = code_centroids(vectors, codes[:, 0], sizes[0])
    distances = np.percentile(centroid_distances(vectors, codes[:, 0], centroids), np.arange(101)).astype(np.float32)
    known = np.ones(len(codes), dtype=bool)
    stored = StoredCodes(codes.astype(np.int32), known, sizes, index.fingerprint, Reference(centroids, distances))
    stored.save(codes_path(folder, "items"))
    pages: list[str] = []
    if page and plots_available():
        draw_page(folder, codes, sizes, vectors, market.items.data.column("title").to_pylist())
        pages = list(PAGE_NAMES)
    write_json(folder / DIAGNOSTICS_NAME, {**_diagnostics(market, index, codes), "page": pages})


def _diagnostics(market: Market, index: SidIndex, codes: np.ndarray) -> dict[str, Any]:
    """Diagnostics in the form of `onesearch.tokenization_sid.sids.diagnostics`; queries have no Semantic IDs here."""
    sizes = [int(size) for size in index.codebook_sizes]
    column = market.items.data.column("categories")
    depths = {"coarse": category_ids(column, 1)[0], "fine": category_ids(column)[0]}
    return {
        "schema": SCHEMA,
        "fingerprint": index.fingerprint,
        "codebook_sizes": sizes,
        "fit_on": "items",
        "keywords": False,
        "fusion": None,
        "keyword_lists": {},
        "named": {"items": 0.0, "queries": 0.0},
        "items": measures(codes, sizes),
        "queries": None,
        "both": None,
        "purity": {depth: purity(codes, sizes, ids) for depth, ids in depths.items()},
        "told": level_meaning(codes, sizes, item_values(market)),
        "agreement": {"split": "validation", "click": None, "purchase": None},
    }


__all__ = ["publish_sids"]
