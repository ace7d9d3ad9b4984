"""Appending to a finished run: new items are encoded with its frozen codebooks and added to its item indexes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from onesearch.files import LOCK_TIMEOUT, RunFolder, locked

from .run_lock import writing

if TYPE_CHECKING:
    from onesearch.tokenization_sid.sids.appending import AppendReport, EncodeItems


def append_to_run(run: RunFolder, table: Path, known: str = "raise") -> AppendReport:
    """Encode new items with the frozen parts of a run and make them searchable, in ``sids/`` and in ``checkpoint/`` if there is one.

    Their texts join the text index of the checkpoint, if it has one.

    Several processes may call this for one run at the same time: they append one after another.

    Args:
        run: run folder with SIDs.
        table: parquet file with the columns of the items table.
        known: ``raise`` refuses items that the run has already, ``skip`` leaves them out.

    Returns:
        Counts and diagnostics of the append; see `onesearch.tokenization_sid.sids.appending.append_items`.

    Raises:
        ValueError: the table does not fit, or an index belongs to other codebooks than the run.
        BlockingIOError: another command is writing into the run folder, or another process has been appending for
            `onesearch.files.LOCK_TIMEOUT` seconds.
        MissingExtraError: the checkpoint has a text index, and the extra ``evaluation`` is not installed; nothing is appended then.
    """
    from onesearch.serving.text_index import TEXT_INDEX_NAME, require_text_search
    from onesearch.tokenization_sid.sids.appending import append_items, read_items

    items = read_items(table)
    run.require("sids", "onesearch sids build")
    text_index = run.checkpoint / TEXT_INDEX_NAME
    if text_index.is_file():
        require_text_search(f"appending to a checkpoint with a text index ({text_index})")
    with writing(run, "onesearch sids append", LOCK_TIMEOUT), locked(run.append_lock, f"appending to {run.root}"):
        _index_appended(
            run
        )  # what an append left out that was stopped: its items are published, so that `append_items` refuses them
        report = append_items(run, items, known, encode=_unisearch_encoder(run))
        _index_appended(run)
        if text_index.is_file():
            _index_texts(run, items, text_index)
        _index_vectors(run, items)
        _tell_tables(run, items)
    return report


def _unisearch_encoder(run: RunFolder) -> EncodeItems | None:
    """Encodes items by the frozen item encoder of a run's UniSearch checkpoint; None for a run with codebooks of its own."""
    from onesearch.serving.item_encoding import FrozenItemEncoder, is_unisearch
    from onesearch.tokenization_sid.sids.appending import EncodedItems, market_of
    from onesearch.tokenization_sid.sids.item_codes import ItemCodes

    if not is_unisearch(run.checkpoint):
        return None
    encoder = FrozenItemEncoder.load(run.checkpoint)

    def encode(items: pa.Table, published: np.ndarray | None) -> EncodedItems:
        found = encoder.encode(market_of(run, items))
        paths = [list(path or ()) for path in items.column("categories").to_pylist()]
        popularity = np.zeros(len(items), dtype=np.float32)
        ids = items.column("item_id").to_pylist()
        coded = ItemCodes(ids, found.codes.astype(np.int32), popularity, encoder.codebook_sizes, encoder.fingerprint, paths)
        return EncodedItems(coded, found.vectors.sum(1), np.ones(len(items), dtype=bool))

    return encode


def _index_texts(run: RunFolder, items: pa.Table, path: Path) -> None:
    """Add the texts of appended items to a text index, unless it has them."""
    from onesearch.data.arrow_tables import as_dataset
    from onesearch.data.market import Market
    from onesearch.data.text import item_texts
    from onesearch.serving.text_index import TextIndex

    index = TextIndex.load(path)
    known = set(index.item_ids)
    new = items.filter(pa.array([item_id not in known for item_id in items.column("item_id").to_pylist()], pa.bool_()))
    if len(new):
        texts = item_texts(replace(Market.load(run.market), items=as_dataset(new)))
        index.with_items(new.column("item_id").to_pylist(), texts).save(path)


def _index_vectors(run: RunFolder, items: pa.Table) -> None:
    """Add the vectors of appended items to the dense index of the checkpoint, if there is one; they have the texts of the run's encoder."""
    from onesearch.data.arrow_tables import as_dataset
    from onesearch.data.market import Market
    from onesearch.serving.dense_index import FOLDER_NAME, ITEMS_NAME, DenseIndex
    from onesearch.tokenization_sid.embedding.embeddings import load_facts

    folder = run.checkpoint / FOLDER_NAME
    if (folder / ITEMS_NAME).is_file():
        texts = load_facts(run).texts(replace(Market.load(run.market), items=as_dataset(items)))
        DenseIndex.from_pretrained(folder).with_items(items.column("item_id").to_pylist(), texts).save_items(folder)


def _tell_tables(run: RunFolder, items: pa.Table) -> None:
    """Let the reward model and the histories of the checkpoint know appended items, where it has them."""
    from onesearch.data.arrow_tables import as_dataset
    from onesearch.data.market import Market
    from onesearch.data.text import item_texts
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.serving.catalogue import tell_tables

    path = run.checkpoint / SID_INDEX_NAME
    if path.is_file():
        texts = item_texts(replace(Market.load(run.market), items=as_dataset(items)))
        tell_tables(run.checkpoint, items, texts, SidIndex.load(path))


def _index_appended(run: RunFolder) -> None:
    """Add the appended items of a run to its item indexes, unless an index has them."""
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.modeling_onesearch.locks_onesearch import index_locked
    from onesearch.tokenization_sid.sids.appending import appended_codes

    added = appended_codes(run)
    for path in (run.sids / SID_INDEX_NAME, run.checkpoint / SID_INDEX_NAME):
        if not path.is_file():
            continue
        with index_locked(path):
            index = SidIndex.load(path)
            if index.fingerprint != added.fingerprint:
                raise ValueError(
                    f"{path} belongs to other codebooks than {run.sids}; train again, or copy the checkpoint again"
                )
            new = np.flatnonzero(~index.contains(added.item_ids))
            if len(new):
                item_ids = [added.item_ids[row] for row in new]
                categories = [added.categories[row] or () for row in new]
                index.add_items(item_ids, added.codes[new], added.popularity[new], categories)
                index.save_updates(path)


__all__ = ["append_to_run"]
