"""The static encoder: one vector per token, averaged; a text costs microseconds and needs no transformer.

Its vocabulary is trained on the market's own texts, and its token vectors start as latent semantic analysis of them. `text_encoder.py`
then trains them on behaviour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from onesearch.files import read_json

from ..ragged import Ragged
from .configs import TextEncoderConfig
from .latent_semantics import latent_semantic_vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

SPECIAL_TOKENS = ("[PAD]", "[UNK]")
"""Tokens that stand for no word; their vectors are zero."""

MIN_ALPHABET = 1000
"""Number of letters that always fit into the vocabulary, if the texts have that many. Our choice."""

ALPHABET_SHARE = 0.75
"""Share of a larger vocabulary that letters may take: 6,000 of 8,000 tokens, as Chinese product texts need. Our choice."""


LETTERS_WITH_MARKS = frozenset(
    ("bn", "gu", "hi", "ja", "km", "kn", "ko", "lo", "ml", "mr", "mul", "my", "ne", "pa", "si", "ta", "te", "th")
)
"""Languages whose vowels and voiced consonants are marks on letters, and ``mul``, which may hold some of them."""

LONGEST_SENTENCE = 2000
"""Most letters of a run without blanks in `LETTERS_WITH_MARKS`; a longer run is an unknown token. Our choice."""


TEXTS_AT_ONCE = 10_000
"""Number of texts that are tokenised at once; it bounds the memory."""


def static_encoder(
    texts: Sequence[str], config: TextEncoderConfig, markers: Sequence[str] = (), language: str | None = None
) -> SentenceTransformer:
    """Make a static encoder of `texts` by latent semantic analysis.

    Args:
        texts: texts that give the vocabulary and the token vectors.
        config: dimension, vocabulary size and seed.
        markers: reserved tokens in the texts, each of which gets a vector beside those of the vocabulary.
        language: first subtag of the language of the texts. In `LETTERS_WITH_MARKS`, letters keep their marks; elsewhere accents are left
            out, so that "ü" and "u" are one letter.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    tokenizer = _word_piece_tokenizer(_without(texts, markers), config.vocab_size, language)
    tokenizer.add_special_tokens(list(markers))
    tokens = Ragged.of(list(_token_ids(tokenizer, texts)))
    vectors = latent_semantic_vectors(tokens, tokenizer.get_vocab_size(), config.dimension, config.seed)
    encoder = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors), Normalize()], device="cpu")
    _clear_special_rows(encoder)
    return encoder


