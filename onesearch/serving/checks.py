"""Checks of the parts of a searcher and of its requests, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.requests import Request, UserContext
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

    from .dense_index import DenseIndex
    from .loading import OneSearchModel
    from .reranker import Reranker
    from .text_index import TextIndex


def checked_reranker(reranker: Reranker | None) -> Reranker:
    """The reranker; ValueError where there is none."""
    if reranker is None:
        raise ValueError(
            "rerank=True needs a reward model, and this checkpoint has none; train one with `onesearch reward`, or set rerank=False"
        )
    return reranker


def checked_text_index(config: SearchConfig, text_index: TextIndex | None) -> TextIndex:
    """The text index; ValueError where there is none, or nothing ranks what it finds."""
    asked = f"candidates={config.candidates!r}" if config.with_text else f"text_weight={config.text_weight}"
    if not config.rerank and not config.text_weight:
        raise ValueError(
            f"{asked} needs rerank=True or a text_weight: BM25 scores and the generator's log-probabilities cannot be compared, and by the "
            "latter alone the items that the beams missed stand behind those that they found. Rank them by a reward model "
            "(`onesearch reward` trains one), give a text_weight, or set candidates='beam'"
        )
    if text_index is None:
        raise ValueError(
            f"{asked} needs a text index, and this checkpoint has none (text_index.safetensors); `onesearch reward` builds it with the "
            "reward model, or set candidates='beam'"
        )
    from .text_index import require_text_search

    require_text_search(asked)
    return text_index


def checked_dense(config: SearchConfig, dense: DenseIndex | None) -> DenseIndex:
    """The dense index; ValueError where there is none, or nothing ranks what it finds."""
    asked = f"candidates={config.candidates!r}" if config.with_dense else f"dense_weight={config.dense_weight}"
    if not config.rerank and not config.dense_weight:
        raise ValueError(
            f"{asked} needs rerank=True or a dense_weight: by the generator's log-probabilities alone the items that the beams missed "
            "stand behind those that they found. Give a dense_weight, for instance 10, or set candidates='beam'"
        )
    if dense is None:
        raise ValueError(
            f"{asked} needs a dense index, and this checkpoint has none (folder dense/); `onesearch dense` makes it, or set "
            "dense_weight=0 and candidates='beam'"
        )
    return dense


def check_events(history: Sequence[str], context: UserContext) -> None:
    """Refuse ages and kinds of events that do not fit the history; ValueError names the first value that does not."""
    for name, values in (("ages", context.ages), ("kinds", context.kinds)):
        if len(values) not in (0, len(history)):
            raise ValueError(
                f"context.{name} holds {len(values)} values for a history of {len(history)} items; give one per item, or none"
            )
    for age in context.ages:
        if isinstance(age, bool) or not isinstance(age, int | np.integer) or age < 0:
            raise ValueError(
                f"context.ages holds {age!r}; an age is a whole number of at least 0, the time from the event to the search"
            )
    unknown = [kind for kind in context.kinds if kind not in EVENT_KINDS]
    if unknown:
        raise ValueError(f"context.kinds holds {unknown[0]!r}; allowed are {', '.join(EVENT_KINDS)}")


def refuse_other_types(request: Request) -> None:
    """Refuse a text, a set or an iterator where a request must hold a sequence. The entries, possibly thousands of them, are not read."""
    parts = {
        "history": request.history,
        **{f"context.{part.name}": getattr(request.context, part.name) for part in fields(UserContext)},
    }
    for name, value in parts.items():
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(
                f"request {request.session_id!r}: {name} must be a list of texts, got {type(value).__name__}: {value!r:.80}"
            )


def checked_index(model: OneSearchModel, tokenizer: SidTokenizer) -> SidIndex:
    """The model's item index; ValueError if model and tokenizer have different codebooks, whose SIDs mean nothing to each other."""
    if model.sid_index is None:
        raise ValueError("the model has no item index: put sid_index.safetensors beside its weights or call set_sid_index")
    config = model.config
    own = (tuple(config.sid_codebook_sizes), config.sid_offset)
    other = (tokenizer.sid_codebook_sizes, tokenizer.sid_offset)
    if own != other:
        raise ValueError(
            f"model and tokenizer lay out SIDs differently: (codebook sizes, offset) is {own} for the model and {other} for the tokenizer; "
            "load both from the same checkpoint"
        )
    if tokenizer.sid_fingerprint and config.sid_fingerprint and tokenizer.sid_fingerprint != config.sid_fingerprint:
        raise ValueError(
            f"the tokenizer was made for codebooks {tokenizer.sid_fingerprint[:12]}…, the model for {config.sid_fingerprint[:12]}…; "
            "load both from the same checkpoint"
        )
    return model.sid_index


__all__ = ["check_events", "checked_dense", "checked_index", "checked_reranker", "checked_text_index", "refuse_other_types"]
