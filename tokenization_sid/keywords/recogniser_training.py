"""Training of the recogniser: labelled titles and queries, values replaced by random strings, a few hundred steps.

A recogniser that only repeats the lists is worth nothing. In training a share of the labelled values is therefore replaced by random
strings of the same shape, which the lists cannot know, so that the place of a value and its neighbours must tell its type.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..bpe import SPECIAL_TOKENS, train_bpe
from .configs import RecogniserConfig
from .recogniser import MAX_TOKENS, TokenRecogniser, encode_words, first_tokens
from .words import LABELS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

IGNORED = -100
"""Label of tokens that are not the first of a word, and of words of which nothing is known; the loss leaves them out."""

ATTENTION_HEADS = 4


class LabelledText(NamedTuple):
    """Words of a text and the label number of each; `IGNORED` for a word of which nothing is known."""

    words: list[str]
    labels: list[int]


def train_recogniser(
    titles: Sequence[LabelledText], queries: Sequence[LabelledText], config: RecogniserConfig
) -> TokenRecogniser | None:
    """Train a recogniser from random weights.

    Args:
        titles: labelled titles.
        queries: labelled queries.
        config: size and training.

    Returns:
        The recogniser; None if no text has a label.
    """
    import torch

    groups = [group for group in (titles, queries) if group]
    texts = [text for group in groups for text in group]
    if not any(max(text.labels, default=0) > 0 for text in texts):
        return None
    rng = np.random.default_rng(config.seed)
    replacer = _Replacer(texts, config, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        tokenizer = _tokenizer(texts, config)
        model = _new_model(tokenizer, config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
        warmup = max(1, config.steps // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (config.steps - step) / max(1, config.steps - warmup))
        )
        for step in range(config.steps):
            batch = [replacer.replaced(text) for text in _sample(groups, config.batch_size, rng)]
            loss = _loss(model, tokenizer, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if (step + 1) % max(1, config.steps // 4) == 0:
                logger.info("recogniser: step %d of %d, loss %.3f", step + 1, config.steps, float(loss.detach()))
    return TokenRecogniser(model.eval(), tokenizer)


def _sample(groups: Sequence[Sequence[LabelledText]], size: int, rng: np.random.Generator) -> list[LabelledText]:
    """Texts of one step, about as many of each group."""
    chosen = []
    for number in range(size):
        group = groups[number % len(groups)]
        chosen.append(group[int(rng.integers(len(group)))])
    return chosen


def _tokenizer(texts: Sequence[LabelledText], config: RecogniserConfig) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    bpe = train_bpe((" ".join(text.words) for text in texts), config.vocab_size)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **SPECIAL_TOKENS)


def _new_model(tokenizer: PreTrainedTokenizerFast, config: RecogniserConfig) -> PreTrainedModel:
    from transformers import AutoModelForTokenClassification, BertConfig

    return AutoModelForTokenClassification.from_config(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=ATTENTION_HEADS,
            intermediate_size=2 * config.hidden_size,
            max_position_embeddings=MAX_TOKENS,
            hidden_dropout_prob=0.0,  # random strings in place of values keep it from learning texts by heart
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            id2label=dict(enumerate(LABELS)),
            label2id={label: number for number, label in enumerate(LABELS)},
        )
    ).train()


def _loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[LabelledText]) -> torch.Tensor:
    """Cross-entropy of the labels of one batch."""
    import torch

    batch: Any = encode_words(tokenizer, [text.words for text in texts])
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for row, text in enumerate(texts):
        places = first_tokens(batch.word_ids(row))
        labels[row, places] = torch.tensor(text.labels[: len(places)], dtype=labels.dtype)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


class _Replacer:
    """Replaces values by random strings: letters follow each other as in the words of the texts, and digits stay digits.

    Args:
        texts: texts whose words the letters are learned from.
        config: shares of values to replace.
        rng: random stream.
    """

    def __init__(self, texts: Sequence[LabelledText], config: RecogniserConfig, rng: np.random.Generator) -> None:
        words = dict.fromkeys(word for text in texts for word in text.words if word.isalpha())
        self.next: dict[str, str] = {}
        for word in words:
            for before, after in zip(f" {word}", f"{word} "):
                self.next[before] = self.next.get(before, "") + after
        self.shares = [0.0] * len(LABELS)
        for number, label in enumerate(LABELS[1:], start=1):
            self.shares[number] = config.replace_open if label[2:] in config.open_types else config.replace_other
        self.rng = rng

    def replaced(self, text: LabelledText) -> LabelledText:
        """The text with some of its values replaced; the labels stay."""
        words = list(text.words)
        replacing = False
        for row, label in enumerate(text.labels):
            if label <= 0:
                continue
            if LABELS[label].startswith("B-"):
                replacing = bool(self.rng.random() < self.shares[label])
            if replacing:
                words[row] = self._random_like(words[row])
        return LabelledText(words, text.labels)

    def _random_like(self, word: str) -> str:
        """A random string for a word: digits for digits, letters for letters, and other characters as they are."""
        if word.isalpha():
            return self._random_word(len(word))
        letters = []
        for letter in word:
            if letter.isdigit():
                letters.append(str(self.rng.integers(10)))
            elif letter.isalpha():
                letters.append(self._random_word(1))
            else:
                letters.append(letter)
        return "".join(letters)

    def _random_word(self, length: int) -> str:
        """Letters drawn one after the other, each by the letter before it; of about the length of a word that it replaces."""
        wanted = max(1, length + int(self.rng.integers(-2, 3))) if length > 2 else length
        letters = " "
        while len(letters) <= wanted:
            follows = self.next.get(letters[-1], "").replace(" ", "") or self.next[" "]
            letters += follows[int(self.rng.integers(len(follows)))]
        return letters[1:]


__all__ = ["IGNORED", "LabelledText", "train_recogniser"]
