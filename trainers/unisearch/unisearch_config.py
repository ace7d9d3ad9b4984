"""Settings of UniSearch's training. Reading them imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SOURCES = ("memory", "category", "prefix", "beam")
"""Sources of hard negatives: rows of the memory bank at random; items of the positive's category; items that share the first codes of its
Semantic ID; and items that the generator's beam finds for the request."""

EVENTS = ("clicked", "carted", "purchased")
"""Interactions with an item, from weak to strong."""

CODEBOOK_STARTS = ("k-means", "data", "random")
"""Vectors that the codebooks start from."""

ITEM_STARTS = ("random", "texts")
"""Token embeddings that the item encoder begins with."""

RESIDUALS = ("vectors", "codes", "none")
"""What the contrastive loss sums of the levels before."""


@dataclass(frozen=True)
class NegativeSchedule:
    """Coarse to fine: the level n, counted from 1 as in the paper, from which a source of negatives joins those of the batch.

    The paper compares n = 1 with the batch alone, and adds harder negatives as n grows. Which ones, and how many, are our choice.

    Args:
        memory: first level of random items of the memory bank; 0 leaves the source out, in this and the following fields.
        category: first level of items of the positive's leaf category.
        prefix: first level n of items whose first n − 1 codes are the positive's.
        beam: first level of items that the generator finds for the request and that are not the positive.
        count: number of negatives of each source. More make the contrast harder and cost a product each.
        start: share of the training steps after which the sources join; before it all levels have the batch alone.
        beam_rows: number of examples whose beams are searched at each refresh of the Semantic IDs; all others have none.

    Raises:
        ValueError: a number is negative, or `start` is no share.
    """

    memory: int = 2
    category: int = 2
    prefix: int = 3
    beam: int = 3
    count: int = 8
    start: float = 0.1
    beam_rows: int = 0

    def __post_init__(self) -> None:
        _refuse_below(self, (*SOURCES, "beam_rows"), 0)
        _refuse_below(self, ("count",), 1)
        _check_shares(self, ("start",))

    def sources(self, level: int) -> list[str]:
        """Sources of a level, counted from 0."""
        return [name for name in SOURCES if 0 < getattr(self, name) <= level + 1 and (name != "beam" or self.beam_rows)]


