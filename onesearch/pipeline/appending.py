"""Appending to a finished run: new items are encoded with its frozen codebooks and added to its item indexes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.files import LOCK_TIMEOUT, RunFolder, locked

from .run_lock import writing

if TYPE_CHECKING:
    from onesearch.tokenization_sid.sids.appending import AppendReport


def append_to_run(run: RunFolder, table: Path, known: str = "raise") -> AppendReport:
    """Encode new items with the frozen parts of a run and make them searchable, in ``sids/`` and in ``checkpoint/`` if there is one.

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
    """
    from onesearch.tokenization_sid.sids.appending import append_items, read_items

    items = read_items(table)
    run.require("sids", "onesearch sids build")
    with writing(run, "onesearch sids append", LOCK_TIMEOUT), locked(run.append_lock, f"appending to {run.root}"):
        _index_appended(
            run
        )  # what an append left out that was stopped: its items are published, so that `append_items` refuses them
        report = append_items(run, items, known)
        _index_appended(run)
    return report


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
