"""Configurations of OneSearch: BART's or Qwen3's, plus the layout of the Semantic IDs in the vocabulary and the long view.

Annotations are evaluated here (no `from __future__`): `strict` checks no field whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from dataclasses import dataclass

from huggingface_hub.dataclasses import strict
from transformers import BartConfig, Qwen3Config


def init_std_of(width: int) -> float:
    """Standard deviation of initial weights for a model of this width: .02 at 768, BART-base's, and as strong a signal at others.

    What a layer of fan-in `width` gives out grows with ``std · √width``. With .02 at a width of 128 attention starts next to uniform and
    prompts next to unseen; a decoder then learns the targets' frequencies first, and a small model may stay there. Ours.
    """
    return 0.02 * (768 / width) ** 0.5


SID_SOFTMAXES = ("level", "children")
"""Allowed values of `sid_softmax`."""


class SidLayout:
    """Where the Semantic IDs lie in a model's vocabulary: one contiguous slice per level."""

    @property
    def sid_levels(self) -> int:
        """Number of codes in one SID."""
        return len(self.sid_codebook_sizes)

    def sid_slice(self, level: int) -> tuple[int, int]:
        """First vocabulary id of `level`, and the one past its last."""
        start = self.sid_offset + sum(self.sid_codebook_sizes[:level])
        return start, start + self.sid_codebook_sizes[level]

    def _check_sids(self) -> None:
        """Called before the parent's `__post_init__`, which checks the types."""
        self.sid_codebook_sizes = [int(width) for width in self.sid_codebook_sizes]
        if any(width < 1 for width in self.sid_codebook_sizes):
            raise ValueError(f"sid_codebook_sizes={self.sid_codebook_sizes}: every level needs at least one code")
        if self.sid_softmax not in SID_SOFTMAXES:
            raise ValueError(f"sid_softmax={self.sid_softmax!r}: allowed are {' and '.join(map(repr, SID_SOFTMAXES))}")
        if not isinstance(self.sid_offset, int):
            raise TypeError(f"sid_offset={self.sid_offset!r} must be an integer")
        if self.sid_offset < 0 or self.sid_offset + sum(self.sid_codebook_sizes) > self.vocab_size:
            raise ValueError(
                f"sid_offset={self.sid_offset} and sid_codebook_sizes={self.sid_codebook_sizes} need a vocabulary of at least "
                f"{self.sid_offset + sum(self.sid_codebook_sizes)} tokens, vocab_size is {self.vocab_size}; pass vocab_size=len(tokenizer)"
            )


@dataclass(init=False, repr=False, eq=False)  # fields only: the rest is the parent configuration's
class LongViewFields:
    """Fields of the implicit long view: `long_view_tokens` vectors that a resampler makes of long item sequences.

    Args:
        long_view_token_id (`int`, *optional*): the vocabulary's placeholder, whose copies in a prompt the vectors replace.
        long_view_tokens (`int`): vectors, the paper's N_M (3); 0 for a model without a long view.
        long_view_sequences (`int`): sequences per user. Ours is 2 (clicks, purchases); the paper has a third, RSU.
        long_view_levels (`int`): levels whose centroids are pooled, the paper's three residual ones; OPQ's carry none.
        long_view_dim (`int`): width of the centroids.
        long_view_layers (`int`): blocks of the resampler; 2 is ours, the paper does not say.
    """

    long_view_token_id: int | None = None
    long_view_tokens: int = 0
    long_view_sequences: int = 2
    long_view_levels: int = 3
    long_view_dim: int = 0
    long_view_layers: int = 2

    def check_long_view(self) -> None:
        """ValueError where the fields do not fit each other or the SIDs."""
        if self.long_view_tokens < 0:
            raise ValueError(f"long_view_tokens={self.long_view_tokens}: 0 for a model without a long view, else at least 1")
        if not self.long_view_tokens:
            return
        for name in ("long_view_sequences", "long_view_dim", "long_view_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: a long view (long_view_tokens > 0) needs at least 1")
        if not 1 <= self.long_view_levels <= self.sid_levels:
            raise ValueError(
                f"long_view_levels={self.long_view_levels}: allowed are 1..{self.sid_levels}, the levels of the SIDs"
            )
        token, sids = self.long_view_token_id, range(self.sid_offset, self.sid_offset + sum(self.sid_codebook_sizes))
        if token is None or not 0 <= token < self.vocab_size or token in sids or token == self.pad_token_id:
            raise ValueError(
                f"long_view_token_id={token}: a long view needs a placeholder of its own in the vocabulary of {self.vocab_size}, which is "
                f"neither a SID ({sids.start}..{sids.stop - 1}) nor padding ({self.pad_token_id})"
            )


