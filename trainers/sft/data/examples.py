"""Training examples of a market: prompts and targets as token ids, made in chunks without Python per token.

The columns are `input_ids`, `labels`, `length`; `long_view` where prompts have a long view; `history` where items are vectors;
`query_vector` where prompts hold the query's vector; `teacher_input_ids` where a teacher sees keywords; `request`, the number of a
teacher's list, where there is a teacher over items; `teacher_items` and `teacher_scores`, the list of a made query. A prompt never shows
the session of its target, nor anything later: see `onesearch.data.user_logs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.data.languages import market_language, template_language
from onesearch.data.made_queries import facet_query, facets_of, sampled_words
from onesearch.data.requests import request_rows
from onesearch.modeling_onesearch.history_fields_onesearch import EVENT_KINDS
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.tokenization_sid.templates import task_template
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.reward.inputs import UNKNOWN_GAP
from onesearch.views.session_views import SessionViews

from ...configs import ExampleConfig
from ...tasks import TASKS, Task
from .catalogue_queries import CatalogueQueries
from .fields import RowFields, query_item_pairs
from .tastes import Tastes
from .text_targets import ScoredLists, TextTargets

CHUNK = 4096
"""Sessions, items or pairs that are turned into examples at once."""


class EncodedExamples(NamedTuple):
    """Examples as token ids, row by row.

    Args:
        prompts: what the model reads.
        teachers: what a teacher reads; equal to `prompts` without keywords.
        labels: what the model must generate.
        spans: (rows, sequences, 2) begin and end of each long sequence; see `SessionViews.long_spans`.
        requests: (rows,) number of the list of a teacher over items, -1 without one; None where no example has one.
        history: rows of (events, 3); see `SessionViews.history_events`. None where no prompt shows items as vectors.
        vectors: (rows, size) float16 text vectors of the queries. None where no prompt shows them.
        lists: teacher's lists of made queries. None where no example has one.
    """

    prompts: Ragged
    teachers: Ragged
    labels: Ragged
    spans: np.ndarray
    requests: np.ndarray | None = None
    history: Ragged | None = None
    vectors: np.ndarray | None = None
    lists: ScoredLists | None = None


class ExampleBuilder:
    """Makes the examples of a task.

    Args:
        views: views of the market's sessions.
        tokenizer: tokenizer for the codes of `views`.
        config: how rows become examples.
        tables: folder that the market was loaded from. Stored examples are found again as long as its files stay the same; without it they
            are made anew each time.
        keywords: (queries,) keywords of each query of the logs. With them, requests have a second prompt that holds the keywords, for a
            teacher.
        query_encoder: makes the Semantic IDs and vectors of made queries, where prompts hold those of queries; without it these prompts
            have none.
        requests: (sessions,) number of the list that a teacher over items has for each session's request, -1 without one.
        made_lists: number of items of the text match that made queries have as a teacher's list; 0 gives them none.
    """

    def __init__(
        self,
        views: SessionViews,
        tokenizer: SidTokenizer,
        config: ExampleConfig,
        tables: Path | None = None,
        keywords: np.ndarray | None = None,
        query_encoder: SidEncoder | None = None,
        requests: np.ndarray | None = None,
        made_lists: int = 0,
    ) -> None:
        self.views = views
        self.market = views.market
        self.tokenizer = tokenizer
        self.config = config
        self.tables = tables
        self.keywords = keywords
        self.query_encoder = query_encoder
        self.requests = requests
        self.made_lists = made_lists
        self.language = config.language or template_language(market_language(self.market))
        self.fields = RowFields(views, tokenizer)

    def chunks(self, task_name: str, split: str) -> Iterator[pa.Table]:
        """Examples of one task as tables of at most a few thousand rows.

        Args:
            task_name: one of `TASKS`.
            split: split of the sessions that requests, queries and pairs come from. Tasks on items read the whole catalogue.
        """
        task = TASKS[task_name]
        if task.rows == "requests":
            chunks = self._request_examples(task, split)
        elif task.rows in ("words", "facets"):
            chunks = self._synthetic_examples(task.rows)
        elif task.rows in ("made-queries", "matches"):
            chunks = self._made_examples(matched=task.rows == "matches")
        elif task.rows == "tastes":
            chunks = self._taste_examples()
        else:
            chunks = self._row_examples(task_name, task, split)
        for examples in chunks:
            if len(examples.prompts):
                yield self.table(examples)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the examples, the same for all tasks."""
        tokens = pa.list_(pa.int32())
        columns = {"input_ids": tokens, "labels": tokens, "length": pa.int32()}
        if self.keywords is not None:
            columns["teacher_input_ids"] = tokens
        if self.views.long_logs:
            columns["long_view"] = pa.list_(pa.int64())
        if self.requests is not None:
            columns["request"] = pa.int64()
        if self.made_lists:
            columns["teacher_items"] = pa.list_(pa.int32())
            columns["teacher_scores"] = pa.list_(pa.float32())
        if self.tokenizer.prompt.has_vectors:
            columns["history"] = pa.list_(pa.int64())
        if self.tokenizer.prompt.query_vector:
            columns["query_vector"] = pa.list_(pa.float16())
        return pa.schema(columns)

    def _request_examples(self, task: Task, split: str) -> Iterator[EncodedExamples]:
        """An example per request and target."""
        target_sessions, target_items = self._targets(task.events)
        rows = request_rows(self.market, split)
        if self.config.windows == "last" and split == "train":
            rows = self._last_of_each_user(rows)
        for start in range(0, len(rows), CHUNK):
            sessions = rows[start : start + CHUNK]
            near = slice(*np.searchsorted(target_sessions, [sessions[0], sessions[-1] + 1]))  # both are sorted
            wanted = np.isin(target_sessions[near], sessions)
            prompt_rows = np.searchsorted(sessions, target_sessions[near][wanted])
            fields = self.views.fields(sessions)
            prompts = teachers = self.tokenizer.encode_fields(fields).take(prompt_rows)
            if self.keywords is not None:
                keywords = self.keywords[self.views.logs.query_rows[sessions]].tolist()
                teachers = self.tokenizer.encode_fields(replace(fields, keywords=keywords)).take(prompt_rows)
            labels = self.fields.sid_labels(self.views.item_sids[target_items[near][wanted]])
            requests = None if self.requests is None else self.requests[sessions[prompt_rows]]
            history = self.views.history_events(sessions).take(prompt_rows) if self.tokenizer.prompt.has_vectors else None
            spans = self.views.long_spans(sessions)[prompt_rows]
            vectors = None if fields.vectors is None else fields.vectors[prompt_rows]
            yield EncodedExamples(prompts, teachers, labels, spans, requests, history, vectors)

    def _synthetic_examples(self, kind: str) -> Iterator[EncodedExamples]:
        """`copies` examples per item: a few words of its text, or a few of its facets, take the place of the query."""
        facets = facets_of(self.market) if kind == "facets" else []
        random = np.random.default_rng(self.config.seed)
        rows = np.tile(np.arange(len(self.market.items)), self.config.copies)
        for start in range(0, len(rows), CHUNK):
            items = rows[start : start + CHUNK]
            if kind == "facets":
                items = np.array([item for item in items if facets[item]], dtype=np.int64)
                queries = [facet_query(facets[item], random) for item in items]
            else:
                texts = self.fields.column("item", "text")[items].tolist()
                queries = [sampled_words(text, self.config.words, random) for text in texts]
            fields = PromptFields(queries, vectors=self._made_vectors(queries))
            labels = self.fields.labels(items, "item", "sid")
            yield self._of_made(queries, fields, labels)

    def _made_examples(self, matched: bool) -> Iterator[EncodedExamples]:
        """`copies` examples per item with a query made of its title, category, brand and attributes.

        Args:
            matched: the target is an item that BM25 finds for the query, not the item that the query was made of.
        """
        made = CatalogueQueries(self.market)
        targets = self._text_targets if matched else None
        random, of_targets = (np.random.default_rng([self.config.seed, number]) for number in range(2))
        rows = np.tile(np.arange(len(made)), self.config.copies)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK].tolist()
            asked = [(item, query) for item in chunk if (query := made.sample(item, random, self.config.words))]
            queries = [query for _, query in asked]
            items = np.array(
                [item if targets is None else targets.draw(query, item, of_targets) for item, query in asked], np.int64
            )
            fields = PromptFields(queries, sids=self._made_sids(queries), vectors=self._made_vectors(queries))
            yield self._of_made(queries, fields, self.fields.labels(items, "item", "sid"))

    @cached_property
    def _text_targets(self) -> TextTargets:
        return TextTargets(self.market, self.made_lists)

    def _of_made(self, queries: list[str], fields: PromptFields, labels: Ragged) -> EncodedExamples:
        """Examples of made queries, with the text match as a teacher's list where there is one."""
        prompts = self.tokenizer.encode_fields(fields)
        lists = self._text_targets.lists(queries) if self.made_lists else None
        return EncodedExamples(prompts, prompts, labels, self._empty_spans(len(prompts)), vectors=fields.vectors, lists=lists)

    def _taste_examples(self) -> Iterator[EncodedExamples]:
        """`copies` examples per item, of made users who love some of its facets."""
        layout = self.tokenizer.prompt
        tastes = Tastes(self.market, layout.items)
        random = np.random.default_rng([self.config.seed, 2])
        rows = np.tile(np.arange(len(self.market.items)), self.config.copies)
        for start in range(0, len(rows), CHUNK):
            targets = rows[start : start + CHUNK]
            made = tastes.draw(targets, random)
            sids = Ragged(self.views.item_sids[made.items.values], made.items.offsets)
            fields = PromptFields(
                made.queries,
                sids=self._made_sids(made.queries),
                vectors=self._made_vectors(made.queries),
                items=sids if layout.items else None,
            )
            kinds = np.where(made.bought, EVENT_KINDS.index("purchased"), EVENT_KINDS.index("clicked"))
            events = np.stack([made.items.values, kinds, np.full_like(kinds, UNKNOWN_GAP)], axis=1)
            prompts, labels = self.tokenizer.encode_fields(fields), self.fields.labels(targets, "item", "sid")
            history = Ragged(events, made.items.offsets) if layout.has_vectors else None
            empty = self._empty_spans(len(prompts))
            yield EncodedExamples(prompts, prompts, labels, empty, history=history, vectors=fields.vectors)

    def _made_sids(self, queries: list[str]) -> np.ndarray | None:
        """Semantic IDs of made queries (queries, levels), -1 where the encoder knows no word; None where prompts hold none."""
        if self.query_encoder is None or not self.tokenizer.prompt.sid:
            return None
        codes, known, _ = self.query_encoder.encode(queries)
        return np.where(known[:, None], codes, -1).astype(np.int64)

    def _made_vectors(self, queries: list[str]) -> np.ndarray | None:
        """Text vectors of made queries (queries, size), zeros where the encoder knows no word; None where prompts hold none."""
        if self.query_encoder is None or not self.tokenizer.prompt.query_vector:
            return None
        return self.query_encoder.vectors(queries)

    def _row_examples(self, name: str, task: Task, split: str) -> Iterator[EncodedExamples]:
        """An example per item, query or pair whose fields are known."""
        rows_of = self._rows(task.rows, split)
        given_rows = rows_of[task.given[0]]
        wanted_rows = rows_of[task.wanted[0]]
        template = task_template(name, self.language)
        for start in range(0, len(given_rows), CHUNK):
            given, wanted = given_rows[start : start + CHUNK], wanted_rows[start : start + CHUNK]
            usable = self.fields.known(given, *task.given) & self.fields.known(wanted, *task.wanted)
            prompts = self.tokenizer.encode_fields(self.fields.prompts(given[usable], *task.given), template)
            labels = self.fields.labels(wanted[usable], *task.wanted)
            yield EncodedExamples(prompts, prompts, labels, self._empty_spans(len(prompts)))

    def _rows(self, kind: str, split: str) -> dict[str, np.ndarray]:
        """Rows of each thing that tasks of a row kind are made from; those of pairs belong together."""
        if kind == "items":
            return {"item": np.arange(len(self.market.items))}
        if kind == "queries":
            return {"query": np.unique(self.views.logs.query_rows[request_rows(self.market, split)])}
        queries, items = query_item_pairs(self.views, split)
        return {"query": queries, "item": items}

    def _targets(self, events: str) -> tuple[np.ndarray, np.ndarray]:
        """Sessions and items of all targets of a kind, sorted by session, each item once per session.

        An item that was both clicked and bought is a target of purchases only.
        """
        count = max(len(self.market.items), 1)
        sessions, items = self.views.logs.own(events)
        keys = sessions * count + items  # one number per session and item
        if events == "clicked":
            bought_in, bought = self.views.logs.own("purchased")
            keys = keys[~np.isin(keys, bought_in * count + bought)]
        _, first = np.unique(keys, return_index=True)
        return np.divmod(keys[np.sort(first)], count)

    def _last_of_each_user(self, sessions: np.ndarray) -> np.ndarray:
        user_ids = self.market.sessions.data.column("user_id").take(sessions)
        users = user_ids.combine_chunks().dictionary_encode().indices.to_numpy()
        _, from_end = np.unique(users[::-1], return_index=True)
        return np.sort(sessions[len(sessions) - 1 - from_end])

    def _empty_spans(self, rows: int) -> np.ndarray:
        return np.zeros((rows, len(self.views.long_logs), 2), dtype=np.int64)

    def table(self, examples: EncodedExamples) -> pa.Table:
        """Examples as a table with the columns of `schema`."""
        requests = np.full(len(examples.prompts), -1) if examples.requests is None else examples.requests
        history = _no_history(len(examples.prompts)) if examples.history is None else examples.history
        count, lists = len(examples.prompts), examples.lists
        items, scores = (None, None) if lists is None else lists
        ends = np.arange(len(examples.spans) + 1) * examples.spans[0].size  # every row has as many numbers
        columns = {
            "input_ids": _list_array(examples.prompts),
            "labels": _list_array(examples.labels),
            "length": pa.array(examples.prompts.lengths.astype(np.int32)),
            "teacher_input_ids": _list_array(examples.teachers),
            "long_view": _list_array(Ragged(examples.spans.ravel(), ends)),
            "request": pa.array(requests.astype(np.int64)),
            "history": _list_array(Ragged(history.values.ravel(), 3 * history.offsets)),
            "query_vector": _list_array(_vector_rows(examples)),
            "teacher_items": _list_array(_or_empty(items, np.int32, count)),
            "teacher_scores": _list_array(_or_empty(scores, np.float32, count)),
        }
        return pa.table({name: columns[name] for name in self.schema.names}, self.schema)


def _no_history(rows: int) -> Ragged:
    return Ragged(np.empty((0, 3), dtype=np.int64), np.zeros(rows + 1, dtype=np.int64))


def _or_empty(rows: Ragged | None, kind: type, count: int) -> Ragged:
    """The rows with values of a kind; `count` empty ones in place of None."""
    if rows is None:
        return Ragged(np.empty(0, dtype=kind), np.zeros(count + 1, dtype=np.int64))
    return Ragged(rows.values.astype(kind), rows.offsets)


def _vector_rows(examples: EncodedExamples) -> Ragged:
    """The vector of each example as a row; empty rows without vectors."""
    rows = None
    if examples.vectors is not None:
        count, size = examples.vectors.shape
        rows = Ragged(examples.vectors.ravel(), np.arange(count + 1) * size)
    return _or_empty(rows, np.float16, len(examples.prompts))


def _list_array(rows: Ragged) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), pa.array(rows.values))


__all__ = ["CHUNK", "EncodedExamples", "ExampleBuilder"]
