"""The views of users that prompts hold, for single requests. `onesearch.views.session_views` makes the same of whole tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.requests import Request

from .default_histories import DefaultHistories

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.index_onesearch import SidIndex
    from onesearch.tokenization_sid.prompts import PromptFields
    from onesearch.tokenization_sid.ragged import Ragged
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

MAX_QUERIES = 100_000
"""SIDs of about so many queries are remembered; then all are forgotten at once."""


class RequestViews:
    """Prompt fields of requests.

    Args:
        index: codes of the catalogue; tokenizer: says which views its prompts hold.
        query_encoder: makes SIDs of queries; defaults: histories of users without one. None where the prompts need none.

    Raises:
        ValueError: the prompts need a part that is not given.
    """

    def __init__(
        self,
        index: SidIndex,
        tokenizer: SidTokenizer,
        query_encoder: SidEncoder | None = None,
        defaults: DefaultHistories | None = None,
    ):
        layout = tokenizer.prompt
        needed = {"query_encoder": (layout.needs_query_sids, query_encoder), "defaults": (layout.default_history, defaults)}
        missing = [name for name, (wanted, part) in needed.items() if wanted and part is None]
        if missing:
            raise ValueError(
                f"the prompts of this tokenizer need {' and '.join(missing)}: load the checkpoint with Searcher.from_pretrained, "
                "or pass them"
            )
        self.index, self.layout, self.codebook_sizes = index, layout, tokenizer.sid_codebook_sizes
        self.query_encoder, self.defaults = query_encoder, defaults
        self._sid_of: dict[str, np.ndarray] = {}

    def fields(self, requests: Sequence[Request]) -> PromptFields:
        """Everything that the prompts of these requests hold."""
        from onesearch.tokenization_sid.prompts import PromptFields
        from onesearch.tokenization_sid.user_ids import user_signatures

        layout = self.layout
        sids = self._query_sids([request.query for request in requests]) if layout.needs_query_sids else None
        recent = self._codes([self._history(request, sids, row) for row, request in enumerate(requests)])
        users = None
        if layout.user:
            users = np.stack(
                [user_signatures(part, self.codebook_sizes) for part in (recent.tail(max(layout.items, 1)), recent)], axis=1
            )
        return PromptFields(
            texts=[request.query for request in requests],
            sids=sids if layout.sid else None,
            items=recent.tail(layout.items),
            users=users,
            queries=[list(request.context.queries[-layout.queries :]) for request in requests] if layout.queries else None,
            profiles=[request.context.profile for request in requests] if layout.profile else None,
        )

    def long_view_codes(self, requests: Sequence[Request], levels: int) -> np.ndarray | None:
        """(requests, sequences, longest, levels) codes of the long sequences, padded with -1; None where the prompts have no long view."""
        from onesearch.tokenization_sid.ragged import Ragged

        if not self.layout.long_view_tokens:
            return None
        sequences = [
            getattr(request.context, kind)[-self.layout.long_items :]
            for request in requests
            for kind in self.layout.long_view_sequences
        ]
        codes = self._codes(sequences)
        padded = Ragged(codes.values[:, :levels], codes.offsets).padded(-1)
        return padded.reshape(len(requests), -1, *padded.shape[1:])

    def _history(self, request: Request, sids: np.ndarray | None, row: int) -> Sequence[str]:
        """The long history; a default one for a user who has none."""
        if request.history or not self.layout.default_history:
            return request.history[-self.layout.long_items :]
        known = sids is not None and sids[row, 0] >= 0
        found = self.defaults.of(request.query, sids[row].tolist() if known else None)
        return [item for item, there in zip(found, self.index.contains(found)) if there]  # the catalogue may have moved on

    def _codes(self, sequences: Sequence[Sequence[str]]) -> Ragged:
        from onesearch.tokenization_sid.ragged import Ragged, offsets_of

        names = [item_id for sequence in sequences for item_id in sequence]
        codes = self.index.codes_of(names).astype(np.int64).reshape(len(names), len(self.codebook_sizes))
        return Ragged(codes, offsets_of(np.array([len(sequence) for sequence in sequences], dtype=np.int64)))

    def _query_sids(self, queries: Sequence[str]) -> np.ndarray:
        """(queries, levels), -1 throughout where the encoder knows no word."""
        if len(self._sid_of) > MAX_QUERIES:
            self._sid_of = {}
        known_sids = self._sid_of  # kept here, should another thread begin anew
        new = list(dict.fromkeys(query for query in queries if query not in known_sids))
        if new:
            codes, known = self.query_encoder.encode(new)
            known_sids.update(zip(new, np.where(known[:, None], codes, -1)))
        return np.stack([known_sids[query] for query in queries]).astype(np.int64)


__all__ = ["RequestViews"]
