"""New items under frozen codebooks: encode, append, report. A published SID never moves, nor does any file that holds one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.arrow_tables import as_dataset, conform
from onesearch.data.checking import check_items
from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, locked
from onesearch.parquet_files import declared_size, read_given_table

from ..embedding.embeddings import load_facts
from .appended_files import load_appended, save_appended
from .code_files import load_codes
from .drift import Collisions, Drift, DriftConfig, count_collisions, measure_drift
from .item_codes import ItemCodes
from .sid_encoder import SidEncoder, centroid_distances

logger = logging.getLogger(__name__)

KNOWN = ("raise", "skip")
"""What happens with items that are published already."""

CHECKED_ITEMS = 16
"""Number of published items that are encoded again before an append; more than half must get their own SIDs. Our choice."""


MAX_ROWS = 1_000_000
"""Largest number of items of one append. Every append encodes its items in memory, and reads those of earlier ones. Our choice, as for
`items add`."""

MAX_BYTES = 1 << 30
"""Largest size of the columns of one append in memory. Our choice: a million items with long descriptions take less."""


class EncodedItems(NamedTuple):
    """Encoded items.

    Attributes:
        coded: ids, codes and categories.
        vectors: vectors with keywords fused in, (items, dimension).
        known: whether the encoder knows a word of each item, (items,) bool.
    """

    coded: ItemCodes
    vectors: np.ndarray
    known: np.ndarray


EncodeItems = Callable[[pa.Table, np.ndarray | None], EncodedItems]
"""(items table, (published items, levels) codes that the items are new beside, or None) → encoded items."""


@dataclass(frozen=True)
class AppendReport:
    """Result of an append.

    Args:
        path: the file that was written; None if no item was new.
        skipped: number of items that were published already and were left as they are.
        collisions: how the new items share SIDs; None if no item was new.
        drift: how the new items differ from the published ones; None if no item was new.
    """

    path: Path | None
    skipped: int
    collisions: Collisions | None
    drift: Drift | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for printing or JSON."""
        return {**asdict(self), "path": str(self.path) if self.path else None}


def read_items(path: str | Path) -> pa.Table:
    """Read new items from a parquet file, in the columns of `onesearch.data.schema.TABLES`.

    Raises:
        FileNotFoundError: the file does not exist.
        IsADirectoryError: the path is a folder.
        ValueError: the table has more than `MAX_ROWS` rows or `MAX_BYTES` bytes (nothing is read then), columns do not fit, or a value
            breaks a rule of `onesearch.data.checking.check_items`; the message names the row, counted from 0.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; new items come as one parquet file with the columns of the items table")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; new items come as a parquet file with the columns of the items table")
    _refuse_large_file(path)
    table = conform("items", read_given_table(path), origin=str(path)).combine_chunks()
    problems = list(check_items({name: table.column(name) for name in table.column_names}))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(f"{path}, row {problems[0].row}: {problems[0].message}{more}; correct the table")
    return table


def _refuse_large_file(path: Path) -> None:
    """Refuse a parquet file that is too large, by its own counts and before anything is read; a damaged one is left to its reader."""
    try:
        rows, size = declared_size(path)
    except (pa.ArrowException, OSError):
        return
    _refuse_large(str(path), rows, size)


def _refuse_large(where: str, rows: int, size: int) -> None:
    if rows > MAX_ROWS or size > MAX_BYTES:
        raise ValueError(
            f"{where} has {rows:,} rows and {size:,} bytes; at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes can be appended at once: "
            "split it, or put the items into the market and build the SIDs again"
        )


def encode_items(run: RunFolder, items: pa.Table, known: str = "raise") -> ItemCodes:
    """Encode new items under the run's frozen encoder, keywords and codebooks, without writing anything.

    Args:
        run: run with SIDs.
        items: items table, as `read_items` gives it.
        known: ``raise``, or ``skip`` to leave items that are published already, and their SIDs, as they are.

    Raises:
        ValueError: an item is published already and `known` is ``raise``; or the run's encoder, text fields or market have changed since
            its SIDs were built, so that new codes would not fit the published ones.
    """
    encode = _frozen_encoder(run)
    _refuse_changed(run, encode)
    published = np.concatenate([load_codes(run, "items").codes, load_appended(run).codes])
    return encode(_new_items(run, items, known), published).coded


def append_items(
    run: RunFolder,
    items: pa.Table,
    known: str = "raise",
    config: DriftConfig | None = None,
    encode: EncodeItems | None = None,
) -> AppendReport:
    """Encode new items, add them to ``sids/appended/`` as one file, and report their collisions and drift.

    Args:
        run: run with SIDs. One process at a time appends; others wait.
        items: items table, as `read_items` gives it.
        known: ``raise``, or ``skip`` to leave items that are published already, and their SIDs, as they are.
        config: thresholds of the drift warnings; None takes the defaults.
        encode: encodes the items instead of the run's encoder and codebooks, as UniSearch's item encoder does.

    Raises:
        ValueError: as `encode_items`, or there are more than `MAX_ROWS` rows or `MAX_BYTES` bytes.
        TimeoutError: another process has been appending to the run for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    run.require("sids", "onesearch sids build")
    _refuse_large("the table", len(items), items.nbytes)
    with locked(run.append_lock, f"appending to {run.root}"):
        return _append(run, items, known, config or DriftConfig(), encode or _frozen_encoder(run))


