"""The fields of prompts, made of columns: one implementation for training (`session_views.py`) and for serving (`request_views.py`).

Both only read columns, from the logs of a market or from requests; what a prompt holds of them is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Part, Ragged, join
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.tokenization_sid.user_ids import user_signatures


@dataclass(frozen=True)
class RequestColumns:
    """What is known of n requests, as columns.

    Args:
        queries: (n,) texts of the queries.
        query_sids: (n, levels) their SIDs; -1 at all levels where one is unknown. None where the layout needs no SIDs of queries.
        histories: n rows of SIDs (items, levels), the items of the user's events before (`PromptLayout.item_events`), oldest
            first; at least `history_length` of them.
        default_histories: n rows of SIDs that take the place of empty histories; None where the layout has no default histories or all
            users have a history.
        earlier_queries: n lists of the user's most recent queries, oldest first.
        profiles: n lists of the words of the user's profile.
        query_vectors: (n, size) text vectors of the queries, zeros where one is unknown; None where the layout needs none.
    """

    queries: Sequence[str]
    query_sids: np.ndarray | None
    histories: Ragged
    default_histories: Ragged | None
    earlier_queries: Sequence[Sequence[str]]
    profiles: Sequence[Sequence[str]]
    query_vectors: np.ndarray | None = None


def prompt_fields(columns: RequestColumns, layout: PromptLayout, codebook_sizes: Sequence[int]) -> PromptFields:
    """Fields of the prompts of requests: the views that the layout shows, each with its most recent entries.

    Args:
        columns: what is known of the requests.
        layout: which views the prompts hold.
        codebook_sizes: number of codes at each level.
    """
    histories = columns.histories
    if columns.default_histories is not None:
        histories = filled(histories, columns.default_histories)
    users = None
    if layout.user:
        parts = (histories.tail(max(layout.items, 1)), histories.tail(layout.long_items))
        users = np.stack([user_signatures(part, codebook_sizes) for part in parts], axis=1)
    return PromptFields(
        texts=columns.queries,
        sids=columns.query_sids if layout.sid else None,
        vectors=columns.query_vectors if layout.query_vector else None,
        users=users,
        items=histories.tail(layout.items),
        queries=columns.earlier_queries if layout.queries else None,
        profiles=columns.profiles if layout.profile else None,
    )


def without(fields: PromptFields, hidden: Collection[str]) -> PromptFields:
    """The fields without some views of `SearchConfig.hidden_views`; the long view is no field and is emptied where it is made."""
    places = {
        "sid": "sids",
        "vector": "vectors",
        "user": "users",
        "items": "items",
        "queries": "queries",
        "profile": "profiles",
    }
    return replace(fields, **{places[view]: None for view in hidden if view in places})


def history_length(layout: PromptLayout) -> int:
    """Most recent items of a history that the fields depend on; with user signatures those of the long history, too."""
    return max(layout.items, layout.long_items, 1) if layout.user else layout.items


def long_view_codes(sequences: Ragged, prompts: int) -> np.ndarray:
    """Codes of long sequences as the model takes them.

    Args:
        sequences: codes (items, levels) of the sequences, those of one prompt one after the other.
        prompts: number of prompts.

    Returns:
        (prompts, sequences, longest, levels) padded with -1; `longest` is at least 1.
    """
    padded = sequences.padded(-1)
    return padded.reshape(prompts, len(sequences) // max(prompts, 1), *padded.shape[1:])


def filled(histories: Ragged, defaults: Ragged) -> Ragged:
    """The histories, with the default history in place of an empty one."""
    own, given = histories.lengths, defaults.lengths
    return join(
        [
            Part(histories.values, histories.offsets[:-1], own),
            Part(defaults.values, defaults.offsets[:-1], np.where(own == 0, given, 0)),
        ]
    )


__all__ = ["RequestColumns", "filled", "history_length", "long_view_codes", "prompt_fields", "without"]