@dataclass(frozen=True)
class UniSearchTrainingConfig:
    """Joint training of item encoder, quantizer and search generator (UniSearch, arXiv 2509.06887, "Unified pre-training").

    The paper gives the form of the losses, and none of the numbers: all defaults are our choice.

    Args:
        codebook_sizes: number of codes of each level; their number is k, the number of learnable tokens. None takes three levels of the
            smallest power of two above the square root of the number of items, at least 16.
        item_layers: layers of the item encoder; None takes as many as the search generator's encoder.
        item_tokens: most tokens of an item's text.
        item_start: token embeddings that the item encoder begins with: ``random``, or ``texts``, vectors by latent semantic analysis of the
            items' texts, which stand in for the pretraining of the paper's item encoder.
        item_rate: learning rate of the item encoder as a multiple of the trainer's. A lower one keeps more of the item vectors that the
            training began with; 0 keeps them all.
        features: let the item encoder read the items' multimodal features, if there are any.
        statistics: numbers of an item that it reads, names of columns of the items table; those without any value are left out.
        item_causal: see `UniSearchConfig`.
        quantizer: see `UniSearchConfig.sid_quantizer`.
        level_input: see `UniSearchConfig.sid_input`.
        gradient: see `UniSearchConfig.sid_gradient`.
        bound: see `UniSearchConfig.vector_bound`.
        codebook_start: ``k-means`` sets the code vectors of each level to centroids of the items' vectors, before the first step and anew
            at the end of `warm_up`; ``data`` to vectors of sampled items; ``random`` keeps Gaussian ones, as SimVQ's authors do.
        refit: at each refresh every code vector moves to the mean of the items that have its code, and this number of Lloyd's iterations
            follows, so that the codebooks follow item vectors that move together. More iterations fit the codes better and change more of
            them. 0 leaves the code vectors to the gradient alone, as the paper does.
        contrast_weight: λ₁ of the contrastive loss.
        codebook_weight: λ₂ of the codebook and commitment losses.
        token_weight: λ₃ of the token loss.
        commitment: weight of the commitment loss within λ₂; 0.25 as in VQ-VAE.
        quantised_weight: weight of a contrastive loss between the query and the sum of the code vectors, whose gradient reaches the item
            encoder by `gradient`; 0 leaves it out, as the paper does.
        temperature: τ of the contrastive loss.
        residual: ``vectors`` contrasts the query with the sum of the vectors so far, where only the last one learns, as the paper does.
            ``codes`` sums the code vectors of the levels before instead, so that a vector learns what their codes have lost; during
            `warm_up`, when there are no codes yet, it is ``vectors``. ``none`` contrasts the query with each vector alone.
        coarse_to_fine: add the hard negatives of `negatives`; False has those of the batch at every level.
        negatives: hard negatives by level.
        interactions: quality of each kind of interaction; a kind that is left out trains nothing.
        passed_over: factor of the quality of an item in whose search another item got a stronger interaction.
        least_quality: interactions of a lower quality are dropped.
        item_words: number of further examples per item, each with a few words of its text in place of a query (as many as `examples.words`
            at most). They teach the item encoder to tell items apart where a log is small; 0 as in the paper.
        stop_gradient: stop the gradient of the token loss before the item encoder, as the paper does.
        soft_temperature: temperature of the codes' probabilities through which the gradient passes without `stop_gradient`.
        warm_up: share of the steps that train the contrast alone, before the codebooks start and the token loss joins.
        freeze: share of the steps after which item encoder and quantizer stay as they are and the generator learns fixed Semantic IDs,
            with a learning rate that begins anew; 1 trains all of them to the end.
        two_stage: the contrast is trained alone until `freeze`, whatever `warm_up` says; then RQ-KMeans of the item vectors gives the
            Semantic IDs. This is the two-stage system that the paper compares with, with the parameters of the joint one.
        refresh_steps: number of steps after which the catalogue is encoded again, and targets, histories, index and trie change together;
            None takes once per epoch.
        momentum: decay of a moving average of item encoder and quantizer, which then makes the Semantic IDs; 0 makes them by the trained
            weights themselves.
        cache_rows: rows whose activations are held at once in the contrastive loss (GradCache); a batch of any size then fits into memory
            for a second forward pass. 0 holds the whole batch.
        collapse: warn of a level that uses a smaller share of the codes that it could use.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    codebook_sizes: tuple[int, ...] | None = None
    item_layers: int | None = None
    item_tokens: int = 48
    item_start: str = "random"
    item_rate: float = 1.0
    features: bool = True
    statistics: tuple[str, ...] = ("price", "shown_count", "click_count", "cart_count", "purchase_count")
    item_causal: bool = False
    quantizer: str = "sim-vq"
    level_input: str = "whole"
    gradient: str = "straight-through"
    bound: str = "sphere"
    codebook_start: str = "k-means"
    refit: int = 3
    contrast_weight: float = 1.0
    codebook_weight: float = 1.0
    token_weight: float = 1.0
    commitment: float = 0.25
    quantised_weight: float = 0.0
    temperature: float = 0.1
    residual: str = "vectors"
    coarse_to_fine: bool = True
    negatives: NegativeSchedule = field(default_factory=NegativeSchedule)
    interactions: dict[str, float] = field(default_factory=lambda: {"clicked": 0.3, "carted": 0.6, "purchased": 1.0})
    passed_over: float = 0.5
    least_quality: float = 0.2
    item_words: int = 0
    stop_gradient: bool = True
    soft_temperature: float = 0.1
    warm_up: float = 0.1
    freeze: float = 1.0
    two_stage: bool = False
    refresh_steps: int | None = None
    momentum: float = 0.0
    cache_rows: int = 0
    collapse: float = 0.5

    def __post_init__(self) -> None:
        if self.codebook_sizes is not None:
            object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
            if not self.codebook_sizes or min(self.codebook_sizes) < 2:
                raise ValueError(
                    f"codebook_sizes={list(self.codebook_sizes)}: at least one level of at least 2 codes is needed"
                )
        object.__setattr__(self, "statistics", tuple(self.statistics))
        unknown = [name for name in self.interactions if name not in EVENTS]
        if unknown or not self.interactions:
            raise ValueError(f"interactions={self.interactions}: allowed are {', '.join(EVENTS)}, at least one of them")
        for name, allowed in {"item_start": ITEM_STARTS, "codebook_start": CODEBOOK_STARTS, "residual": RESIDUALS}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: allowed are {', '.join(allowed)}")
        weights = (
            "contrast_weight",
            "codebook_weight",
            "token_weight",
            "commitment",
            "quantised_weight",
            "cache_rows",
            "item_words",
            "item_rate",
            "refit",
        )
        _refuse_below(self, weights, 0)
        _refuse_below(self, ("item_tokens",), 1)
        _check_shares(self, ("passed_over", "least_quality", "warm_up", "freeze", "momentum", "collapse"))
        for name in ("temperature", "soft_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        self._check_phases()

    def _check_phases(self) -> None:
        """Refuse phases and refreshes that do not fit each other."""
        if self.refresh_steps is not None and self.refresh_steps < 1:
            raise ValueError(f"refresh_steps={self.refresh_steps} must be at least 1; leave it out to refresh once per epoch")
        if self.momentum >= 1:
            raise ValueError(f"momentum={self.momentum} must be below 1: at 1 the average never moves")
        if self.warm_up > self.freeze:
            raise ValueError(f"warm_up={self.warm_up} exceeds freeze={self.freeze}: the codebooks start before they are frozen")
        if self.two_stage and self.freeze == 1:
            raise ValueError("two_stage needs freeze below 1: the generator learns the Semantic IDs in the steps after it")
        if self.two_stage and (self.codebook_start, self.level_input) != ("k-means", "whole"):
            raise ValueError(
                f"two_stage has Semantic IDs of RQ-KMeans: codebook_start={self.codebook_start!r} must be 'k-means' and "
                f"level_input={self.level_input!r} 'whole'"
            )

    def sizes_for(self, items: int) -> tuple[int, ...]:
        """Codebook sizes for a catalogue of a number of items."""
        if self.codebook_sizes is not None:
            return self.codebook_sizes
        size = 16
        while size < items**0.5:
            size *= 2
        return (size,) * 3


def _refuse_below(config: object, names: Sequence[str], least: int) -> None:
    for name in names:
        if not getattr(config, name) >= least:
            raise ValueError(f"{name}={getattr(config, name)} must be at least {least}")


def _check_shares(config: object, names: Sequence[str]) -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}={getattr(config, name)} is no share; allowed are 0 to 1")


__all__ = ["CODEBOOK_STARTS", "EVENTS", "RESIDUALS", "SOURCES", "NegativeSchedule", "UniSearchTrainingConfig"]
