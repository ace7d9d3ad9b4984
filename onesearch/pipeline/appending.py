"""New items of a finished run: encoded with its frozen codebooks and added to its item indexes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.files import RunFolder, index_lock, locked

if TYPE_CHECKING:
    from onesearch.tokenization_sid.sids.appending import AppendReport


def append_to_run(run: RunFolder, table: Path, known: str = "raise") -> AppendReport:
    """Encode new items with what the run has frozen and make them searchable, in ``sids/`` and in ``checkpoint/`` if there is one.

    Of several processes that append to one run, one at a time does; the others wait for it.

    Args:
        table: parquet file with the columns of the items table; known: see `onesearch.tokenization_sid.sids.appending.append_items`.

    Raises:
        ValueError: the table does not fit, or an index belongs to other codebooks than the run.
        TimeoutError: another process has been appending for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    from onesearch.tokenization_sid.sids.appending import append_items, read_items

    items = read_items(table)
    run.require("sids", "onesearch sids build")
    with locked(run.append_lock, f"appending to {run.root}"):
        report = append_items(run, items, known)
        _index_appended(run)
    return report


def _index_appended(run: RunFolder) -> None:
    """Bring the item indexes of a run up to what was appended to it."""
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.sids.appending import appended_codes

    added = appended_codes(run)
    for path in (run.sids / SID_INDEX_NAME, run.checkpoint / SID_INDEX_NAME):
        if not path.is_file():
            continue
        with locked(index_lock(path), f"changing {path}"):
            index = SidIndex.load(path)
            if index.fingerprint != added.fingerprint:
                raise ValueError(
                    f"{path} belongs to other codebooks than {run.sids}; train again, or copy the checkpoint again"
                )
            new = np.flatnonzero(~index.contains(added.item_ids))  # all of them, unless an earlier append died between the two
            if len(new):
                ids, paths = ([column[row] for row in new] for column in (added.item_ids, added.categories))
                index.add_items(ids, added.codes[new], added.popularity[new], [names or () for names in paths])
                index.save_updates(path)