def _token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Tokens of each text. An encoding takes kilobytes beside its ids, so that only `TEXTS_AT_ONCE` of them are held."""
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        for encoding in tokenizer.encode_batch(list(texts[start : start + TEXTS_AT_ONCE]), add_special_tokens=False):
            yield np.array(encoding.ids, dtype=np.int64)


class StaticVectors:
    """A static encoder without sentence-transformers, whose preparations cost a single text more than its vector does.

    Args:
        tokenizer: tokenizer of the encoder.
        weights: vector of each token, float32 ``(tokens, size)``.
    """

    def __init__(self, tokenizer: Tokenizer, weights: np.ndarray) -> None:
        self.tokenizer, self.weights = tokenizer, weights

    @classmethod
    def of(cls, encoder: SentenceTransformer) -> StaticVectors | None:
        """The same vectors as those of an encoder; None for one that is more than a mean of token vectors."""
        from sentence_transformers.sentence_transformer.modules import Normalize

        static = static_module(encoder)
        plain = all(isinstance(part, Normalize) for part in list(encoder)[1:])
        if static is None or not plain or encoder.default_prompt_name is not None:
            return None
        return cls(static.tokenizer, static.embedding.weight.detach().cpu().numpy())

    @classmethod
    def load(cls, folder: Path) -> StaticVectors | None:
        """The same as `of` for a saved encoder, without sentence-transformers, which takes seconds to import.

        Args:
            folder: folder that `SentenceTransformer.save` wrote.

        Returns:
            None for an encoder that is more than a mean of token vectors.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        modules = [module["type"].rpartition(".")[2] for module in read_json(folder / "modules.json")]
        settings = read_json(folder / "config_sentence_transformers.json")
        if (
            modules[:1] != ["StaticEmbedding"]
            or set(modules[1:]) - {"Normalize"}
            or settings.get("default_prompt_name") is not None
        ):
            return None
        files = folder / "tokenizer.json", folder / "model.safetensors"
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} does not exist; copy the encoder again")
        try:
            weights = load_file(files[1])["embedding.weight"]
            tokenizer = Tokenizer.from_file(str(files[0]))
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{files[1]} is damaged ({error}); copy the encoder again") from error
        except Exception as error:  # `tokenizers` raises nothing more exact
            raise ValueError(f"{files[0]} is damaged ({error}); copy the encoder again") from error
        tokenizer.no_padding()
        return cls(tokenizer, weights)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float32 ``(texts, size)``; zeros for a text without a known token."""
        vectors = np.zeros((len(texts), self.weights.shape[1]), dtype=np.float32)
        for vector, text in zip(vectors, texts):
            tokens = self.tokenizer.encode(text, add_special_tokens=False).ids
            if tokens:
                total = self.weights[tokens].sum(axis=0)
                vector[:] = total / (float(np.sqrt(total @ total)) or 1.0)
        return vectors


class TokenisedOnce:
    """Inputs of a static encoder, as its `preprocess` gives them, with each text tokenised once.

    Without it, most of the training time of a static encoder is tokenising.

    Args:
        encoder: static encoder.
    """

    def __init__(self, encoder: SentenceTransformer) -> None:
        self.tokenizer = encoder.tokenizer
        self.ids: dict[str, np.ndarray] = {}

    def __call__(self, inputs: list[str], **_: Any) -> dict[str, Any]:
        """Token ids of all texts, concatenated, as ``input_ids``, and the start of each text in them as ``offsets``."""
        import torch

        new = [text for text in dict.fromkeys(inputs) if text not in self.ids]
        for text, encoding in zip(new, self.tokenizer.encode_batch(new, add_special_tokens=False)):
            self.ids[text] = np.array(encoding.ids, dtype=np.int64)
        found = [self.ids[text] for text in inputs]
        starts = np.cumsum([0, *map(len, found[:-1])])
        return {"input_ids": torch.from_numpy(np.concatenate(found)), "offsets": torch.from_numpy(starts)}


def static_module(encoder: SentenceTransformer) -> StaticEmbedding | None:
    """Token vectors of a static encoder; None for an encoder of another kind."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    first = encoder[0]
    return first if isinstance(first, StaticEmbedding) else None


