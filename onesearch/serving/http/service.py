"""The service behind the endpoints: searches, explanations and changes of the catalogue, without HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onesearch.data.requests import UserContext
from onesearch.modeling_onesearch.hits_onesearch import Hit
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.views.history_table import FOLDER_NAME as HISTORY_NAME
from onesearch.views.history_table import HistoryTable
from onesearch.views.reward.item_files import items_name

from ..dense_index import FOLDER_NAME, ITEMS_NAME, DenseIndex
from ..prompt_sizes import prompt_size
from ..reranker import Reranker
from ..searcher import Searcher
from ..text_index import TEXT_INDEX_NAME, TextIndex
from .batcher import MicroBatcher
from .details import ItemDetails
from .meanings import CodeMeanings
from .metrics import ServerMetrics
from .search_jobs import SearchJob, run_jobs
from .served import ServedModel, event_log
from .server_config import ServerConfig

logger = logging.getLogger(__name__)

RANKINGS = ("served", "beam", "text")
"""The ways in which a request may be ranked: with the checkpoint's own settings, by the generator alone, or by BM25 alone."""


class SearchService:
    """Answers searches in batches and makes changes of the catalogue visible.

    Args:
        model: what is served.
        config: limits.
    """

    def __init__(self, model: ServedModel, config: ServerConfig) -> None:
        self.model, self.config = model, config
        self.searcher, self.index = model.searcher, model.searcher.index
        self.metrics = ServerMetrics()
        self.metrics.items.set(len(self.index))
        self.details = ItemDetails(model.run, model.market)
        self.meanings = CodeMeanings(model.run, model.market, self.index)
        self.events = event_log(model.checkpoint)
        self.text_index = model.text_index
        self.batcher: MicroBatcher[SearchJob, list[Hit]] = MicroBatcher(self._run, config, self.metrics)
        self._text_file = _identity(model.checkpoint / TEXT_INDEX_NAME)
        self._dense_file = _identity(model.checkpoint / FOLDER_NAME / ITEMS_NAME)
        self._history_file = _identity(model.checkpoint / HISTORY_NAME / items_name(HISTORY_NAME))
        self._writing = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._counting = asyncio.Lock()
        self._count_failure = ""
        self._watch: asyncio.Task[None] | None = None

    # Life

    def start(self) -> None:
        """Begin to search and to look for changes of the catalogue and for events."""
        self.batcher.start()
        self._watch = asyncio.get_running_loop().create_task(self._watch_catalogue())

    async def close(self) -> None:
        """Answer what waits and end."""
        if self._watch is not None:
            self._watch.cancel()
        await self.batcher.close()

    def warm_up(self) -> None:
        """Search once, so that the first request waits for no compilation."""
        self.searcher.search("warm up", top_k=1)

    # Searches

    def settings(self, ranking: str, changes: Mapping[str, Any]) -> SearchConfig:
        """The search settings of a request: those of the checkpoint, or of the generator alone, with the changes that it asks for."""
        config = self.searcher.config
        if ranking == "beam":
            config = replace(config, rerank=False, candidates="beam", dense_weight=0.0)
        return replace(config, **{name: value for name, value in changes.items() if value is not None})

    async def search(self, job: SearchJob) -> list[Hit]:
        """The hits of a job.

        Raises:
            BusyError: the server cannot answer now.
            KeyError, ValueError, TypeError: the job cannot be searched.
        """
        size = prompt_size(_sized(job), self.searcher.views.layout)
        return await self.batcher.submit(job, job.key, size)

    async def text_search(self, job: SearchJob) -> list[Hit]:
        """Hits of BM25, with its scores.

        Raises:
            ValueError: there is no text index.
        """
        if self.text_index is None:
            raise ValueError("ranking 'text' needs a text index, and this server has none; use served or beam")
        return await asyncio.to_thread(_by_text, self.text_index, self.searcher, job)

    def unknown_items(self, item_ids: Sequence[str]) -> list[str]:
        """Those items that are not in the catalogue."""
        return [item_id for item_id, there in zip(item_ids, self.index.contains(list(item_ids)).tolist()) if not there]

    async def explain(self, job: SearchJob, item_id: str) -> dict[str, Any]:
        """Tell how an item fares under a query: its codes and their meanings, the towers, and its rank in each ranking.

        Args:
            job: the search, with the settings that are served.
            item_id: an item of the catalogue.
        """
        searches = {"served": job, "beam": replace(job, config=self.settings("beam", {}))}
        if job.history or job.context != UserContext():
            searches["without_user"] = replace(job, history=(), context=UserContext())
        tasks = {name: self.search(own) for name, own in searches.items()}
        tasks["scored"] = self.search(replace(job, items=(item_id,)))
        if self.text_index is not None:
            tasks["text"] = self.text_search(job)
        found = dict(zip(tasks, await asyncio.gather(*tasks.values())))
        (scored,) = found.pop("scored")
        places = {name: _place(hits, item_id) for name, hits in found.items()}
        own = places["served"]
        towers = None if own is None else found["served"][own].towers
        codes = await asyncio.to_thread(self.meanings.of, scored.sid)
        levels = scored.level_scores or ()
        return {
            "item_id": item_id,
            "sid": list(scored.sid),
            "log_probability": sum(levels),
            "codes": [{**code, "log_probability": part} for code, part in zip(codes, levels)],
            "towers": None if towers is None else list(towers),
            "ranks": {name: None if place is None else place + 1 for name, place in places.items()},
            "depth": job.top_k,
        }

    def _run(self, jobs: Sequence[SearchJob]) -> list[list[Hit] | Exception]:
        return run_jobs(self.searcher, jobs)

    # Changes of the catalogue

    async def change(self, change: Callable[..., None], *arguments: Any) -> None:
        """Write a change of the catalogue, one at a time, and make it visible before this returns."""
        async with self._writing:
            await asyncio.to_thread(change, *arguments)
            await self.refresh()

    async def refresh(self) -> bool:
        """Read the catalogue again if its files have changed; return whether they had."""
        async with self._refreshing:
            changed = await asyncio.to_thread(self._refresh)
        if changed:
            self.metrics.updates.inc()
            self.metrics.items.set(len(self.index))
        return changed

    def _refresh(self) -> bool:
        changed = self.index.refresh()
        path = self.model.checkpoint / TEXT_INDEX_NAME
        identity = _identity(path)
        if identity != self._text_file:
            self.searcher.text_index = self.text_index = TextIndex.load(path)
            self._text_file, changed = identity, True
        folder = self.model.checkpoint / FOLDER_NAME
        identity = _identity(folder / ITEMS_NAME)
        if identity != self._dense_file and self.searcher.dense is not None:
            self.searcher.dense = DenseIndex.from_pretrained(folder)
            self._dense_file, changed = identity, True
        folder, views = self.model.checkpoint / HISTORY_NAME, self.searcher.views
        identity = _identity(folder / items_name(HISTORY_NAME))
        if identity != self._history_file and views.history_table is not None:
            views.history_table = HistoryTable.load(folder, views.layout)
            self._history_file, changed = identity, True
        if changed:
            self.details.refresh()
            self.meanings.refresh()
        return changed

    async def _watch_catalogue(self) -> None:
        """Look for changes that other processes make. A failure leaves the catalogue that is served, and is counted and logged once."""
        last = ""
        while True:
            await self.count_events()  # those of before the start, and those of other servers of this run
            await asyncio.sleep(self.config.refresh_seconds)
            try:
                await self.refresh()
                last = ""
            except (OSError, ValueError) as error:
                self.metrics.update_errors.inc()
                if str(error) != last:
                    logger.warning("the catalogue cannot be read again, the old one serves on: %s", error)
                last = str(error)

    async def record(self, sessions: Sequence[Mapping[str, Any]]) -> None:
        """Append sessions to the event log; they are on the disk, and the reward model's memory counts them, when this returns."""
        async with self._writing:
            await asyncio.to_thread(self.events.append, sessions)
        self.metrics.events.inc(len(sessions))
        await self.count_events()

    async def count_events(self) -> None:
        """Count the sessions of the event log that the reward model's memory in this process has not counted yet.

        Without a reward model nothing is counted. A failure is logged once and no error of the request: its events are on the disk.
        """
        reranker = self.searcher.reranker
        if reranker is None:
            return
        async with self._counting:  # requests that wait here are counted together by the next that enters
            try:
                await asyncio.to_thread(self._count, reranker)
                self._count_failure = ""
            except (OSError, ValueError) as error:
                if str(error) != self._count_failure:
                    logger.warning("logged events are not counted in the memory of the reward model: %s", error)
                self._count_failure = str(error)

    def _count(self, reranker: Reranker) -> None:
        sessions, end = self.events.since(reranker.parts.memory.log_end)
        if len(sessions):
            reranker.update(sessions, end)


