"""Configs of the keywords and of their recogniser. Imports neither numpy nor torch, so that a recipe is read at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from onesearch.data.choices import ATTRIBUTE_TYPES

FUSION = ("auto", "always", "never")
"""When keywords are fused into the embeddings."""


@dataclass(frozen=True)
class RecogniserConfig:
    """Size and training of the recogniser of the 18 attribute types. All values are our choice; the paper does not publish its recogniser.

    Args:
        hidden_size: size of the token vectors of the encoder.
        layers: number of layers of the encoder.
        vocab_size: number of tokens of its byte-level BPE. Raising it keeps rare words whole, which are then less like unseen ones.
        steps: number of training steps. 800 take half a minute of one core on titles of 20 words.
        batch_size: texts per step, half of them titles and half of them queries where both exist.
        learning_rate: largest learning rate of AdamW; it rises over the first tenth of the steps and then falls to 0.
        open_types: attribute types of which new values appear all the time.
        replace_open: share of the values of open types that a training text has replaced by random strings, so that they are recognised
            by their context. Raising it helps unseen values and hurts known ones.
        replace_other: the same share for the other types.
        min_score: lowest probability of a recognised span that becomes a keyword.
        min_texts: lowest number of titles and queries in which it must be recognised.
        seed: seeds the initial weights, the sampling of texts and the replacements.

    Raises:
        ValueError: a number is out of range, or a type is unknown.
    """

    hidden_size: int = 128
    layers: int = 2
    vocab_size: int = 2000
    steps: int = 800
    batch_size: int = 32
    learning_rate: float = 0.001
    open_types: tuple[str, ...] = ("brand", "model", "series", "anchor")
    replace_open: float = 0.5
    replace_other: float = 0.1
    min_score: float = 0.8
    min_texts: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hidden_size < 4 or self.hidden_size % 4:
            raise ValueError(f"hidden_size={self.hidden_size} is invalid; give a multiple of 4: there are 4 attention heads")
        for name in ("layers", "vocab_size", "steps", "batch_size", "min_texts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is invalid; give at least 1")
        for name in ("replace_open", "replace_other", "min_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is invalid; give a share from 0 to 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate} is invalid; give a number above 0, for instance 0.001")
        unknown = [kind for kind in self.open_types if kind not in ATTRIBUTE_TYPES]
        if unknown:
            raise ValueError(f"open_types holds {unknown[0]!r}; allowed are {', '.join(ATTRIBUTE_TYPES)}")


@dataclass(frozen=True)
class KeywordConfig:
    """Which keywords a run has, and whether they are fused into the embeddings.

    Args:
        fusion: ``always`` fuses them, ``never`` keeps the lists (a teacher's prompts may hold them) and leaves the embeddings as they are,
            ``auto`` fuses them unless that lowers the ICR or the purity of categories; see `onesearch.tokenization_sid.sids.fusion`.
        core: upper bound of the keywords that are fused into one text, those that queries ask for most; see `keyword_mining`. None fuses
            all that the text names. Lowering it keeps a cluttered title from being averaged away.
        recogniser: train a recogniser on the market, whose finds in titles and queries join the lists; it is saved in
            ``sids/recogniser/``.
        training: size and training of the recogniser; without effect unless `recogniser` is True.

    Raises:
        ValueError: a value is not allowed.
    """

    fusion: str = "auto"
    core: int | None = None
    recogniser: bool = False
    training: RecogniserConfig = field(default_factory=RecogniserConfig)

    def __post_init__(self) -> None:
        if self.fusion not in FUSION:
            raise ValueError(f"fusion={self.fusion!r} is unknown; allowed are {', '.join(FUSION)}")
        if self.core is not None and self.core < 1:
            raise ValueError(f"core={self.core} is invalid; give at least 1, or leave it out to fuse every keyword of a text")


__all__ = ["FUSION", "KeywordConfig", "RecogniserConfig"]
