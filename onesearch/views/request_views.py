"""Prompt fields of single requests, for serving. `session_views.py` makes the same fields of all sessions of a market."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.requests import Request
from onesearch.modeling_onesearch.history_fields_onesearch import EVENT_KINDS, GAP_BUCKETS
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Ragged, offsets_of

from .default_histories import DefaultHistories
from .history_table import HistoryEvents, HistoryTable
from .prompt_fields import RequestColumns, long_view_codes, prompt_fields, without
from .reward.inputs import UNKNOWN_GAP, gap_buckets

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

MAX_QUERIES = 100_000
"""SIDs of about this many queries are cached; then the cache starts anew. The key of a query has 16 bytes whatever its length."""

MAX_VECTORS = 10_000
"""The same for the vectors of queries, each of which takes some hundred bytes."""

MAX_CHARACTERS = 10_000
"""Characters of a query from which its SID and its vector are made; the rest has no effect. Our choice: the paper gives no limit."""


class RequestViews:
    """Prompt fields of requests.

    Args:
        index: codes of the catalogue.
        tokenizer: its layout says which views the prompts hold.
        query_encoder: makes the SIDs and vectors of queries; None where the layout needs none.
        defaults: histories of users without one; None where the layout needs none.
        history_table: what is known of the items of histories as vectors; None where the layout needs none.

    Raises:
        ValueError: the layout needs a part that is not given.
    """

    def __init__(
        self,
        index: SidIndex,
        tokenizer: SidTokenizer,
        query_encoder: SidEncoder | None = None,
        defaults: DefaultHistories | None = None,
        history_table: HistoryTable | None = None,
    ) -> None:
        layout = tokenizer.prompt
        needed = {
            "query_encoder": (layout.needs_query_encoder, query_encoder),
            "defaults": (layout.default_history, defaults),
            "history_table": (layout.has_vectors, history_table),
        }
        missing = [name for name, (wanted, part) in needed.items() if wanted and part is None]
        if missing:
            raise ValueError(
                f"the prompts of this tokenizer need {' and '.join(missing)}: load the checkpoint with Searcher.from_pretrained, "
                "or pass them"
            )
        self.index, self.layout, self.codebook_sizes = index, layout, tokenizer.sid_codebook_sizes
        self.query_encoder = query_encoder if layout.needs_query_encoder else None
        self.defaults = defaults if layout.default_history else None
        self.history_table = history_table if layout.has_vectors else None
        self._sid_of: dict[bytes, np.ndarray] = {}
        self._vector_of: dict[bytes, np.ndarray] = {}

    def fields(self, requests: Sequence[Request], hidden: Collection[str] = ()) -> PromptFields:
        """The fields of the requests' prompts.

        Args:
            requests: n requests.
            hidden: views that are left out; see `SearchConfig.hidden_views`.

        Raises:
            KeyError: an item is not in the catalogue.
        """
        layout, queries = self.layout, [request.query for request in requests]
        sids = self._query_sids(queries) if layout.needs_query_sids else None
        # All items of the long history are looked up, so that an unknown one is an error whatever the prompt shows.
        most = max(layout.items, layout.long_items, 1)
        histories = [self._history(request) for request in requests]
        is_cold = self.defaults is not None and not all(histories)
        is_cold = is_cold and "default_history" not in hidden
        columns = RequestColumns(
            queries=queries,
            query_sids=sids,
            histories=self._codes([history[-most:] for history in histories]),
            default_histories=self._default_histories(requests, sids) if is_cold else None,
            earlier_queries=[list(request.context.queries[-layout.queries :]) for request in requests],
            profiles=[request.context.profile for request in requests],
            query_vectors=self._query_vectors(queries) if layout.query_vector else None,
        )
        return without(prompt_fields(columns, layout, self.codebook_sizes), hidden)

    def long_view_codes(self, requests: Sequence[Request], levels: int, hidden: Collection[str] = ()) -> np.ndarray | None:
        """Codes of the long sequences of the requests' users.

        Args:
            requests: n requests.
            levels: number of levels that the model's long view reads.
            hidden: views that are left out; without the long view all sequences are empty.

        Returns:
            (n, sequences, longest, levels) padded with -1; None where the prompts have no long view.
        """
        layout = self.layout
        if not layout.long_view_tokens:
            return None
        sequences: list[Sequence[str]] = []
        for request in requests:
            for kind in layout.long_view_sequences:
                events = () if "long_view" in hidden else getattr(request.context, kind)
                sequences.append(events[max(len(events) - layout.long_items, 0) :])
        codes = self._codes(sequences)
        return long_view_codes(Ragged(codes.values[:, :levels], codes.offsets), len(requests))

    def tensors(self, requests: Sequence[Request], hidden: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Arguments `history_items`, `history_vectors` and `query_vectors` of the model for requests, as far as the layout shows them.

        Args:
            requests: n requests.
            hidden: views that are left out.

        Raises:
            KeyError: an item is not in the catalogue.
        """
        arrays = self._history_tensors(requests, hidden)
        if self.layout.query_vector:
            vectors = self._query_vectors([request.query for request in requests])
            arrays["query_vectors"] = vectors.astype(np.float32)
        return arrays

    def _history_tensors(self, requests: Sequence[Request], hidden: Collection[str]) -> dict[str, np.ndarray]:
        """The items of histories; empty where items are no vectors. Kinds and ages of events are read where the context has them."""
        table = self.history_table  # a server may replace it meanwhile
        if table is None:
            return {}
        most = self.layout.items
        sequences: list[Sequence[str]] = [self._history(request) for request in requests]
        defaults = [False] * len(requests)
        if self.defaults is not None and "default_history" not in hidden:
            defaults = [not sequence for sequence in sequences]
            sids = self._query_sids([own.query for own in requests])
            found = self._default_items(requests, sids)
            sequences = [default if is_default else own for own, default, is_default in zip(sequences, found, defaults)]
        sequences = [[] if "items" in hidden else list(sequence[-most:]) for sequence in sequences]
        names = [item_id for sequence in sequences for item_id in sequence]
        rows = Ragged(table.rows(names), offsets_of(np.array([len(own) for own in sequences], dtype=np.int64)))
        known = [self._kinds_and_gaps(*parts) for parts in zip(requests, sequences, defaults)]
        kinds, gaps = (np.concatenate([np.asarray(own[place], dtype=np.int64) for own in known]) for place in (0, 1))
        codes = self.index.codes_of(names).astype(np.int64).reshape(len(names), len(self.codebook_sizes))
        return table.arrays(HistoryEvents(rows, codes, kinds, gaps))

    def _history(self, request: Request) -> Sequence[str]:
        """Items of the events of a request that the prompts show (`PromptLayout.item_events`), oldest first."""
        events, context = set(self.layout.item_events), request.context
        if len(events) > 1:
            return request.history
        (kind,) = events
        if len(context.kinds):
            return [item_id for item_id, own in zip(request.history, context.kinds) if own == kind]
        return context.purchased if kind == "purchased" else context.clicked

    def _kinds_and_gaps(self, request: Request, items: Sequence[str], is_default: bool) -> tuple[Sequence[int], Sequence[int]]:
        """Number of the kind and bucket of the age of each event in the prompt; an item that was bought before counts as bought where the
        request gives no kinds."""
        context, numbers = request.context, {kind: number for number, kind in enumerate(EVENT_KINDS)}
        chosen = set(self.layout.item_events)
        is_shown = [len(chosen) > 1 or own in chosen for own in context.kinds] or [True] * len(request.history)
        kinds = [numbers[kind] for kind, is_own in zip(context.kinds, is_shown) if is_own]
        if not kinds or is_default:
            bought = set() if is_default else set(context.purchased)
            kinds = [numbers["purchased" if item_id in bought else "clicked"] for item_id in items]
        gaps = [UNKNOWN_GAP] * len(items)
        if len(context.ages) and not is_default and (len(chosen) > 1 or len(context.kinds)):
            ages = np.array([age for age, is_own in zip(context.ages, is_shown) if is_own], dtype=np.int64)
            gaps = gap_buckets(ages, GAP_BUCKETS).tolist()
        return kinds[len(kinds) - len(items) :], gaps[len(gaps) - len(items) :]

    def _default_histories(self, requests: Sequence[Request], sids: np.ndarray | None) -> Ragged:
        """Codes of the default history of each request whose user has none; empty rows for the others."""
        return self._codes(self._default_items(requests, sids))

    def _default_items(self, requests: Sequence[Request], sids: np.ndarray | None) -> list[Sequence[str]]:
        """The default history of each request whose user has none; empty for the others."""
        histories: list[Sequence[str]] = []
        for row, request in enumerate(requests):
            found: Sequence[str] = ()
            if self.defaults is not None and not self._history(request):
                sid = None if sids is None or sids[row, 0] < 0 else sids[row].tolist()
                found = self.defaults.of(request.query, sid)
                found = [item for item, there in zip(found, self.index.contains(found)) if there]  # items may have been removed
            histories.append(found)
        return histories

    def _codes(self, sequences: Sequence[Sequence[str]]) -> Ragged:
        """Codes (items, levels) of the items of each sequence."""
        names = [item_id for sequence in sequences for item_id in sequence]
        codes = self.index.codes_of(names).astype(np.int64).reshape(len(names), len(self.codebook_sizes))
        return Ragged(codes, offsets_of(np.array([len(sequence) for sequence in sequences], dtype=np.int64)))

    def _query_sids(self, queries: Sequence[str]) -> np.ndarray | None:
        """(queries, levels) SIDs, -1 at all levels where the encoder knows no word of the query; None without an encoder."""
        if self.query_encoder is None:
            return None
        self._sid_of = cached = _with_room(self._sid_of, MAX_QUERIES)  # another thread may replace the attribute meanwhile
        keys, new = _new_queries(queries, cached)
        if new:
            encoded = self.query_encoder.encode(list(new.values()))
            cached.update(zip(new, np.where(encoded.known[:, None], encoded.codes, -1)))
            if self.layout.query_vector:  # the encoder reads a query once for both
                self._vector_of = vectors = _with_room(self._vector_of, MAX_VECTORS)
                vectors.update(zip(new, encoded.vectors))
        return np.stack([cached[key] for key in keys]).astype(np.int64)

    def _query_vectors(self, queries: Sequence[str]) -> np.ndarray:
        """(queries, size) float16 vectors, zeros where the encoder knows no word of the query."""
        assert self.query_encoder is not None  # `__init__` has checked it
        self._vector_of = cached = _with_room(self._vector_of, MAX_VECTORS)
        keys, new = _new_queries(queries, cached)
        if new:
            cached.update(zip(new, self.query_encoder.vectors(list(new.values()))))
        return np.stack([cached[key] for key in keys])


def _with_room(cache: dict[bytes, np.ndarray], most: int) -> dict[bytes, np.ndarray]:
    """The cache, or a new one if it holds more than `most` entries."""
    return {} if len(cache) > most else cache


def _new_queries(queries: Sequence[str], cached: Mapping[bytes, np.ndarray]) -> tuple[list[bytes], dict[bytes, str]]:
    """Key of each query, and the start of those that are not cached by key."""
    keys = [_key(query) for query in queries]
    return keys, {key: query[:MAX_CHARACTERS] for key, query in zip(keys, queries) if key not in cached}


def _key(query: str) -> bytes:
    """Key of a query in the cache, of the same size for every query."""
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=16).digest()


__all__ = ["RequestViews"]