def add_static_tokens(encoder: SentenceTransformer, tokens: Sequence[str]) -> None:
    """Add reserved tokens to the vocabulary of a static encoder, in place, with zero vectors.

    Raises:
        TypeError: the encoder has no token vectors.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    module = static_module(encoder)
    if module is None:
        raise TypeError(f"{type(encoder[0]).__name__} has no token vectors; give a static encoder")
    module.tokenizer.add_special_tokens(list(tokens))
    weight = module.embedding.weight.detach()
    rows = module.tokenizer.get_vocab_size() - len(weight)
    encoder[0] = StaticEmbedding(module.tokenizer, embedding_weights=torch.nn.functional.pad(weight, (0, 0, 0, max(rows, 0))))


def threads_of(encoder: SentenceTransformer) -> int | None:
    """Number of threads that an encoder is trained on.

    One for a static encoder, so that it is the same on every machine; its small matrices gain nothing by more. None, which leaves the
    number to torch, for an encoder of another kind.
    """
    return None if static_module(encoder) is None else 1


def without_card(encoder: SentenceTransformer) -> None:
    """Make a training look for no examples of a model card: none is written, and looking reads every row and shows a progress bar."""
    encoder.model_card_data.generate_widget_examples = False
    encoder.model_card_data.set_widget_examples = lambda dataset: None  # type: ignore[method-assign]


@contextmanager
def blank_rows(encoder: SentenceTransformer) -> Iterator[None]:
    """Keep padding and unknown words of a static encoder at the zero vector while it is trained inside the block.

    Rows that are not zero at the start are trained as all others, and an encoder of another kind is left alone. A text with the zero
    vector gets no gradient: the gradient of normalising it is of the order of 10²³, and clipping the norm of all gradients would leave
    nothing of the others.
    """
    import torch

    module = static_module(encoder)
    if module is None:
        yield
        return
    weight = module.embedding.weight
    rows = [row for token in SPECIAL_TOKENS if (row := encoder.tokenizer.token_to_id(token)) is not None]
    blank = [row for row in rows if not weight[row].any()]
    hook = module.register_forward_hook(_drop_gradient_of_zeros)
    yield
    hook.remove()
    with torch.no_grad():
        weight[blank] = 0


def alphabet_limit(vocab_size: int) -> int:
    """Upper bound of the letters in a vocabulary of `vocab_size` tokens; the most frequent ones stay.

    A word with another letter is unknown. Scripts with few letters never reach the bound. Chinese characters, which the tokenizer treats
    as words of their own, do.
    """
    return max(MIN_ALPHABET, int(ALPHABET_SHARE * vocab_size))


def _drop_gradient_of_zeros(module: torch.nn.Module, inputs: tuple[object, ...], output: dict[str, torch.Tensor]) -> None:
    """Forward hook: no gradient flows into sentence vectors (batch, dimension) that are zero."""
    vectors = output["sentence_embedding"]
    if vectors.requires_grad:
        zero = ~vectors.detach().any(dim=1, keepdim=True)
        vectors.register_hook(lambda gradient: gradient.masked_fill(zero, 0))


def _clear_special_rows(encoder: SentenceTransformer) -> None:
    """Set padding and unknown words to zero. The factorisation leaves noise there, which normalising would scale up to unit length."""
    import torch

    module = static_module(encoder)
    if module is None:
        raise TypeError(f"{type(encoder[0]).__name__} has no token vectors; give a static encoder")
    rows = [encoder.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
    with torch.no_grad():
        module.embedding.weight[rows] = 0


def _without(texts: Sequence[str], markers: Sequence[str]) -> Sequence[str]:
    """Texts without the markers, which are no words."""
    if not markers:
        return texts
    found = re.compile("|".join(map(re.escape, markers)))
    return [found.sub(" ", text) for text in texts]


class _Letters(NamedTuple):
    """Number of occurrences of each letter, and the letters that stand inside a word."""

    counts: Counter[str]
    inside: set[str]


def _word_piece_tokenizer(texts: Sequence[str], vocab_size: int, language: str | None = None) -> Tokenizer:
    """Train word pieces; the same texts always give the same vocabulary.

    1. Count the letters of all words, and keep the most frequent (`alphabet_limit`).
    2. Train with these letters, as first letters and as letters inside words, numbered beforehand.
    3. Make a tokenizer of the trained vocabulary.

    Without step 2 the trainer numbers the letters inside words in the order of a hash map and breaks ties by these numbers, so that no
    two runs get the same vocabulary.
    """
    keeps_marks = language in LETTERS_WITH_MARKS
    normalizer, splitter = _normalizer(keeps_marks), pre_tokenizers.BertPreTokenizer()
    letters = _letters(texts, normalizer, splitter)
    by_frequency = sorted(letters.counts, key=lambda letter: (-letters.counts[letter], letter))
    alphabet = by_frequency[: alphabet_limit(vocab_size)]
    inside = sorted(letters.inside.intersection(alphabet))
    special = list(SPECIAL_TOKENS)
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer, trained.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"##{letter}" for letter in inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    longest = {"max_input_chars_per_word": LONGEST_SENTENCE} if keeps_marks else {}
    tokenizer = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]", **longest))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_special_tokens(special)
    return tokenizer


def _normalizer(keeps_marks: bool) -> normalizers.Normalizer:
    """Lower case; without accents, or with one form per letter (NFKC) where marks are part of letters."""
    if keeps_marks:
        return normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=False)])
    return normalizers.BertNormalizer(lowercase=True)


def _letters(texts: Sequence[str], normalizer: normalizers.Normalizer, splitter: pre_tokenizers.PreTokenizer) -> _Letters:
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            counts.update(word)
            inside.update(word[1:])
    return _Letters(counts, inside)


__all__ = [
    "TokenisedOnce",
    "add_static_tokens",
    "alphabet_limit",
    "blank_rows",
    "static_encoder",
    "static_module",
    "threads_of",
    "without_card",
]