def _append(run: RunFolder, items: pa.Table, known: str, config: DriftConfig, encode: EncodeItems) -> AppendReport:
    _refuse_changed(run, encode)
    stored, before = load_codes(run, "items"), load_appended(run)
    if stored.reference is None:
        raise ValueError(f"{run.sids} holds no reference for new items; build the SIDs again")
    new = _new_items(run, items, known)
    if not len(new):
        return AppendReport(None, len(items), None, None)
    published = np.concatenate([stored.codes, before.codes])
    encoded = encode(new, published)
    codes, sizes = encoded.coded.codes, encoded.coded.codebook_sizes
    path = save_appended(run, new, encoded.coded)
    distances = centroid_distances(encoded.vectors, codes[:, 0], stored.reference.centroids)
    unknown = int((~encoded.known).sum())
    drift = measure_drift(published, codes, distances, stored.reference.distances, sizes, config, unknown)
    for warning in drift.warnings:
        logger.warning("%s", warning)
    return AppendReport(path, len(items) - len(new), count_collisions(published, codes, sizes), drift)


def appended_codes(run: RunFolder) -> ItemCodes:
    """All items that were appended to a run, with a popularity of 0, for an item index beside those of `build_sids`."""
    stored, added = load_codes(run, "items"), load_appended(run)
    item_ids, categories = added.table.column("item_id").to_pylist(), added.table.column("categories").to_pylist()
    popularity = np.zeros(len(item_ids), dtype=np.float32)
    return ItemCodes(item_ids, added.codes, popularity, stored.codebook_sizes, stored.fingerprint, categories)


def _new_items(run: RunFolder, items: pa.Table, known: str) -> pa.Table:
    """Items that are not published yet; with `known` ``raise`` a published one raises."""
    if known not in KNOWN:
        raise ValueError(f"known={known!r} is unknown; allowed are {', '.join(KNOWN)}")
    market = Market.load(run.require("market", "onesearch data"))
    column = items.column("item_id").combine_chunks()
    published = np.zeros(len(items), dtype=bool)
    for ids in (market.items.data.column("item_id"), load_appended(run).table.column("item_id")):
        published |= np.asarray(pc.is_in(column, value_set=ids.combine_chunks().cast(column.type)))
    if published.any() and known == "raise":
        row = int(published.argmax())
        raise ValueError(
            f"item {column[row].as_py()!r} (row {row}) and {int(published.sum()) - 1:,} more are published already, and a published SID "
            "never moves; leave them out, or skip them with --known skip"
        )
    return items.filter(pa.array(~published))


def _refuse_changed(run: RunFolder, encode: EncodeItems) -> None:
    """Raise if published items no longer get their own SIDs.

    Fingerprints identify the codebooks, but not the encoder and the text fields, so that a sample of the items is encoded again.
    """
    items, stored = Market.load(run.require("market", "onesearch data")).items, load_codes(run, "items")
    rows = np.unique(np.linspace(0, len(items) - 1, CHECKED_ITEMS).astype(int))
    if len(items) == len(stored.codes):
        again = encode(items.with_format("arrow")[rows.tolist()], None).coded.codes
        if (again == stored.codes[rows]).all(axis=1).mean() > 0.5:
            return
    raise ValueError(
        f"the encoder, the text fields or the items of {run.root} have changed since its SIDs were built: published items no longer get "
        "their own SIDs; restore them, or build the SIDs again (which moves every SID)"
    )


