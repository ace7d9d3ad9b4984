"""Configurations of OneSearch: BART's or Qwen3's, plus the places of the Semantic IDs in the vocabulary and the long view.

Annotations are evaluated here (no `from __future__`): `strict` does not check fields whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import BartConfig, Qwen3Config

from .history_fields_onesearch import HistoryFields
from .query_vector_fields_onesearch import QueryVectorFields


def init_std_of(width: int) -> float:
    """Standard deviation of initial weights: 0.02 · √(768 / width), which is 0.02 for BART-base's width of 768.

    The output of a layer grows with std · √width. With 0.02 at a width of 128, attention starts close to uniform, and the decoder hardly
    sees the prompt. It then learns the frequencies of the targets first, and a small model may never learn more. The formula is our choice;
    the paper gives none.

    Args:
        width: width of the hidden states.
    """
    return 0.02 * (768 / width) ** 0.5


SID_SOFTMAXES = ("level", "children")
"""Allowed values of `sid_softmax`."""

MAX_LEVELS = 64
"""Largest number of levels of a Semantic ID."""

SHARED_LIMITS = {"vocab_size": 2**24, "max_position_embeddings": 2**20}
BART_LIMITS = {
    **SHARED_LIMITS,
    "d_model": 2**16,
    "encoder_layers": 256,
    "decoder_layers": 256,
    "encoder_attention_heads": 1024,
    "decoder_attention_heads": 1024,
    "encoder_ffn_dim": 2**20,
    "decoder_ffn_dim": 2**20,
}
QWEN3_LIMITS = {
    **SHARED_LIMITS,
    "hidden_size": 2**16,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "head_dim": 2**13,
    "intermediate_size": 2**20,
}
LONG_VIEW_LIMITS = {
    "long_view_tokens": 1024,
    "long_view_sequences": 64,
    "long_view_dim": 2**16,
    "long_view_layers": 64,
}
"""Largest values of the sizes, far above those of published models: a damaged or hostile configuration is refused at once."""

MAX_PARAMETERS = 10**11
"""Largest number of parameters that the sizes of a configuration may add up to; our choice."""

DROPOUTS = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "classifier_dropout",
    "encoder_layerdrop",
    "decoder_layerdrop",
)
"""Fields that hold probabilities, where a configuration has them."""


def check_sizes(config: object, limits: Mapping[str, int]) -> None:
    """Raise ValueError if a size is missing, below 1 or above its limit, or a probability is not between 0 and 1.

    Args:
        config: a configuration.
        limits: name of each size → its largest value.
    """
    values = vars(config)
    for name, largest in limits.items():
        size = values[name]
        if size is None or not 1 <= size <= largest:
            raise ValueError(f"{name}={size}: allowed are 1..{largest}")
    for name in DROPOUTS:
        share = values.get(name)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name}={share}: a probability lies between 0 and 1")


def check_parameters(rows: int, width: int, layers: int, layer: int) -> None:
    """Raise ValueError if a model would have more than `MAX_PARAMETERS`.

    Args:
        rows: rows of all embeddings.
        width: width of the hidden states.
        layers: number of layers.
        layer: parameters of the largest layer.
    """
    count = rows * width + layers * layer
    if count > MAX_PARAMETERS:
        raise ValueError(f"the sizes of the configuration make about {count:,} parameters; allowed are {MAX_PARAMETERS:,}")


def check_heads(name: str, heads: int, of: str, number: int) -> None:
    """Raise ValueError if `number` is no multiple of `heads`.

    Args:
        name: field that holds `heads`.
        heads: number of heads.
        of: field that holds `number`.
        number: number that is divided among the heads.
    """
    if number % heads:
        raise ValueError(f"{of}={number} must be divisible by {name}={heads}")


class _Vocabulary:
    """Types of the fields that the checks below read; a configuration has them from its other parents."""

    vocab_size: int
    pad_token_id: int | None
    sid_codebook_sizes: list[int] | tuple[int, ...]
    sid_offset: int


@dataclass(init=False, repr=False, eq=False)  # fields only: the rest is the parent configuration's
class SidFields(_Vocabulary):
    """Fields of the Semantic IDs (SIDs): each level has a contiguous slice of the vocabulary.

    Args:
        sid_codebook_sizes (`list[int]`):
            Number of codes of each level, first level first. The paper's are `[4096, 1024, 512, 256, 256]`
            (OneSearch, arXiv 2509.03236, KHQE); small catalogues need far smaller ones.
        sid_offset (`int`):
            Vocabulary id of code 0 of level 0. Levels follow each other without gaps, so code `c` of level `l` has the id
            `sid_offset + sum(sid_codebook_sizes[:l]) + c`.
        sid_fingerprint (`str`, *optional*):
            Fingerprint of the codebooks that the SIDs come from. An item index with another fingerprint is refused.
        sid_softmax (`str`, defaults to `"level"`):
            The set of codes that a Semantic ID's token competes with in the loss. `"level"`: all codes of its level, as in the paper.
            `"children"`: the codes that the catalogue's trie allows after those before it, as in `search`; our choice.
    """

    sid_codebook_sizes: list[int] | tuple[int, ...] = ()
    sid_offset: int = 0
    sid_fingerprint: str | None = None
    sid_softmax: str = "level"

    @property
    def sid_levels(self) -> int:
        """Number of codes of a Semantic ID."""
        return len(self.sid_codebook_sizes)

    def sid_slice(self, level: int) -> tuple[int, int]:
        """First vocabulary id of a level, and the id after its last."""
        start = self.sid_offset + sum(self.sid_codebook_sizes[:level])
        return start, start + self.sid_codebook_sizes[level]

    def _check_sids(self) -> None:
        """Raise ValueError if the Semantic IDs do not fit into the vocabulary. Runs before the parent checks the types of the fields."""
        if len(self.sid_codebook_sizes) > MAX_LEVELS:
            raise ValueError(f"sid_codebook_sizes has {len(self.sid_codebook_sizes)} levels; allowed are at most {MAX_LEVELS}")
        self.sid_codebook_sizes = [int(size) for size in self.sid_codebook_sizes]
        if any(size < 1 for size in self.sid_codebook_sizes):
            raise ValueError(f"sid_codebook_sizes={self.sid_codebook_sizes}: every level needs at least one code")
        if self.sid_softmax not in SID_SOFTMAXES:
            raise ValueError(f"sid_softmax={self.sid_softmax!r}: allowed are {' and '.join(map(repr, SID_SOFTMAXES))}")
        if not isinstance(self.sid_offset, int):
            raise TypeError(f"sid_offset={self.sid_offset!r} must be an integer")
        end = self.sid_offset + sum(self.sid_codebook_sizes)
        if self.sid_offset < 0 or end > self.vocab_size:
            raise ValueError(
                f"sid_offset={self.sid_offset} and sid_codebook_sizes={self.sid_codebook_sizes} need a vocabulary of at least {end} "
                f"tokens, and vocab_size is {self.vocab_size}; pass vocab_size=len(tokenizer), and a sid_offset of at least 0"
            )


@dataclass(init=False, repr=False, eq=False)  # fields only, as above
class LongViewFields(_Vocabulary):
    """Fields of the long view: a resampler turns long item sequences into `long_view_tokens` vectors.

    Args:
        long_view_token_id (`int`, *optional*):
            Vocabulary id of the placeholder token. The vectors replace its copies in a prompt.
        long_view_tokens (`int`, defaults to 0):
            Number of vectors; the paper's N_M is 3. 0 makes a model without a long view.
        long_view_sequences (`int`, defaults to 2):
            Number of item sequences per user. 2 (clicks and purchases) is our choice; the paper has a third, RSU.
        long_view_levels (`int`, defaults to 3):
            Number of levels whose centroids are pooled: the residual levels, 3 in the paper. Levels of OPQ have no centroids of this kind.
        long_view_dim (`int`):
            Dimension of the centroids.
        long_view_layers (`int`, defaults to 2):
            Number of blocks of the resampler. 2 is our choice; the paper gives none.
    """

    long_view_token_id: int | None = None
    long_view_tokens: int = 0
    long_view_sequences: int = 2
    long_view_levels: int = 3
    long_view_dim: int = 0
    long_view_layers: int = 2

    def _check_long_view(self) -> None:
        """Raise ValueError if the fields do not fit each other or the Semantic IDs."""
        if self.long_view_tokens < 0:
            raise ValueError(f"long_view_tokens={self.long_view_tokens}: 0 for a model without a long view, else at least 1")
        if not self.long_view_tokens:
            return
        sizes = {
            "long_view_sequences": self.long_view_sequences,
            "long_view_dim": self.long_view_dim,
            "long_view_layers": self.long_view_layers,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}={size}: a long view (long_view_tokens > 0) needs at least 1")
        check_sizes(self, LONG_VIEW_LIMITS)
        levels = len(self.sid_codebook_sizes)
        if not 1 <= self.long_view_levels <= levels:
            raise ValueError(f"long_view_levels={self.long_view_levels}: allowed are 1..{levels}, the levels of the SIDs")
        token = self.long_view_token_id
        sids = range(self.sid_offset, self.sid_offset + sum(self.sid_codebook_sizes))
        if token is None or not 0 <= token < self.vocab_size or token in sids or token == self.pad_token_id:
            raise ValueError(
                f"long_view_token_id={token}: a long view needs a placeholder token in the vocabulary of {self.vocab_size} that is "
                f"neither a SID ({sids.start}..{sids.stop - 1}) nor padding ({self.pad_token_id})"
            )


@strict
class OneSearchConfig(SidFields, LongViewFields, HistoryFields, QueryVectorFields, BartConfig):
    r"""Configuration of an encoder-decoder that generates Semantic IDs.

    It has all fields of [`~transformers.BartConfig`], of [`SidFields`], of [`LongViewFields`], of [`HistoryFields`] and of
    [`QueryVectorFields`] (long view, histories as vectors and query vectors are off by default). Two defaults differ from BART's:

    Args:
        init_std (`float`, *optional*):
            Standard deviation of initial weights; defaults to `0.02 · √(768 / d_model)` (BART: 0.02 at any width), see [`init_std_of`].
        forced_eos_token_id (`int`, *optional*):
            Defaults to `None` (BART: 2): a Semantic ID has a fixed length, so no end token is forced after it.

    Raises:
        ValueError: the Semantic IDs or the long view do not fit into the vocabulary, or a size is not within its limits (`BART_LIMITS`).

    Example:

    ```python
    >>> from onesearch import OneSearchConfig

    >>> config = OneSearchConfig(vocab_size=1000, sid_codebook_sizes=[256, 128, 64, 64, 64], sid_offset=424)
    >>> config.sid_slice(1)
    (680, 808)

    ```"""

    model_type = "onesearch"

    init_std: float | None = None
    forced_eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        super().__post_init__(**kwargs)
        if self.init_std is None:
            self.init_std = init_std_of(cast(int, self.d_model))

    def check(self) -> None:
        """Raise ValueError if a size is not within its limits, or fields do not fit each other."""
        check_sizes(self, BART_LIMITS)
        self._check_sids()
        self._check_long_view()
        self._check_history()
        self._check_query_vector()
        width = cast(int, self.d_model)
        check_heads("encoder_attention_heads", cast(int, self.encoder_attention_heads), "d_model", width)
        check_heads("decoder_attention_heads", cast(int, self.decoder_attention_heads), "d_model", width)
        layers = cast(int, self.encoder_layers) + cast(int, self.decoder_layers)
        ffn_dim = max(cast(int, self.encoder_ffn_dim), cast(int, self.decoder_ffn_dim))
        check_parameters(self.vocab_size + 2 * self.max_position_embeddings, width, layers, 8 * width**2 + 2 * width * ffn_dim)
        tokens = {"pad_token_id": self.pad_token_id, "decoder_start_token_id": self.decoder_start_token_id}
        for name, token in tokens.items():
            if token is None or not 0 <= token < self.vocab_size:
                raise ValueError(f"{name}={token} must be a token of the vocabulary of {self.vocab_size}")


@strict
class OneSearchQwen3Config(SidFields, LongViewFields, HistoryFields, QueryVectorFields, Qwen3Config):
    r"""Configuration of a decoder-only model that generates Semantic IDs.

    It has all fields of [`~transformers.Qwen3Config`], of [`SidFields`], of [`LongViewFields`], of [`HistoryFields`] and of
    [`QueryVectorFields`] (long view, histories as vectors and query vectors are off by default). One default differs from Qwen3's:

    Args:
        initializer_range (`float`, *optional*):
            Standard deviation of initial weights; defaults to `0.02 · √(768 / hidden_size)`, see [`init_std_of`].

    Raises:
        ValueError: the Semantic IDs or the long view do not fit into the vocabulary, or a size is not within its limits (`QWEN3_LIMITS`).

    Example:

    ```python
    >>> from onesearch import OneSearchQwen3Config

    >>> OneSearchQwen3Config(vocab_size=1000, sid_codebook_sizes=[256, 128, 64], sid_offset=424).sid_slice(1)
    (680, 808)

    ```"""

    model_type = "onesearch_qwen3"

    # None until `__post_init__` has computed the default from the width; a float afterwards.
    initializer_range: float | None = None  # type: ignore[assignment]

    def __post_init__(self, **kwargs: Any) -> None:
        self.check()
        super().__post_init__(**kwargs)
        if self.initializer_range is None:
            self.initializer_range = init_std_of(self.hidden_size)

    def check(self) -> None:
        """Raise ValueError if a size is not within its limits, or fields do not fit each other."""
        check_sizes(self, QWEN3_LIMITS)
        self._check_sids()
        self._check_long_view()
        self._check_history()
        self._check_query_vector()
        if self.num_key_value_heads is not None:  # None stands for as many as query heads
            check_sizes(self, {"num_key_value_heads": self.num_attention_heads})
            check_heads("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", self.num_attention_heads)
        layer = 4 * self.hidden_size * self.num_attention_heads * self.head_dim + 3 * self.hidden_size * self.intermediate_size
        check_parameters(2 * self.vocab_size, self.hidden_size, self.num_hidden_layers, layer)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} must be a token of the vocabulary of {self.vocab_size}")


__all__ = [
    "SID_SOFTMAXES",
    "HistoryFields",
    "LongViewFields",
    "OneSearchConfig",
    "OneSearchQwen3Config",
    "QueryVectorFields",
    "SidFields",
]
