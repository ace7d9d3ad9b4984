"""The quantizer of a config or of a folder, whichever it is."""

from __future__ import annotations

from pathlib import Path

from ..parallel.rows import Rows
from .base import Quantizer, read_codebooks
from .configs import QuantizerConfig
from .learned import RQVAE, SimVQ
from .rq_opq import RQOPQ
from .variants import PRQ, RQKMeans

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.kind: quantizer for quantizer in (RQOPQ, RQKMeans, PRQ, RQVAE, SimVQ)}
"""By the kind that a file and a recipe name."""


def fit_quantizer(vectors: Rows, config: QuantizerConfig) -> Quantizer:
    """Train the quantizer that `config` is for on `vectors`, (n, dimension); see its `fit` for what it raises."""
    return QUANTIZERS[config.quantizer].fit(vectors, config)


def load_quantizer(folder: str | Path) -> Quantizer:
    """Read the codebooks in `folder` with the class that wrote them.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the file is damaged or foreign, or its kind is unknown to this version.
    """
    path, metadata, _ = read_codebooks(folder)
    if metadata.get("kind") not in QUANTIZERS:
        raise ValueError(f"{path} holds codebooks of kind {metadata.get('kind')!r}; known are {', '.join(QUANTIZERS)}")
    return QUANTIZERS[metadata["kind"]].from_pretrained(folder)
