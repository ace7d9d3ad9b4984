"""Codebook sizes by the vectors of a catalogue, with product codes only where the residual levels tell too few items apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onesearch.files import RunFolder
from onesearch.tokenization_sid.embedding.embeddings import load_embeddings
from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.tokenization_sid.quantizers.configs import RQOPQConfig, suggest_codebook_sizes
from onesearch.tokenization_sid.quantizers.loading import fit_quantizer

SAMPLE = 20_000
"""Upper bound of the vectors that are encoded for the choice, drawn with seed 0."""

ENOUGH = 0.85
"""Share of distinct vectors with a SID of their own from which no product codes are tried."""

GAIN = 0.05
"""Rise of this share that product codes must bring: each costs a step of the search."""


@dataclass(frozen=True)
class CodeChoice:
    """Chosen codebooks and the figures that they were chosen by.

    Args:
        config: the chosen config.
        distinct: number of distinct vectors that were compared.
        plain: distinct SIDs per distinct vector with residual levels alone.
        with_opq: the same with product codes; None if they were not tried.
    """

    config: RQOPQConfig
    distinct: int
    plain: float
    with_opq: float | None

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.config.residual_sizes))
        told = f"residual levels alone tell {100 * self.plain:.0f} % of {self.distinct:,} distinct items apart"
        if self.with_opq is None:
            return f"codes: {sizes} without product codes ({told})"
        parts, size = self.config.opq
        used = f"{parts} product codes of {size}" if parts else "no product codes"
        return f"codes: {sizes} and {used} ({told}, with product codes {100 * self.with_opq:.0f} %)"


def choose_codes(run: RunFolder) -> CodeChoice:
    """Choose codebooks for the items of a run whose embeddings exist."""
    return choose_for(unit_rows(load_embeddings(run, "items")))


def choose_for(vectors: np.ndarray) -> CodeChoice:
    """Choose codebooks for unit vectors of items, ``(items, dimension)``.

    1. The sizes follow from the number of distinct vectors (`suggest_codebook_sizes`).
    2. Residual levels alone are tried. If they leave too many items together, product codes are tried as well, and kept if they help.
    """
    distinct = np.unique(vectors, axis=0)
    suggested = suggest_codebook_sizes(len(distinct))
    if len(distinct) > SAMPLE:
        distinct = distinct[np.sort(np.random.default_rng(0).choice(len(distinct), SAMPLE, replace=False))]
    plain = replace(suggested, opq=(0, 0), balanced="level")
    told = _told_apart(distinct, plain)
    if told >= ENOUGH:
        return CodeChoice(plain, len(distinct), told, None)
    with_opq = replace(suggested, balanced="level")
    better = _told_apart(distinct, with_opq)
    return CodeChoice(with_opq if better >= told + GAIN else plain, len(distinct), told, better)


def _told_apart(vectors: np.ndarray, config: RQOPQConfig) -> float:
    """Distinct SIDs per vector."""
    codes = fit_quantizer(vectors, config).encode(vectors)
    return len(np.unique(codes, axis=0)) / len(codes)


__all__ = ["CodeChoice", "choose_codes", "choose_for"]
