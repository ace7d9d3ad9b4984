"""Training examples: columns `input_ids`, `labels`, `length` and, where the model has a long view, `long_view`. Tokenised once.

Made chunk by chunk, without Python per token, and kept as Arrow files that `datasets` maps into memory; or streamed, where a log is too
large even for that. No prompt sees its target's session or anything later: see `onesearch.data.user_logs`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset, concatenate_datasets

from onesearch.data.requests import request_rows
from onesearch.data.session_pairs import category_ids, session_items
from onesearch.data.text import item_texts
from onesearch.files import atomic_file
from onesearch.tokenization_sid.prompts import PromptFields, task_template
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.session_views import SessionViews

from ...configs import ExampleConfig
from ...tasks import TASKS, Task

logger = logging.getLogger(__name__)

CHUNK = 4096
"""Sessions, items or pairs that are turned into examples at once."""


class ExampleBuilder:
    """Turns tasks into examples.

    Args:
        views: of the market's sessions; tokenizer: made for the same codes; plan: how.
        tables: folder that the market was loaded from; without it stored examples are never found again.
        keywords: (queries of the logs,) lists of words; with them examples also have `teacher_input_ids`, prompts that hold them.
    """

    def __init__(
        self,
        views: SessionViews,
        tokenizer: SidTokenizer,
        plan: ExampleConfig,
        tables: Path | None = None,
        keywords: np.ndarray | None = None,
    ):
        self.views, self.tokenizer, self.plan, self.tables, self.keywords = views, tokenizer, plan, tables, keywords
        self.market = views.market
        language = plan.language or str(self.market.info.get("language") or "en")
        self.language = "zh" if language.startswith("zh") else "en"
        self.spans = len(views.long_logs)
        self._columns: dict[tuple[str, str], np.ndarray] = {}

    def chunks(self, task_name: str, split: str) -> Iterator[pa.Table]:
        """Examples of one task as tables of at most a few thousand rows.

        Args:
            task_name: of `TASKS`; split: whose sessions requests, queries and pairs come from.
        """
        task = TASKS[task_name]
        made = self._request_chunks(task, split) if task.rows == "requests" else self._row_chunks(task_name, task, split)
        for prompts, teachers, labels, spans in made:
            if len(prompts):
                yield self._table(prompts, teachers, labels, spans)

    def _request_chunks(self, task: Task, split: str) -> Iterator[tuple[Ragged, Ragged, Ragged, np.ndarray]]:
        events, items = self._targets(task.events)
        rows = request_rows(self.market, split)
        if self.plan.windows == "last" and split == "train":
            rows = self._last_of_each_user(rows)
        for part in _parts(rows):
            near = slice(*np.searchsorted(events, [part[0], part[-1] + 1]))  # events are sorted by session
            wanted = np.isin(events[near], part)
            place = np.searchsorted(part, events[near][wanted])  # which prompt each target belongs to
            fields = self.views.fields(part)
            prompts = teachers = self.tokenizer.encode_fields(fields).take(place)
            if self.keywords is not None:
                words = self.keywords[self.views.logs.query_rows[part]].tolist()
                teachers = self.tokenizer.encode_fields(replace(fields, keywords=words)).take(place)
            labels = self._sids(self.views.item_sids[items[near][wanted]])
            yield prompts, teachers, labels, self.views.long_spans(part)[place]

    def _row_chunks(self, name: str, task: Task, split: str) -> Iterator[tuple[Ragged, Ragged, Ragged, np.ndarray]]:
        random = np.random.default_rng(self.plan.seed)
        for queries, items in self._rows(task.rows, split):
            if task.rows == "words":
                texts = self._drawn_words(items, random)
                prompts = self.tokenizer.encode_fields(PromptFields(texts))
                yield prompts, prompts, self._sids(self.views.item_sids[items]), self._no_spans(len(items))
                continue
            given, wanted = (
                (queries if thing == "query" else items, thing, field) for thing, field in (task.given, task.wanted)
            )
            usable = self._known(*given) & self._known(*wanted)
            fields = self._fields(given[0][usable], *given[1:])
            prompts = self.tokenizer.encode_fields(fields, task_template(name, self.language))
            yield prompts, prompts, self._labels(wanted[0][usable], *wanted[1:]), self._no_spans(len(prompts))

    def _rows(self, kind: str, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Chunks of rows of queries and of items; of two things that stand alone, the other is empty."""
        none = np.empty(0, dtype=np.int64)
        if kind in ("items", "words"):
            copies = self.plan.copies if kind == "words" else 1
            for part in _parts(np.tile(np.arange(len(self.market.items)), copies)):
                yield none, part
            return
        if kind == "queries":
            asked = self.views.logs.query_rows[request_rows(self.market, split)]
            for part in _parts(np.unique(asked)):
                yield part, none
            return
        queries, items = self.pairs(split)
        for part in _parts(np.arange(len(queries))):
            yield queries[part], items[part]

    def pairs(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Distinct pairs of a query and an item clicked or bought after it."""
        sessions, items = session_items(self.market, split, ("clicked", "purchased"))
        asked = self.views.logs.query_rows[sessions]
        named = ~self.views.logs.blank[asked]
        pairs = np.unique(np.stack([asked[named], items[named]], axis=1), axis=0)
        return pairs[:, 0], pairs[:, 1]

    def _targets(self, events: str) -> tuple[np.ndarray, np.ndarray]:
        """Sessions and items of all targets of a kind; what was clicked and bought is a purchase alone. Each once per session."""
        count = max(len(self.market.items), 1)
        sessions, items = self.views.logs.own(events)
        keys = sessions * count + items  # one number per session and item
        if events == "clicked":
            bought_in, bought = self.views.logs.own("purchased")
            keys = keys[~np.isin(keys, bought_in * count + bought)]
        _, first = np.unique(keys, return_index=True)
        return np.divmod(keys[np.sort(first)], count)

    def _last_of_each_user(self, rows: np.ndarray) -> np.ndarray:
        users = self.market.sessions.data.column("user_id").take(rows).combine_chunks().dictionary_encode().indices.to_numpy()
        _, from_end = np.unique(users[::-1], return_index=True)
        return np.sort(rows[len(rows) - 1 - from_end])

    def _known(self, rows: np.ndarray, thing: str, field: str) -> np.ndarray:
        """(rows,) whether the field is known of each: a query may have no SID, anything no category."""
        if field == "sid" and thing == "query":
            return self.views.query_sids[rows, 0] >= 0
        if field == "category":
            return np.array([bool(name) for name in self._texts(rows, thing, field)], dtype=bool)
        return np.ones(len(rows), dtype=bool)

    def _fields(self, rows: np.ndarray, thing: str, field: str) -> PromptFields:
        if field == "sid":
            return PromptFields(sids=self._codes(rows, thing))
        return PromptFields(self._texts(rows, thing, field))

    def _labels(self, rows: np.ndarray, thing: str, field: str) -> Ragged:
        if field == "sid":
            return self._sids(self._codes(rows, thing))
        # Encoded as a prompt, without the begin token: text and end token.
        encoded = self.tokenizer.encode_fields(PromptFields(self._texts(rows, thing, field)), "item-text-to-sid/1")
        return Ragged.of_spans(encoded.values, encoded.offsets[:-1] + 1, encoded.offsets[1:])

    def _codes(self, rows: np.ndarray, thing: str) -> np.ndarray:
        return (self.views.query_sids if thing == "query" else self.views.item_sids)[rows]

    def _texts(self, rows: np.ndarray, thing: str, field: str) -> list[str]:
        return self._column(thing, field)[rows].tolist()

    def _column(self, thing: str, field: str) -> np.ndarray:
        """All texts or categories of items or queries; made at first use."""
        if (thing, field) not in self._columns:
            if field == "category":
                self._columns[thing, field] = self._categories(thing)
            else:
                texts = item_texts(self.market) if thing == "item" else self.views.logs.queries
                self._columns[thing, field] = np.array(texts, dtype=object)
        return self._columns[thing, field]

    def _categories(self, thing: str) -> np.ndarray:
        """Category path of every item, or of every query: the one most of its clicked or bought training items have; "" without one."""
        of_item, names = category_ids(self.market.items.data.column("categories"))
        named = np.array([*names, ""], dtype=object)
        if thing == "item":
            return named[of_item]
        queries, items = self.pairs("train")
        known = of_item[items] >= 0
        pairs, counts = np.unique(np.stack([queries[known], of_item[items[known]]], axis=1), axis=0, return_counts=True)
        found = np.full(len(self.views.logs.queries), -1, dtype=np.int64)
        order = np.argsort(counts, kind="stable")
        found[pairs[order, 0]] = pairs[order, 1]  # the most frequent comes last and stays
        return named[found]

    def _drawn_words(self, items: np.ndarray, random: np.random.Generator) -> list[str]:
        """Up to `words` words of each item's text, drawn at random and kept in order."""
        found = []
        for text in self._texts(items, "item", "text"):
            words = text.split()
            count = min(len(words), int(random.integers(1, self.plan.words + 1)))
            places = np.sort(random.choice(len(words), count, replace=False)) if words else ()
            found.append(" ".join(words[place] for place in places))
        return found

    def _sids(self, codes: np.ndarray) -> Ragged:
        ids = self.tokenizer.sids_to_ids(codes).astype(np.int32)
        return Ragged(ids.reshape(-1), offsets_of(np.full(len(ids), ids.shape[1])))

    def _no_spans(self, count: int) -> np.ndarray:
        return np.zeros((count, self.spans, 2), dtype=np.int64)

    def _table(self, prompts: Ragged, teachers: Ragged, labels: Ragged, spans: np.ndarray) -> pa.Table:
        columns = {"input_ids": _list_array(prompts), "labels": _list_array(labels)}
        columns["length"] = pa.array(prompts.lengths.astype(np.int32))
        if self.keywords is not None:
            columns["teacher_input_ids"] = _list_array(teachers)
        if self.spans:
            flat = spans.reshape(len(prompts), 2 * self.spans)
            columns["long_view"] = _list_array(Ragged(flat.ravel(), offsets_of(np.full(len(flat), flat.shape[1]))))
        return pa.table(columns)


def stored_examples(builder: ExampleBuilder, task: str, split: str, folder: Path) -> Dataset:
    """Examples of one task from an Arrow file in `folder`, written first unless an equal one is there.

    Equal means: the same task, tables, codes, tokenizer, layout and plan; that is what the file's name is a fingerprint of.
    """
    path = folder / f"{task}-{split}-{_digest(builder, task, split)[:16]}.arrow"
    if not path.exists():
        rows = 0
        with atomic_file(path) as temporary:
            chunks = builder.chunks(task, split)
            first = next(chunks, None)
            schema = builder._table(*_nothing(builder)).schema if first is None else first.schema
            with pa.ipc.new_stream(str(temporary), schema) as writer:
                for chunk in () if first is None else chain([first], chunks):
                    writer.write_table(chunk)
                    rows += len(chunk)
        logger.info("%s examples of %s (%s)", f"{rows:,}", task, split)
    return Dataset.from_file(str(path))


def mixed_examples(builder: ExampleBuilder, weights: Mapping[str, float], split: str, folder: Path) -> Dataset:
    """Examples of several tasks in one dataset; weight 1 takes each once, 2 twice, 0.5 a random half of them."""
    parts = []
    random = np.random.default_rng(builder.plan.seed)
    for task, weight in weights.items():
        dataset = stored_examples(builder, task, split, folder)
        whole, part = divmod(weight, 1)
        parts += [dataset] * int(whole)
        if part:
            parts.append(dataset.select(np.sort(random.choice(len(dataset), round(part * len(dataset)), replace=False))))
    return concatenate_datasets(parts)


def streamed_examples(
    builder: ExampleBuilder, weights: Mapping[str, float], split: str, buffer: int = 100_000
) -> IterableDataset:
    """Examples of several tasks, made while they are read and kept nowhere; for logs that are too large to store tokenised.

    Args:
        weights: fractions are drawn anew each time; buffer: examples that shuffling draws from.
    """

    def generate() -> Iterator[dict[str, np.ndarray]]:
        random = np.random.default_rng(builder.plan.seed)
        running = {task: builder.chunks(task, split) for task in weights}
        while running:
            for task in list(running):
                chunk = next(running[task], None)
                if chunk is None:
                    del running[task]
                    continue
                yield from _examples_of(chunk, weights[task], random)

    return IterableDataset.from_generator(generate).shuffle(seed=builder.plan.seed, buffer_size=buffer)


def _examples_of(chunk: pa.Table, weight: float, random: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    columns = {name: chunk.column(name).combine_chunks() for name in chunk.column_names}
    whole, part = divmod(weight, 1)
    for row in range(len(chunk)):
        example = {
            name: np.asarray(column[row].values) if pa.types.is_list(column.type) else column[row].as_py()
            for name, column in columns.items()
        }
        for _ in range(int(whole) + (random.random() < part)):
            yield example


def _digest(builder: ExampleBuilder, task: str, split: str) -> str:
    """Of everything that examples depend on."""
    files = sorted(builder.tables.glob("*.parquet")) if builder.tables is not None else []
    known = {
        "task": [task, asdict(TASKS[task]), split],
        "tables": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files] or uuid4().hex,
        "tokenizer": hashlib.sha256(builder.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "layout": asdict(builder.tokenizer.prompt),
        "plan": [asdict(builder.plan), builder.language],
        "keywords": None if builder.keywords is None else [list(words) for words in builder.keywords],
        "codes": [
            hashlib.sha256(np.ascontiguousarray(codes)).hexdigest()
            for codes in (builder.views.item_sids, builder.views.query_sids)
        ],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _nothing(builder: ExampleBuilder) -> tuple[Ragged, Ragged, Ragged, np.ndarray]:
    empty = Ragged(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64))
    return empty, empty, empty, builder._no_spans(0)


def _list_array(rows: Ragged) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), pa.array(rows.values))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


__all__ = ["ExampleBuilder", "mixed_examples", "stored_examples", "streamed_examples"]
