"""New items under frozen codebooks: encode, report, append. A published SID never moves, nor does any file that holds one.

Each append adds one file ``sids/appended/00000.parquet``, ``00001.parquet``, …, with the columns ``item_id``, ``title``, ``categories`` and
``codes`` (list of int32 of fixed length); its schema metadata are ``format``, ``widths`` and the ``digest`` of the codebooks.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onesearch.data.market import Market, as_dataset, conform
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, atomic_file, locked, read_json
from onesearch.parquet_files import read_given_table, read_own_table

from .building import ItemCodes
from .code_files import load_codes
from .drift import Collisions, Drift, DriftConfig, count_collisions, measure_drift
from .sid_encoder import SidEncoder, centroid_distances

logger = logging.getLogger(__name__)

FOLDER = "appended"
FORMAT = "onesearch-appended/1"
KNOWN = ("raise", "skip")

CHECKED_ITEMS = 16
"""Published items that are encoded again before an append: most must get their own SIDs; ours."""


@dataclass(frozen=True)
class AppendReport:
    """What an append did: the file written, None if there was nothing new, and what it holds."""

    path: Path | None
    skipped: int
    collisions: Collisions | None
    drift: Drift | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for printing or JSON."""
        return {**asdict(self), "path": str(self.path) if self.path else None}


@dataclass(frozen=True)
class Appended:
    """All items appended to a run, in order.

    Args:
        table: ``item_id``, ``title``, ``categories``; codes: (items, levels) int32.
    """

    table: pa.Table
    codes: np.ndarray


def read_items(path: str | Path) -> pa.Table:
    """Items table of new items from a parquet file, in the columns of `onesearch.data.market.TABLES`.

    Raises:
        ValueError: columns that do not fit, a blank or repeated id or a blank title; the message names the row, counted from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; new items come as a parquet file with the columns of the items table")
    table = conform("items", read_given_table(path), origin=str(path)).combine_chunks()
    for name in ("item_id", "title"):
        blank = np.asarray(pc.equal(pc.fill_null(pc.utf8_trim_whitespace(table.column(name)), ""), ""))
        if blank.any():
            raise ValueError(f"{path}, row {int(blank.argmax())}: {name} is blank; every item needs one")
    ids = table.column("item_id").combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.unique(ids, return_index=True)[1]
    if len(first) < len(ids):
        row = int(np.setdiff1d(np.arange(len(ids)), first)[0])
        raise ValueError(f"{path}, row {row}: item_id {table.column('item_id')[row].as_py()!r} is there twice; keep one")
    return table


def encode_items(run: RunFolder, items: pa.Table, known: str = "raise") -> ItemCodes:
    """Codes of new items under the run's frozen encoder, keywords and codebooks; nothing is written and no published SID moves.

    Args:
        items: items table, as `read_items` gives it.
        known: what to do with items that are published already: ``raise``, or ``skip`` to leave them, and their SIDs, as they are.

    Raises:
        ValueError: an item is published already and `known` is ``raise``; or the run's encoder, text fields or market have changed since
            its SIDs were built, so that new codes would not fit the published ones.
    """
    encoder = SidEncoder.load(run)
    _refuse_changed(run, encoder)
    return _encode(run, encoder, _new_items(run, items, known))[0]


def append_items(run: RunFolder, items: pa.Table, known: str = "raise", config: DriftConfig | None = None) -> AppendReport:
    """Encode new items, add them to ``sids/appended/`` as one file, and say how they collide and drift.

    Args:
        items: items table, as `read_items` gives it; known: as in `encode_items`.
        config: thresholds of the drift warnings.

    Raises:
        ValueError: as `encode_items`.
        TimeoutError: another process has been appending to the run for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    run.require("sids", "onesearch sids build")
    with locked(run.append_lock, f"appending to {run.root}"):
        return _append(run, items, known, config or DriftConfig())


def _append(run: RunFolder, items: pa.Table, known: str, config: DriftConfig) -> AppendReport:
    encoder = SidEncoder.load(run)
    _refuse_changed(run, encoder)
    stored, before = load_codes(run, "items"), load_appended(run)
    fresh = _new_items(run, items, known)
    if not len(fresh):
        return AppendReport(None, len(items), None, None)
    coded, vectors, understood = _encode(run, encoder, fresh)
    published = np.concatenate([stored.codes, before.codes])
    path = run.sids / FOLDER / f"{_next_number(run):05d}.parquet"
    _save(path, fresh, coded)
    distances = centroid_distances(vectors, coded.codes[:, 0], stored.centroids)
    drift = measure_drift(
        published, coded.codes, distances, stored.distances, coded.codebook_sizes, config, int((~understood).sum())
    )
    for warning in drift.warnings:
        logger.warning("%s", warning)
    return AppendReport(path, len(items) - len(fresh), count_collisions(published, coded.codes, coded.codebook_sizes), drift)


