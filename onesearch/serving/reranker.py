"""Re-ranking of a beam by the reward model of a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onesearch.data.requests import Request
from onesearch.modeling_onesearch.configuration_reward_onesearch import TOWERS
from onesearch.views.reward.inputs import RewardColumns, RewardInputs
from onesearch.views.reward.ranking import rewards, stable_order, terms
from onesearch.views.reward.reward_folder import RewardParts, known_items, load_reward, sessions_market
from onesearch.views.reward.reward_requests import RewardRequests

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from onesearch.modeling_onesearch.hits_onesearch import Hit
    from onesearch.modeling_onesearch.reward_functions_onesearch import RewardFunctions

STATES_AT_ONCE = 8192
"""Items whose states are computed at a time."""

MIN_LOG_P = -50.0
"""Log-probability of padding, and the least that counts."""


class Scored(NamedTuple):
    """Candidates of requests and what the reward model makes of them.

    Attributes:
        rows: item rows, -1 for padding and for items that the model does not know, ``(requests, candidates)``.
        logits: log-odds of the towers, ``(requests, candidates, 3)``.
        relevance: cosine of the text vectors, ``(requests, candidates)``.
        log_p: log-probability of the generator, ``(requests, candidates)``.
    """

    rows: np.ndarray
    logits: np.ndarray
    relevance: np.ndarray
    log_p: np.ndarray

    @property
    def terms(self) -> np.ndarray:
        """The terms of the ranking score, ``(requests, candidates, 5)``."""
        return terms(self.logits, self.relevance, self.log_p)


class _State(NamedTuple):
    """The parts, and what reads their memory; replaced as a whole."""

    parts: RewardParts
    inputs: RewardInputs
    requests: RewardRequests


class Reranker:
    """Ranks the hits of a search by the reward model.

    Args:
        parts: the reward model and what it reads.
    """

    def __init__(self, parts: RewardParts) -> None:
        self._updating = threading.Lock()
        self._state = self._state_of(parts)

    def _state_of(self, parts: RewardParts) -> _State:
        inputs = RewardInputs(parts.table, parts.memory, parts.model.config.max_history, parts.without)
        return _State(parts, inputs, RewardRequests(parts.item_ids, parts.memory, self._embed))

    @property
    def parts(self) -> RewardParts:
        """The reward model and what it reads; `update` replaces the memory."""
        return self._state.parts

    @property
    def inputs(self) -> RewardInputs:
        """Makes the tensors of the model with the memory of `parts`."""
        return self._state.inputs

    @property
    def requests(self) -> RewardRequests:
        """Makes the columns of requests with the memory of `parts`."""
        return self._state.requests

    @classmethod
    def from_pretrained(cls, folder: str | Path, plain: bool = False) -> Reranker:
        """Load the folder ``reward/`` of a checkpoint.

        Args:
            folder: the folder.
            plain: load the layers alone; see `load_reward`.

        Raises:
            FileNotFoundError: there is no reward model.
            ValueError: a file is damaged.
        """
        return cls(load_reward(Path(folder), plain))

    def update(self, sessions: pa.Table, log_end: int | None = None) -> None:
        """Count new sessions in the memory of this process, without any training; `update_memory` does so in a checkpoint.

        Other threads may search meanwhile: a search reads the old memory or the new one.

        Args:
            sessions: rows with the columns of the sessions table, sorted by time. A session counts each time that it is given.
            log_end: where these sessions end in the server's event log; None if they are not from there.

        Raises:
            ValueError: the table does not fit.
        """
        market = sessions_market(self._items, sessions)
        with self._updating:
            self._state = self._state_of(self.parts._replace(memory=self.parts.memory.updated(market, log_end)))

    def rerank(
        self, requests: Sequence[Request], hits: Sequence[Sequence[Hit]], top_k: int, explain: bool = False
    ) -> list[list[Hit]]:
        """The best hits of each request in the order of the reward model, with its scores. Equal scores keep the generator's order.

        An item that the reward model does not know, such as one that was added later, keeps its place behind all known ones.

        Args:
            requests: n requests.
            hits: hits of each, best first.
            top_k: largest number of hits that are returned per request.
            explain: put the towers' probabilities into the hits.
        """
        scored = self.score(requests, hits)
        values = rewards(self.parts.weights, scored.logits, scored.relevance, scored.log_p)
        chances = scored.terms[..., : len(TOWERS)] if explain else None
        known = scored.rows >= 0
        if not known.all():
            least = np.where(known, values, 0.0).min(axis=1, keepdims=True)
            values = np.where(known, values, least - 1.0 - np.arange(values.shape[1]) / values.shape[1])
        ranked = []
        for request, (found, own) in enumerate(zip(hits, values)):
            places = stable_order(own[: len(found)])[:top_k]
            scores, places = own[places].tolist(), places.tolist()
            if chances is None:
                best = [found[place].with_score(score) for place, score in zip(places, scores)]
            else:
                towers = [tuple(chances[request, place].tolist()) if known[request, place] else None for place in places]
                best = [found[place].with_score(*parts) for place, *parts in zip(places, scores, towers)]
            ranked.append(best)
        return ranked

    def score(self, requests: Sequence[Request], hits: Sequence[Sequence[Hit]]) -> Scored:
        """What the reward model makes of the hits of n requests."""
        state = self._state  # one memory for the whole call, whatever `update` does meanwhile
        counts = [len(found) for found in hits]
        rows = np.full((len(hits), max(counts, default=0) or 1), -1, dtype=np.int64)
        there, log_p = np.arange(rows.shape[1]) < np.array(counts)[:, None], np.full(rows.shape, MIN_LOG_P)
        rows[there] = state.requests.rows([hit.item_id for found in hits for hit in found])
        log_p[there] = np.maximum([hit.score for found in hits for hit in found], MIN_LOG_P)
        features, logits = self.predict(state.requests.columns(requests, rows), state.inputs)
        return Scored(rows, logits, features[..., state.inputs.names.index("text_match")], log_p)

    def predict(self, columns: RewardColumns, inputs: RewardInputs | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Cross features ``(requests, candidates, features)`` and log-odds of the towers ``(requests, candidates, 3)`` of columns.

        Args:
            columns: what is known of the requests.
            inputs: makes the tensors, for instance with a memory that knows times; None takes those of serving.
        """
        arrays = (inputs or self.inputs).requests(columns)
        return arrays["features"], self._functions(arrays)

    def logits(self, columns: RewardColumns) -> np.ndarray:
        """Log-odds of the towers, ``(requests, candidates, 3)``."""
        return self.predict(columns)[1]

    def relevance(self, columns: RewardColumns) -> np.ndarray:
        """Cosine of the text vectors of query and item, ``(requests, candidates)``."""
        rows = np.maximum(columns.candidates, 0)
        return np.einsum("ncd,nd->nc", self.parts.table.vectors[rows], columns.query_vectors)

    @cached_property
    def _functions(self) -> RewardFunctions:
        """The model as plain functions, made once."""
        from onesearch.modeling_onesearch.reward_functions_onesearch import RewardFunctions

        return RewardFunctions(self.parts.model, self._item_states(), self.parts.table.groups)

    def _item_states(self) -> torch.Tensor:
        """States of all items, ``(items, hidden_size)``."""
        import torch

        table, model = self.parts.table, self.parts.model
        names = ("item_vectors", "item_codes", "item_facets", "item_facet_offsets", "item_ids")
        states = []
        with torch.inference_mode():
            for start in range(0, len(table.vectors), STATES_AT_ONCE):
                arrays = table.take(np.arange(start, min(start + STATES_AT_ONCE, len(table.vectors))))
                states.append(model.items(*(torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in names)))
        return torch.cat(states)

    @cached_property
    def _items(self) -> pa.Table:
        """Items table of the ids, for counting sessions; `update` changes no item."""
        return known_items(self.parts.item_ids)

    def _embed(self, queries: Sequence[str]) -> np.ndarray:
        return self._vectors(list(queries))

    @cached_property
    def _vectors(self) -> Callable[[list[str]], np.ndarray]:
        """Makes unit vectors of texts."""
        from onesearch.tokenization_sid.embedding.static_encoder import StaticVectors
        from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

        encoder = self.parts.encoder
        if isinstance(encoder, StaticVectors):
            return encoder
        return StaticVectors.of(encoder) or partial(embed_texts, encoder)


__all__ = ["Reranker", "Scored"]
