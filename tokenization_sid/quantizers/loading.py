"""Quantizers by name: train the one that a config is for, or load the one that a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..parallel.rows import Rows
from .base import Quantizer, read_codebooks
from .configs import QuantizerConfig
from .learned import RQVAE, SimVQ
from .rq_opq import RQOPQ
from .variants import PRQ, RQKMeans

QUANTIZERS: dict[str, type[Quantizer[Any]]] = {quantizer.kind: quantizer for quantizer in (RQOPQ, RQKMeans, PRQ, RQVAE, SimVQ)}
"""Quantizer by its name in a file and in a recipe."""


def fit_quantizer(vectors: Rows, config: QuantizerConfig) -> Quantizer[Any]:
    """Train the quantizer that `config` is for.

    Args:
        vectors: (n, dimension).
        config: sizes and training; its class decides the quantizer.

    Raises:
        ValueError: the vectors cannot train these codebooks; see `fit` of the quantizer.
    """
    return QUANTIZERS[config.quantizer].fit(vectors, config)


def load_quantizer(folder: str | Path) -> Quantizer[Any]:
    """Read the codebooks in `folder` with the class that wrote them.

    Raises:
        FileNotFoundError: `folder` holds no codebooks.
        ValueError: the file is damaged, is not a codebooks file, or its kind is unknown to this version.
    """
    codebooks = read_codebooks(folder)
    kind = codebooks.metadata.get("kind")
    if kind not in QUANTIZERS:
        raise ValueError(f"{codebooks.path} holds codebooks of kind {kind!r}; known are {', '.join(QUANTIZERS)}")
    return QUANTIZERS[kind].from_pretrained(folder)


__all__ = ["QUANTIZERS", "fit_quantizer", "load_quantizer"]