def appended_codes(run: RunFolder) -> ItemCodes:
    """All items appended to a run as `ItemCodes` of popularity 0: what an item index takes beside those of `build_sids`."""
    stored, added = load_codes(run, "items"), load_appended(run)
    item_ids, categories = added.table.column("item_id").to_pylist(), added.table.column("categories").to_pylist()
    popularity = np.zeros(len(item_ids), dtype=np.float32)
    return ItemCodes(item_ids, added.codes, popularity, stored.codebook_sizes, stored.fingerprint, categories)


def load_appended(run: RunFolder) -> Appended:
    """What was appended to a run; nothing if nothing was. A file of other codebooks than the run's raises."""
    stored = load_codes(run, "items")
    levels = len(stored.codebook_sizes)
    remedy = "copy it again, or remove it and append its items again"
    paths = sorted((run.sids / FOLDER).glob("[0-9]*.parquet"))
    tables = [read_own_table(path, FORMAT, stored.fingerprint, remedy) for path in paths]
    table = pa.concat_tables(tables) if tables else _schema(levels).empty_table()
    codes = table.column("codes").combine_chunks().flatten()
    return Appended(table.drop_columns("codes").combine_chunks(), np.asarray(codes, dtype=np.int32).reshape(-1, levels))


def _new_items(run: RunFolder, items: pa.Table, known: str) -> pa.Table:
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


def _refuse_changed(run: RunFolder, encoder: SidEncoder) -> None:
    """The invariant needs what made the published codes: codebooks name their fingerprint, an encoder is known by what it gives."""
    items, stored = Market.load(run.require("market", "onesearch data")).items, load_codes(run, "items")
    rows = np.unique(np.linspace(0, len(items) - 1, CHECKED_ITEMS).astype(int))
    if len(items) == len(stored.codes):
        again = _encode(run, encoder, items.with_format("arrow")[rows.tolist()])[0].codes
        if (again == stored.codes[rows]).all(axis=1).mean() > 0.5:
            return
    raise ValueError(
        f"the encoder, the text fields or the items of {run.root} have changed since its SIDs were built: published items no longer get "
        "their own SIDs; restore them, or build the SIDs again (which moves every SID)"
    )


def _encode(run: RunFolder, encoder: SidEncoder, items: pa.Table) -> tuple[ItemCodes, np.ndarray, np.ndarray]:
    """Codes, vectors (items, dimension) and whether the encoder knows a word of each item."""
    info = read_json(run.market / "market.json")
    empty = {name: as_dataset(pa.table({})) for name in ("users", "sessions", "relevance")}
    texts = item_texts(Market(as_dataset(items), **empty, info=info))
    vectors, understood = encoder.embed(texts) if texts else (np.zeros((0, encoder.quantizer.dimension)), np.zeros(0, bool))
    codebook_sizes = encoder.quantizer.config.codebook_sizes
    codes = encoder.quantizer.encode(vectors) if texts else np.zeros((0, len(codebook_sizes)), dtype=np.int32)
    item_ids, categories = items.column("item_id").to_pylist(), items.column("categories").to_pylist()
    popularity = np.zeros(len(item_ids), dtype=np.float32)
    paths = [list(path or ()) for path in categories]
    return ItemCodes(item_ids, codes, popularity, codebook_sizes, encoder.quantizer.fingerprint, paths), vectors, understood


def _next_number(run: RunFolder) -> int:
    return max((int(path.stem) for path in (run.sids / FOLDER).glob("[0-9]*.parquet")), default=-1) + 1


def _schema(levels: int) -> pa.Schema:
    texts = pa.list_(pa.string())
    return pa.schema({"item_id": pa.string(), "title": pa.string(), "categories": texts, "codes": pa.list_(pa.int32(), levels)})


def _save(path: Path, items: pa.Table, coded: ItemCodes) -> None:
    levels = len(coded.codebook_sizes)
    codes = pa.FixedSizeListArray.from_arrays(pa.array(coded.codes.astype(np.int32).ravel()), levels)
    columns = [items.column("item_id"), items.column("title"), pa.array(coded.categories, pa.list_(pa.string())), codes]
    metadata = {
        "format": FORMAT,
        "codebook_sizes": json.dumps([int(width) for width in coded.codebook_sizes]),
        "fingerprint": coded.fingerprint,
    }
    table = pa.table(columns, schema=_schema(levels)).replace_schema_metadata(metadata)
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


__all__ = ["AppendReport", "Appended", "append_items", "appended_codes", "encode_items", "load_appended", "read_items"]
