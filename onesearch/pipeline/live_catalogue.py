"""Changes of the catalogue that a server writes into its run or its checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from onesearch.data.arrow_tables import table_from_rows
from onesearch.data.bad_rows import BadRows
from onesearch.data.fields import BadRow
from onesearch.data.rows import item_row
from onesearch.files import LOCK_TIMEOUT, RunFolder
from onesearch.parquet_files import write_table
from onesearch.serving.catalogue import add_from_table, remove

from .appending import append_to_run
from .run_lock import writing_into


class LiveCatalogue:
    """Writes additions and removals; the `CatalogueWriter` of the HTTP server.

    New items of a run are encoded with its frozen encoder and codebooks (`onesearch sids append`). Items that come with codes, and those of
    a checkpoint without its run, are added as `onesearch items add` does.

    Args:
        checkpoint: folder of the checkpoint.
        run: the run that holds it; None without one.
    """

    def __init__(self, checkpoint: Path, run: RunFolder | None) -> None:
        self.checkpoint, self.run = checkpoint, run

    def add(self, items: Sequence[Mapping[str, Any]], known: str) -> None:
        """Add items.

        Args:
            items: rows of the items table, all of them with `codes` or none.
            known: ``raise`` or ``skip``; see `onesearch.serving.catalogue.add_from_table`.

        Raises:
            ValueError: a row does not fit, some rows have codes and others not, or the checkpoint has no run to make them.
            BlockingIOError: another command is writing into the run.
        """
        with_codes = sum("codes" in item for item in items)
        if with_codes not in (0, len(items)):
            raise ValueError(f"{with_codes} of {len(items)} items have codes; give codes for all of them or for none")
        rows = _checked(items)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "items.parquet"
            if with_codes:
                write_table(_coded(rows, [item["codes"] for item in items]), path)
                with writing_into(self.checkpoint, "onesearch items", LOCK_TIMEOUT):
                    add_from_table(self.checkpoint, path, known)
                return
            if self.run is None:
                raise ValueError("this checkpoint has no run with an encoder, so that new items need codes; give them")
            write_table(table_from_rows("items", rows), path)
            append_to_run(self.run, path, known)

    def remove(self, item_ids: Sequence[str], unknown: str) -> None:
        """Remove items; arguments and errors as for `onesearch.serving.catalogue.remove`."""
        with writing_into(self.checkpoint, "onesearch items", LOCK_TIMEOUT):
            remove(self.checkpoint, item_ids, unknown)


def _checked(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as the rules of the items table make them; ValueError names all values that do not fit."""
    bad, rows = BadRows("raise", advice="correct them"), []
    for number, item in enumerate(items):

        def note(error: BadRow, number: int = number) -> None:
            bad.add_error("items", number, error)

        try:
            rows.append(item_row(item, note))
        except BadRow as error:
            note(error)
    bad.close()
    return rows


def _coded(rows: Sequence[Mapping[str, Any]], codes: Sequence[Sequence[int]]) -> pa.Table:
    """The table that `add_from_table` reads. The text of an item is its title and its brand."""
    return pa.table(
        {
            "item_id": [row["item_id"] for row in rows],
            "codes": pa.array(codes, pa.list_(pa.int64())),
            "categories": pa.array([row["categories"] for row in rows], pa.list_(pa.string())),
            "text": [" ".join(part for part in (row["title"], row["brand"]) if part) for row in rows],
        }
    )


__all__ = ["LiveCatalogue"]