def now() -> int:
    """Seconds since 1970, the time of an event that comes without one."""
    return int(time.time())


def _sized(job: SearchJob) -> Any:
    from onesearch.data.requests import Request

    return Request("", "", job.query, job.history, context=job.context)


def _place(hits: Sequence[Hit], item_id: str) -> int | None:
    return next((place for place, hit in enumerate(hits) if hit.item_id == item_id), None)


def _by_text(text_index: TextIndex, searcher: Searcher, job: SearchJob) -> list[Hit]:
    """Hits of the text index, of those in the catalogue that pass the job's filter."""
    item_filter = None
    if job.exclude or job.categories is not None:
        item_filter = searcher.index.filter(None, job.exclude, job.categories)
    hidden = set(job.history) if job.config.exclude_history else set()

    def keep(item_ids: list[str]) -> list[bool]:
        there = searcher.index.contains(item_ids, item_filter).tolist()
        return [is_there and item_id not in hidden for item_id, is_there in zip(item_ids, there)]

    found = text_index.ranked(job.query, job.top_k, keep)
    codes = searcher.index.codes_of([item_id for item_id, _ in found]).tolist()
    return [Hit(item_id, tuple(sid), score) for (item_id, score), sid in zip(found, codes)]


def _identity(path: Path) -> tuple[int, int] | None:
    """What changes whenever another file takes the name `path`; None without a file."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


__all__ = ["RANKINGS", "SearchService", "now"]
