"""What a server serves: a searcher, and the run and the market around its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onesearch.data.market import Market
from onesearch.extras import MissingExtraError
from onesearch.files import RunFolder

from ..searcher import Searcher
from ..text_index import TextIndex, require_text_search
from .catalogue_writer import CatalogueWriter
from .events import EventLog


@dataclass(frozen=True)
class ServedModel:
    """What a server serves.

    Args:
        searcher: searcher of the checkpoint.
        checkpoint: its folder.
        run: the run that holds the checkpoint; None without one.
        market: the market of the run.
        writer: changes the files of the catalogue; None where nobody may.
        text_index: BM25 over the catalogue, for the comparison; None where it cannot be built.
    """

    searcher: Searcher
    checkpoint: Path
    run: RunFolder | None
    market: Market | None
    writer: CatalogueWriter | None
    text_index: TextIndex | None


def load_served(
    checkpoint: Path,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    make_writer: Callable[[Path, RunFolder | None], CatalogueWriter] | None = None,
) -> ServedModel:
    """Load a checkpoint for serving, with its run and its market if it lies in one.

    BM25 is that of the checkpoint's text index, or is built from the market, if the extra ``evaluation`` is installed.

    Args:
        checkpoint: folder of the checkpoint.
        settings: fields of `SearchConfig` that replace those of the checkpoint.
        batch_size: largest number of requests that are searched at once.
        make_writer: makes the writer of the catalogue from the checkpoint and its run.
    """
    checkpoint = checkpoint.resolve()
    run = _run_around(checkpoint)
    market = None if run is None else Market.load(run.market)
    searcher = Searcher.from_pretrained(checkpoint, batch_size=batch_size, **(settings or {}))
    text_index = searcher.text_index
    if text_index is None and market is not None and _analysis_is_installed():
        text_index = TextIndex.of(market)
    writer = None if make_writer is None else make_writer(checkpoint, run)
    return ServedModel(searcher, checkpoint, run, market, writer, text_index)


def event_log(checkpoint: Path) -> EventLog:
    """The event log of the servers of a checkpoint: in the folder of its run, or in its own folder if it lies in none."""
    checkpoint = checkpoint.resolve()
    run = _run_around(checkpoint)
    return EventLog((checkpoint if run is None else run.root) / "events")


def _run_around(checkpoint: Path) -> RunFolder | None:
    """The run whose checkpoint this is; None without one. The path is resolved."""
    run = RunFolder(checkpoint.parent)
    return run if run.checkpoint == checkpoint and run.sids.is_dir() and run.market.is_dir() else None


def _analysis_is_installed() -> bool:
    try:
        require_text_search()
    except MissingExtraError:
        return False
    return True


__all__ = ["ServedModel", "event_log", "load_served"]