def encode_table(run: RunFolder, encoder: SidEncoder, items: pa.Table) -> EncodedItems:
    """Encode any part of a catalogue, each item by itself, so that the codes do not depend on how the catalogue is divided.

    If the codebooks are balanced inside parents, the items of the catalogue that trained them get the codes that they have there. Other
    items may crowd into a code; `rebalanced` makes room.

    Args:
        run: run with the market, whose text fields are read.
        encoder: frozen parts of the run.
        items: items table, in the columns of `onesearch.data.schema.TABLES`.
    """
    return _encode(run, encoder, items)


def is_balanced_inside_parents(encoder: SidEncoder) -> bool:
    """Whether the code of an item depends on the other items of its parent."""
    return encoder.quantizer.for_queries is not encoder.quantizer


def parents_of(encoder: SidEncoder, codes: np.ndarray) -> np.ndarray:
    """Number of the parent of each item, ``(items,)`` int64: its codes before the last residual level. `codes` is ``(items, levels)``."""
    before_last = encoder.quantizer.config.residual_sizes[:-1]
    numbers = np.zeros(len(codes), dtype=np.int64)
    for level, size in enumerate(before_last):
        numbers = numbers * size + codes[:, level]
    return numbers


def rebalanced(encoder: SidEncoder, item_ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Codes of a new catalogue, or of whole parents of it, under codebooks that are balanced inside parents.

    The items are taken in the order of their ids, and each takes the nearest code that has room in its parent, as in an append. The codes
    depend on the items of the same parent alone.

    Args:
        encoder: frozen parts of a run.
        item_ids: (n,) ids.
        vectors: (n, dimension) vectors of the items, with keywords fused in.

    Returns:
        (n, levels) int32, in the order of `item_ids`.
    """
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    levels = len(encoder.quantizer.config.codebook_sizes)
    codes = np.empty((len(item_ids), levels), dtype=np.int32)
    codes[order] = encoder.quantizer.encode_new(vectors[order], np.zeros((0, levels), dtype=np.int32))
    return codes


def _frozen_encoder(run: RunFolder) -> EncodeItems:
    """The run's frozen encoder, keywords and codebooks."""
    return partial(_encode, run, SidEncoder.load(run))


def _encode(run: RunFolder, encoder: SidEncoder, items: pa.Table, published: np.ndarray | None = None) -> EncodedItems:
    """Encode an items table with the text fields of the run's market.

    Args:
        run: run with the market.
        encoder: frozen parts of the run.
        items: items table.
        published: (published items, levels) codes that the items are new beside; None encodes items that are published themselves.
    """
    market = market_of(run, items)
    texts = item_texts(market)
    codebook_sizes = encoder.quantizer.config.codebook_sizes
    vectors, known = np.zeros((0, encoder.quantizer.dimension)), np.zeros(0, dtype=bool)
    codes = np.zeros((0, len(codebook_sizes)), dtype=np.int32)
    if texts:
        vectors, known = encoder.embed(texts, load_facts(run).texts(market), encoder.core.further_texts(items))
        quantizer = encoder.quantizer
        codes = quantizer.encode(vectors) if published is None else quantizer.encode_new(vectors, published)
    item_ids, categories = items.column("item_id").to_pylist(), items.column("categories").to_pylist()
    popularity = np.zeros(len(item_ids), dtype=np.float32)
    paths = [list(path or ()) for path in categories]
    coded = ItemCodes(item_ids, codes, popularity, codebook_sizes, encoder.quantizer.fingerprint, paths)
    return EncodedItems(coded, vectors, known)


def market_of(run: RunFolder, items: pa.Table) -> Market:
    """The run's market with other items. Statistics that are counted in sessions are those of published items; new ones have none."""
    return replace(Market.load(run.require("market", "onesearch data")), items=as_dataset(items))


__all__ = [
    "AppendReport",
    "EncodeItems",
    "EncodedItems",
    "append_items",
    "appended_codes",
    "encode_items",
    "encode_table",
    "is_balanced_inside_parents",
    "market_of",
    "parents_of",
    "read_items",
    "rebalanced",
]
