"""The codes of a run as files: ``sids/item_codes.safetensors`` and ``sids/query_codes.safetensors``.

Both hold ``codes`` (rows, levels) int32 and ``known`` (rows,) uint8, which is 0 if the text has no word that the encoder knows, so that its
codes mean nothing. Their rows follow the items table and `distinct_queries`. The items' file also holds the reference that new items are
compared with: ``centroids`` (codes, dimension) float32, the mean of the items of each level-0 code (NaN for a code without items), and
``distances`` (101,) float32, the percentiles 0 to 100 of the items' distances to these means. The metadata are ``format``,
``codebook_sizes`` and the ``fingerprint`` of the codebooks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onesearch.files import RunFolder

from ..tensor_files import read_tensors, write_tensors
from .sid_folder import check_parts

FORMAT = "onesearch-codes/2"
REMEDY = "build the SIDs again with `onesearch sids build`, or copy it again"


class Reference(NamedTuple):
    """What new items are compared with.

    Attributes:
        centroids: (codes, dimension) float32 mean of the items of each level-0 code, NaN for a code without items.
        distances: (101,) float32 percentiles 0 to 100 of the items' distances to the mean of their code.
    """

    centroids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class StoredCodes:
    """Codes of the items or of the distinct queries of a run.

    Args:
        codes: (rows, levels) int32.
        known: (rows,) bool: whether the text has a word that the encoder knows.
        codebook_sizes: codebook size of each level.
        fingerprint: fingerprint of the codebooks.
        reference: comparison for new items; None for queries.
    """

    codes: np.ndarray
    known: np.ndarray
    codebook_sizes: tuple[int, ...]
    fingerprint: str
    reference: Reference | None = None

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        tensors: dict[str, np.ndarray] = {
            "codes": self.codes.astype(np.int32),
            "known": self.known.astype(np.uint8),
        }
        if self.reference is not None:
            tensors |= self.reference._asdict()
        metadata = {
            "format": FORMAT,
            "codebook_sizes": json.dumps([int(size) for size in self.codebook_sizes]),
            "fingerprint": self.fingerprint,
        }
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> StoredCodes:
        """Read a file.

        Args:
            path: safetensors file.
            fingerprint: fingerprint that its codebooks must have; None accepts any.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged, has another format or belongs to other codebooks.
        """
        path = Path(path)
        metadata, tensors = read_tensors(path, FORMAT, REMEDY)
        if fingerprint is not None and metadata["fingerprint"] != fingerprint:
            raise ValueError(
                f"{path} belongs to codebooks {metadata['fingerprint'][:12]}…, not {fingerprint[:12]}…; build the SIDs again"
            )
        reference = Reference(tensors["centroids"], tensors["distances"]) if "centroids" in tensors else None
        sizes = tuple(json.loads(metadata["codebook_sizes"]))
        return cls(tensors["codes"], tensors["known"].astype(bool), sizes, metadata["fingerprint"], reference)


def codes_path(sids: Path, kind: str) -> Path:
    """File with the codes of a kind, ``items`` or ``queries``, in a folder of SIDs."""
    names = {"items": "item_codes", "queries": "query_codes"}
    if kind not in names:
        raise ValueError(f"kind {kind!r} is unknown; allowed are {', '.join(names)}")
    return sids / f"{names[kind]}.safetensors"


def load_codes(run: RunFolder, kind: str) -> StoredCodes:
    """Codes of a run's ``items`` or distinct ``queries``, in the order of the items table or of `distinct_queries`.

    Raises:
        FileNotFoundError: the run has no codes of this kind.
        ValueError: the file is damaged, or the parts of ``sids/`` belong to different codebooks.

    Example:
        >>> load_codes(RunFolder("runs/demo"), "queries").codes  # doctest: +SKIP
    """
    check_parts(run)
    return StoredCodes.load(codes_path(run.sids, kind))


__all__ = ["Reference", "StoredCodes", "codes_path", "load_codes"]
