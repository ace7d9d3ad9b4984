"""An estimate of the length of a request's prompt, by which requests are put into batches with little padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onesearch.data.requests import Request

if TYPE_CHECKING:
    from onesearch.tokenization_sid.templates import PromptLayout

CHARACTERS_PER_TOKEN = 4
"""Characters of a text that count as one token; our choice."""

ITEM_TOKENS = 5
"""Tokens that an item of the history counts as where it stands as tokens: the codes of its SID at the paper's five levels."""


def prompt_size(request: Request, layout: PromptLayout) -> int:
    """Estimate the number of tokens of a prompt that differ from request to request, without making the prompt.

    Args:
        request: the request.
        layout: limits of the prompt's parts.
    """
    earlier = request.context.queries[-layout.queries :] if layout.queries else ()
    size = min(len(request.query) // CHARACTERS_PER_TOKEN, layout.text_tokens)
    size += sum(min(len(query) // CHARACTERS_PER_TOKEN, layout.query_tokens) for query in earlier)
    item_tokens = 1 if layout.has_vectors else ITEM_TOKENS
    return size + item_tokens * min(len(request.history), layout.items) + len(request.context.profile)


__all__ = ["prompt_size"]
