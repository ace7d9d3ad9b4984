"""The codes of a run as files: ``sids/item_codes.safetensors``, ``sids/query_codes.safetensors`` and ``sids/appended/*.parquet``.

The safetensors files hold ``codes`` (rows, levels) int32 and ``known`` (rows,) uint8: 0 where the text has no word that the encoder knows,
so that its codes mean nothing. Rows follow the items table and `distinct_queries`. The items' file also holds what new items are held
against: ``centroids`` (codes, dimension) float32, the mean of the items of each level-0 code (NaN where there are none), and
``distances`` (101,) float32, percentiles 0 to 100 of the items' distances to them. The metadata are ``format``, ``widths`` and the
``digest`` of the codebooks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from onesearch.files import RunFolder, atomic_file

from ..quantizers.base import read_tensors

FORMAT = "onesearch-codes/1"


@dataclass(frozen=True)
class StoredCodes:
    """Codes of the items or of the distinct queries of a run.

    Args:
        codes: (rows, levels) int32.
        known: (rows,) bool, whether the text has a word that the encoder knows.
        codebook sizes: codes per level.
        fingerprint: of the codebooks.
        centroids: (codes, dimension) mean of the items of each level-0 code; None for queries.
        distances: (101,) percentiles of the items' distances to those means; None for queries.
    """

    codes: np.ndarray
    known: np.ndarray
    codebook_sizes: tuple[int, ...]
    fingerprint: str
    centroids: np.ndarray | None = None
    distances: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Write the file, atomically."""
        tensors = {"codes": np.ascontiguousarray(self.codes, dtype=np.int32), "known": self.known.astype(np.uint8)}
        if self.centroids is not None and self.distances is not None:
            tensors |= {"centroids": self.centroids, "distances": self.distances}
        metadata = {
            "format": FORMAT,
            "codebook_sizes": json.dumps([int(width) for width in self.codebook_sizes]),
            "fingerprint": self.fingerprint,
        }
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path, fingerprint: str | None = None) -> StoredCodes:
        """Read a file; a missing, damaged or foreign one raises with its path, and so does one of other codebooks than `fingerprint`."""
        path = Path(path)
        metadata, tensors = read_tensors(path, FORMAT)
        if fingerprint is not None and metadata["fingerprint"] != fingerprint:
            raise ValueError(
                f"{path} belongs to codebooks {metadata['fingerprint'][:12]}…, not {fingerprint[:12]}…; build the SIDs again"
            )
        codebook_sizes = tuple(json.loads(metadata["codebook_sizes"]))
        reference = tensors.get("centroids"), tensors.get("distances")
        return cls(tensors["codes"], tensors["known"].astype(bool), codebook_sizes, metadata["fingerprint"], *reference)


def codes_path(run: RunFolder, kind: str) -> Path:
    """File of the codes of ``items`` or ``queries``."""
    names = {"items": "item_codes", "queries": "query_codes"}
    if kind not in names:
        raise ValueError(f"kind {kind!r} is unknown; allowed are {', '.join(names)}")
    return run.sids / f"{names[kind]}.safetensors"


def load_codes(run: RunFolder, kind: str) -> StoredCodes:
    """Codes of a run's ``items`` or distinct ``queries``, in the order of the items table or of `distinct_queries`.

    Example:
        >>> load_codes(RunFolder("runs/demo"), "queries").codes  # doctest: +SKIP
    """
    return StoredCodes.load(codes_path(run, kind))


__all__ = ["StoredCodes", "codes_path", "load_codes"]
