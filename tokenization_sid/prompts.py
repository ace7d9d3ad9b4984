"""What the encoder reads, as data: every template once, with a stable name, for training, evaluation and serving alike.

Travels to the Hub with the tokenizer: imports nothing of this package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN_LIKE = re.compile(r"<(?=/?[a-z]+(?:_\d+)?>)")


@dataclass(frozen=True)
class PromptTemplate:
    """Layout of one kind of encoder input: a text, and after a separator the SIDs of a history, oldest first.

    Args:
        name: stable id, stored with the checkpoint; a changed layout gets a new name.
        max_text_tokens: the text is cut to so many tokens.
        max_history: at most so many of the most recent items.
    """

    name: str
    max_text_tokens: int
    max_history: int


TEMPLATES = {
    layout.name: layout
    for layout in (
        # Window: OneSearch's explicit short view has at most 5 items. The token limits are ours.
        PromptTemplate("search/1", max_text_tokens=32, max_history=5),
        PromptTemplate("item-text/1", max_text_tokens=48, max_history=0),
    )
}


def template(name: str) -> PromptTemplate:
    """Template by name, with its default limits; ValueError lists the known ones."""
    if name not in TEMPLATES:
        raise ValueError(f"prompt template {name!r} is unknown; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def plain_text(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` on one line, with nothing in it that the tokenizer would read as a SID or a special token.

    Args:
        special_tokens: the tokenizer's own, where they may be of another form than `<name>` (a Chinese BART's are `[SEP]` and the like).
    """
    plain = _TOKEN_LIKE.sub("< ", " ".join(text.split()))
    for token in special_tokens:
        plain = plain.replace(token, f"{token[0]} {token[1:]}")
    return plain


__all__ = ["PromptTemplate", "TEMPLATES", "plain_text", "template"]
