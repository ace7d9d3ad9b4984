"""The quantizer of a folder, whichever it is."""

from __future__ import annotations

from pathlib import Path

from .base import Quantizer, read_codebooks
from .learned import RQVAE, SimVQ
from .rq_opq import RQOPQ
from .variants import PRQ, RQKMeans

QUANTIZERS: dict[str, type[Quantizer]] = {quantizer.kind: quantizer for quantizer in (RQOPQ, RQKMeans, PRQ, RQVAE, SimVQ)}
"""By the kind that a file names."""


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