@strict
class OneSearchConfig(SidLayout, LongViewFields, BartConfig):
    r"""Sizes of an encoder-decoder that emits Semantic IDs (SIDs).

    All fields of [`~transformers.BartConfig`] hold; these are added or differ:

    Args:
        sid_codebook_sizes (`list[int]`):
            Number of codes of each level, first level first. The paper's are `[4096, 1024, 512, 256, 256]`
            (OneSearch, arXiv 2509.03236, KHQE); small catalogues need far smaller ones.
        sid_offset (`int`):
            Vocabulary id of code 0 of level 0. Levels follow each other without gaps, so code `c` of level `l` has the id
            `sid_offset + sum(sid_codebook_sizes[:l]) + c`.
        sid_fingerprint (`str`, *optional*):
            Digest of the codebooks that the SIDs come from. An item index of another fingerprint is refused.
        sid_softmax (`str`, defaults to `"level"`):
            The set of codes that a Semantic ID's token competes with in the loss. `"level"`: all codes of its level, as in the paper.
            `"children"`: the codes that the catalogue's trie allows after those before it, as in `search`; our choice.
        long_view_token_id, long_view_tokens, long_view_sequences, long_view_levels, long_view_dim, long_view_layers:
            The implicit long view, off by default; see [`LongViewFields`].
        init_std (`float`, *optional*):
            Default `.02 · √(768 / d_model)` (BART: .02 at any width); see [`init_std_of`].
        forced_eos_token_id:
            `None` here (BART: 2): a SID has a fixed length, nothing is forced after it.

    Example:

    ```python
    >>> from onesearch import OneSearchConfig

    >>> config = OneSearchConfig(vocab_size=1000, sid_codebook_sizes=[256, 128, 64, 64, 64], sid_offset=424)
    >>> config.sid_slice(1)
    (680, 808)

    ```"""

    model_type = "onesearch"

    sid_codebook_sizes: list[int] | tuple[int, ...] = ()
    sid_offset: int = 0
    sid_fingerprint: str | None = None
    sid_softmax: str = "level"
    init_std: float | None = None
    forced_eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        self._check_sids()
        self.check_long_view()
        super().__post_init__(**kwargs)
        if self.init_std is None:
            self.init_std = init_std_of(self.d_model)


@strict
class OneSearchQwen3Config(SidLayout, LongViewFields, Qwen3Config):
    r"""Sizes of a decoder-only model that emits Semantic IDs. All fields of [`~transformers.Qwen3Config`] hold; `sid_codebook_sizes`,
    `sid_offset`, `sid_fingerprint`, `sid_softmax`, those of [`LongViewFields`] and the default of `initializer_range` are
    [`OneSearchConfig`]'s.

    Example:

    ```python
    >>> from onesearch import OneSearchQwen3Config

    >>> OneSearchQwen3Config(vocab_size=1000, sid_codebook_sizes=[256, 128, 64], sid_offset=424).sid_slice(1)
    (680, 808)

    ```"""

    model_type = "onesearch_qwen3"

    sid_codebook_sizes: list[int] | tuple[int, ...] = ()
    sid_offset: int = 0
    sid_fingerprint: str | None = None
    sid_softmax: str = "level"
    initializer_range: float | None = None

    def __post_init__(self, **kwargs):
        self._check_sids()
        self.check_long_view()
        super().__post_init__(**kwargs)
        if self.initializer_range is None:
            self.initializer_range = init_std_of(self.hidden_size)


__all__ = ["SID_SOFTMAXES", "LongViewFields", "OneSearchConfig", "OneSearchQwen3Config", "SidLayout"]
