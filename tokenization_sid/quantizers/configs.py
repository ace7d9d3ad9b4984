"""Configs of all quantizers. Imports the standard library alone, so that a recipe is read without torch or numpy.

`QUANTIZER_CONFIGS` maps the name that a recipe uses to its config; `loading.py` maps the same name to the quantizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

BALANCES = ("parent", "level", "none")
"""Values of `RQOPQConfig.balanced`."""


class QuantizerConfig(Protocol):
    """A frozen dataclass that names its quantizer and gives the codebook size of every level."""

    quantizer: ClassVar[str]
    """`Quantizer.kind` of the class that the config is for; a recipe gives it under the key ``quantizer``."""

    @property
    def residual_sizes(self) -> tuple[int, ...]:
        """Codebook size of each residual level."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codebook size of every level of the SID: residual levels, then product codes if there are any."""

    @property
    def seed(self) -> int:
        """Seed of the training."""


@dataclass(frozen=True)
class RQOPQConfig:
    """Sizes and training of `RQOPQ`.

    Args:
        residual_sizes: codebook size of each residual level. Larger sizes give more items a SID of their own, and each code fewer
            examples to be learned from. The paper's 4096-1024-512 suit catalogues of 10⁸ items and more; see `suggest_codebook_sizes`. On
            the demo's 2,000 items 128-64-32 instead of 64-32-16 cost 0.064 [0.038, 0.090] of HR@10.
        opq: number of product codes and codebook size of each. The paper uses (2, 256). (0, 0) makes SIDs without product codes, as small
            catalogues need none: on the demo (2, 16) cost 0.032 [0.010, 0.054] of HR@10.
        iterations: upper bound of the k-means iterations after centroids have found their places. The authors' code uses 25; 4 is our
            choice: on 20,000 clustered vectors with 3 levels of 256 codes, 10 iterations lower the error by 1 % and the ICR by 0.01.
        points_per_centroid: upper bound of the training vectors sampled per centroid. Raising it costs memory and time in proportion.
            The authors' code uses 10,000; 256 is our choice.
        normalise_residuals: scale the residual to unit length before each level. The paper's text normalises; the authors' code does
            not by default. On 20,000 clustered vectors with 3 levels of 256 codes the ICR is 0.88 with and 0.85 without, at equal error.
        balanced: where the load of the codes of the last residual level is bounded. The paper balances this level and no other.
            ``parent``: inside each parent, that is among the n training vectors with equal codes before this level, no code gets more
            than ⌈n / codes⌉ of them. ``level``: no code gets more than ⌈n / codes⌉ · (1 + slack) of all n training vectors, while the
            codes inside a parent stay as crowded as they are. ``none``: each vector takes the nearest centroid.
        slack: tolerance of the bound of ``level``, and of that of parents with more than 512 vectors, which ``parent`` does not
            assign exactly. 0 asks for even loads; raising it lowers the quantisation error. 0.05 is our choice; the paper gives none.
        seed: seeds the sampling of training vectors and the initial centroids.

    Raises:
        ValueError: a size or a number is out of range.
    """

    quantizer: ClassVar[str] = "rq-opq"

    residual_sizes: tuple[int, ...] = (256, 128, 64)
    opq: tuple[int, int] = (2, 64)
    iterations: int = 4
    points_per_centroid: int = 256
    normalise_residuals: bool = True
    balanced: str = "parent"
    slack: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "residual_sizes", _residual_sizes(self.residual_sizes))
        object.__setattr__(self, "opq", tuple(int(value) for value in self.opq))
        if len(self.opq) != 2 or min(self.opq) < 0 or (self.opq[0] and not self.opq[1]):
            raise ValueError(
                f"opq={self.opq} is invalid; give the number of product codes and the codebook size of each, for instance (2, 64), "
                "or (0, 0) for none"
            )
        for name in ("iterations", "points_per_centroid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is invalid; give at least 1")
        if self.balanced not in BALANCES:
            raise ValueError(f"balanced={self.balanced!r} is unknown; allowed are {', '.join(BALANCES)}")
        if self.balanced == "parent" and math.prod(self.residual_sizes[:-1]) >= 2**63:
            raise ValueError(
                f"residual_sizes={self.residual_sizes} have too many parents for balanced='parent', which numbers them with 63 bits; "
                "give fewer levels, or balanced='level'"
            )
        if not self.slack >= 0:
            raise ValueError(f"slack={self.slack} is invalid; give at least 0, for instance 0.05")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codebook size of every level of the SID: residual levels, then product codes."""
        parts, size = self.opq
        return (*self.residual_sizes, *([size] * parts))


@dataclass(frozen=True)
class RQKMeansConfig(RQOPQConfig):
    """Sizes and training of `RQKMeans`: textbook residual k-means, as in the authors' script.

    The fields are those of `RQOPQConfig`. By default there are no product codes, no balance and no normalisation, and k-means
    takes up to 25 iterations from sampled vectors.
    """

    quantizer: ClassVar[str] = "rq-k-means"

    residual_sizes: tuple[int, ...] = (256, 256, 256)
    opq: tuple[int, int] = (0, 0)
    iterations: int = 25
    normalise_residuals: bool = False
    balanced: str = "none"


@dataclass(frozen=True)
class PRQConfig(RQOPQConfig):
    """Sizes and training of `PRQ`. The fields that are not listed are those of `RQOPQConfig`. On the demo's 2,000 items it lowered HR@10 by
    0.092 [0.066, 0.119].

    Args:
        residual_sizes: codebook size of each residual level. The paper uses 1024-512-128 for 8 · 10⁶ items.
        opq: number of product codes and codebook size of each. The paper's variant "PRQ-OPQ" uses (2, 64) after 1024-512-128; the
            default has none.
        iterations: number of refinements of the centroids. 10 is our choice; the paper gives none.
        top_k: number of nearest centroids that each vector moves in a refinement. Raising it makes centroids more alike. The paper
            uses 5 and 2.
        beta: sharpness of the weights e^{β cos} with which a vector moves its centroids; a large value leaves all of the weight to the
            nearest. The paper uses 15.

    Raises:
        ValueError: a number is out of range, or `normalise_residuals` is False: PRQ compares directions.
    """

    quantizer: ClassVar[str] = "prq-k-means"

    residual_sizes: tuple[int, ...] = (256, 128, 64)
    opq: tuple[int, int] = (0, 0)
    iterations: int = 10
    balanced: str = "none"
    top_k: int = 5
    beta: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.normalise_residuals:
            raise ValueError("normalise_residuals=False is invalid for PRQ, which compares directions; leave it True")
        if self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} is invalid; give at least 1")
        if not self.beta > 0:
            raise ValueError(f"beta={self.beta} is invalid; give a number above 0, for instance 15")


@dataclass(frozen=True)
class LearnedConfig:
    """Sizes and training that `RQVAEConfig` and `SimVQConfig` share. All default values are our choice.

    Args:
        residual_sizes: codebook size of each residual level.
        hidden: sizes of the hidden layers of the encoder, which the decoder mirrors. With an empty tuple there is no autoencoder and
            the vectors themselves are quantised.
        latent: dimension of the latent vector that is quantised. It has no effect if `hidden` is empty.
        steps: number of optimiser steps.
        batch_size: number of vectors per step.
        learning_rate: learning rate of Adam.
        commitment: weight of the codebook and commitment terms relative to the reconstruction error.
        training_rows: upper bound of the training vectors, sampled if there are more.
        seed: seeds the sampling and the initial weights.

    Raises:
        ValueError: a size or a number is out of range.
    """

    residual_sizes: tuple[int, ...] = (256, 256, 256)
    hidden: tuple[int, ...] = (256,)
    latent: int = 64
    steps: int = 2000
    batch_size: int = 1024
    learning_rate: float = 1e-3
    commitment: float = 0.25
    training_rows: int = 262_144
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "residual_sizes", _residual_sizes(self.residual_sizes))
        object.__setattr__(self, "hidden", tuple(int(size) for size in self.hidden))
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden={self.hidden} is invalid; give at least 1 for every layer, or () for no autoencoder")
        for name in ("latent", "steps", "batch_size", "training_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is invalid; give at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate} is invalid; give a number above 0, for instance 0.001")
        if not self.commitment >= 0:
            raise ValueError(f"commitment={self.commitment} is invalid; give at least 0, for instance 0.25")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codebook size of every level of the SID."""
        return self.residual_sizes


