"""Recogniser of the 18 attribute types: a small token classifier that finds values in texts, also values that no list holds.

OneSearch (arXiv 2509.03236, KHQE step B) uses a named-entity recogniser that is not published. Ours is an ordinary
`AutoModelForTokenClassification` with the package's byte-level BPE, trained on the market itself (`recogniser_training.py`) and saved as a
transformers folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .matching import normalise
from .words import LABELS, TypedSpan, Word, spans_of, words_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FOLDER = "recogniser"
"""Folder of the recogniser within ``sids/``."""

MAX_TOKENS = 128
"""Upper bound of the tokens of a text that are read; the rest has no labels. Our choice."""


class TokenRecogniser:
    """Recogniser that labels the words of a text.

    Args:
        model: token classifier whose labels are `LABELS`.
        tokenizer: its tokenizer.

    Example:
        >>> recogniser = TokenRecogniser.from_pretrained("runs/demo/sids/recogniser")  # doctest: +SKIP
        >>> recogniser.recognise(["Kraemon retro kettle"])  # doctest: +SKIP
        [[TypedSpan(start=0, end=7, kind='brand', score=0.99), ...]]
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TokenRecogniser:
        """Read a folder that `save_pretrained` wrote, or a Hub repository.

        Raises:
            OSError: there is no such folder or repository.
            ValueError: the model has other labels.
        """
        from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

        model = AutoModelForTokenClassification.from_pretrained(str(folder))
        found = tuple(model.config.id2label[number] for number in range(model.config.num_labels))
        if found != LABELS:
            raise ValueError(
                f"{folder} labels {', '.join(found[:3])}, …; a recogniser has the labels {', '.join(LABELS[:3])}, …"
            )
        return cls(model.eval(), PreTrainedTokenizerFast.from_pretrained(str(folder)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model (safetensors), config and tokenizer."""
        self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))

    def recognise(self, texts: Sequence[str], batch_size: int = 256) -> list[list[TypedSpan]]:
        """Spans of the values that each text names.

        Args:
            texts: any texts; they are normalised first, and the spans refer to the normalised text.
            batch_size: texts per forward pass.
        """
        plain = [normalise(text) for text in texts]
        words = [words_of(text) for text in plain]
        found: list[list[TypedSpan]] = [[] for _ in texts]
        # Texts of like length share a batch, so that little is padded.
        order = [row for row in sorted(range(len(plain)), key=lambda row: len(words[row])) if words[row]]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts = self._label([plain[row] for row in rows], [words[row] for row in rows])
            for row, spans in zip(rows, parts):
                found[row] = spans
        return found

    def _label(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> list[list[TypedSpan]]:
        """Spans of one batch of normalised texts."""
        import torch

        batch = encode_words(
            self.tokenizer, [[text[word.start : word.end] for word in part] for text, part in zip(texts, words)]
        )
        with torch.no_grad():
            logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        best = logits.softmax(-1).max(-1)
        found = []
        for row, part in enumerate(words):
            places = first_tokens(batch.word_ids(row))
            labels, scores = best.indices[row, places].tolist(), best.values[row, places].tolist()
            found.append(spans_of(part[: len(places)], labels, scores))
        return found


def encode_words(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Sequence[str]]) -> Any:
    """Token batch of texts that are given as words, padded, with at most `MAX_TOKENS` tokens per text."""
    return tokenizer(
        [list(words) for words in texts],
        is_split_into_words=True,
        truncation=True,
        max_length=MAX_TOKENS,
        padding=True,
        return_tensors="pt",
    )


def first_tokens(word_ids: Sequence[int | None]) -> list[int]:
    """Place of the first token of each word, for the word of each token (None for special tokens)."""
    places: list[int] = []
    for place, word in enumerate(word_ids):
        if word == len(places):
            places.append(place)
    return places


__all__ = ["FOLDER", "MAX_TOKENS", "TokenRecogniser", "encode_words", "first_tokens"]