@dataclass(frozen=True)
class RQVAEConfig(LearnedConfig):
    """Sizes and training of `RQVAE`; the fields are those of `LearnedConfig`.

    On the demo's 2,000 items it lowered HR@10 by 0.042 [0.016, 0.068].
    """

    quantizer: ClassVar[str] = "rq-vae"


@dataclass(frozen=True)
class SimVQConfig(LearnedConfig):
    """Sizes and training of `SimVQ`; the fields are those of `LearnedConfig`."""

    quantizer: ClassVar[str] = "sim-vq"


AnyQuantizerConfig = RQOPQConfig | RQKMeansConfig | PRQConfig | RQVAEConfig | SimVQConfig

QUANTIZER_CONFIGS: dict[str, type[AnyQuantizerConfig]] = {
    config.quantizer: config for config in (RQOPQConfig, RQKMeansConfig, PRQConfig, RQVAEConfig, SimVQConfig)
}
"""Config by the name of its quantizer, in a recipe and in a codebooks file."""


def suggest_codebook_sizes(items: int) -> RQOPQConfig:
    """Codebook sizes for a catalogue of `items` items: they grow with the catalogue, and never have more codes than items.

    The paper's sizes 4096-1024-512 | 256-256 are those of a catalogue of hundreds of millions of items: its table counts 151 · 10⁶
    distinct SIDs. On 10⁶ items they would give nearly every item a SID of its own by accident, and the model nothing to share between
    items. PRQ-KMeans (arXiv 2608.24207), by the same team, takes 1024-512-128 | 64-64 for 8 · 10⁶ items. The steps between are our
    choice: from 5,000 items on, the residual levels have 2 to 420 prefixes per item. On the demo's 2,000 items the suggested sizes lowered
    HR@10 by 0.035 [0.013, 0.058] against 64-32-16.
    """
    if items >= 100_000_000:
        return RQOPQConfig((4096, 1024, 512), (2, 256))
    if items >= 20_000_000:
        return RQOPQConfig((2048, 1024, 256), (2, 128))
    if items >= 1_000_000:
        return RQOPQConfig((1024, 512, 128), (2, 64))
    if items >= 100_000:
        return RQOPQConfig((512, 256, 128), (2, 64))
    if items >= 5_000:
        return RQOPQConfig((256, 128, 64), (2, 64))
    largest = min(64, 1 << (max(items, 1).bit_length() - 1))
    return RQOPQConfig((largest, max(1, largest // 2), max(1, largest // 4)), (2, min(16, largest)))


def _residual_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """`sizes` as a tuple of int, if there is a level and every level has a code."""
    sizes = tuple(int(size) for size in sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"residual_sizes={sizes} is invalid; give at least one level, each with at least 1 code")
    return sizes


__all__ = [
    "BALANCES",
    "QUANTIZER_CONFIGS",
    "AnyQuantizerConfig",
    "LearnedConfig",
    "PRQConfig",
    "QuantizerConfig",
    "RQKMeansConfig",
    "RQOPQConfig",
    "RQVAEConfig",
    "SimVQConfig",
    "suggest_codebook_sizes",
]
