"""What every quantizer offers: `fit`, `encode`, `decode`, `save_pretrained`, `from_pretrained`, a fingerprint, and one file."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from onesearch.files import atomic_file

from ..parallel.rows import CHUNK, Rows, as_rows, chunks
from ..parallel.threads import Workers
from .configs import QuantizerConfig
from .k_means import ROWS_PER_BLOCK

logger = logging.getLogger(__name__)

CODEBOOKS_NAME = "codebooks.safetensors"
FORMAT = "onesearch-codebooks/1"


class Quantizer(ABC):
    """Vectors to codes and back, with frozen codebooks.

    A quantizer is made by `fit` or `from_pretrained`. Codes of a vector depend on the codebooks and the vector alone: not on the rows
    beside it, the chunk size or the number of threads.

    Args:
        config: sizes and training.
        tensors: everything else, as it is saved.
    """

    kind: ClassVar[str]
    """Written into the file; says which class reads it."""
    config_class: ClassVar[type[QuantizerConfig]]

    def __init__(self, config: Any, tensors: dict[str, np.ndarray]):
        self.config = config
        self.tensors = tensors

    @classmethod
    @abstractmethod
    def fit(cls, vectors: Rows, config: Any) -> Self:
        """Train all codebooks on `vectors`, (n, dimension)."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Size of the vectors."""

    @property
    def level_centroids(self) -> list[np.ndarray]:
        """Centroids of each residual level: (width, size) float32, where size is the dimension, or that of the latent if there is one.

        Those of a level lie where its residuals do: about the length of a unit vector wherever residuals are normalised. Product codes
        that follow the levels are no part of it.
        """
        return [self.tensors[f"level_{level}"] for level in range(len(self.config.residual_sizes))]

    @abstractmethod
    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        """Fill `codes` (n, positions)."""

    @abstractmethod
    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        """Vectors (n, dimension) of `codes`."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the kind, the sizes and all tensors: equal digests mean that SIDs may be mixed."""
        state = hashlib.sha256(json.dumps([self.kind, self.config.codebook_sizes]).encode())
        for name, tensor in sorted(self.tensors.items()):
            state.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            state.update(np.ascontiguousarray(tensor).tobytes())
        return state.hexdigest()

    def encode(self, vectors: Rows, chunk: int = CHUNK) -> np.ndarray:
        """Codes of `vectors`: (n, dimension) → (n, positions) int32, on as many threads as a matrix product would take.

        An `np.memmap` or `ShardedRows` is read `chunk` rows at a time.
        """
        rows = as_rows(vectors, self.dimension)
        codes = np.empty((len(rows), len(self.config.codebook_sizes)), dtype=np.int32)
        with Workers(ROWS_PER_BLOCK) as workers:
            for place, block in chunks(rows, chunk):
                workers.run(len(block), partial(self._fill, block, codes[place]))
        return codes

    def _fill(self, vectors: np.ndarray, codes: np.ndarray, rows: slice) -> None:
        self._encode_chunk(vectors[rows], codes[rows])

    def decode(self, codes: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
        """Vectors that the codes stand for: (n, positions) → (n, dimension) float32."""
        codes, codebook_sizes = np.asarray(codes), np.array(self.config.codebook_sizes)
        if codes.ndim != 2 or codes.shape[1] != len(codebook_sizes) or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"codes have shape {codes.shape} and type {codes.dtype}, expected integers (n, {len(codebook_sizes)})"
            )
        wrong = ((codes < 0) | (codes >= codebook_sizes)).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"codes {codes[row].tolist()} of row {row} are outside the codebook sizes {codebook_sizes.tolist()}"
            )
        vectors = np.empty((len(codes), self.dimension), dtype=np.float32)
        for start in range(0, len(codes), chunk):
            vectors[start : start + chunk] = self._decode_chunk(codes[start : start + chunk])
        return vectors

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``codebooks.safetensors`` into `folder`, atomically."""
        path = Path(folder) / CODEBOOKS_NAME
        metadata = {
            "format": FORMAT,
            "kind": self.kind,
            "config": json.dumps(asdict(self.config)),
            "fingerprint": self.fingerprint,
        }
        with atomic_file(path) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in self.tensors.items()}, temporary, metadata=metadata)
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read codebooks; a missing, damaged or foreign file, or one of another kind, raises with its path."""
        path, metadata, tensors = read_codebooks(folder)
        if metadata["kind"] != cls.kind:
            raise ValueError(
                f"{path} holds codebooks of kind {metadata['kind']!r}, {cls.__name__} reads {cls.kind!r}: `load_quantizer`"
            )
        values = json.loads(metadata["config"])
        known = {field.name for field in fields(cls.config_class)}
        if unknown := sorted(set(values) - known):
            logger.warning("%s: settings %s are unknown to this version and left out", path, ", ".join(unknown))
        quantizer = cls(cls.config_class(**{name: value for name, value in values.items() if name in known}), tensors)
        if quantizer.fingerprint != metadata.get("fingerprint"):
            raise ValueError(f"{path} is damaged (its tensors are not those that were saved); copy the file again")
        return quantizer


def read_codebooks(folder: str | Path) -> tuple[Path, dict[str, str], dict[str, np.ndarray]]:
    """Path, metadata and tensors of the codebooks in `folder`."""
    path = Path(folder) / CODEBOOKS_NAME
    return path, *read_tensors(path, FORMAT)


def read_tensors(path: Path, expected: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a file that `sids build` makes; a missing, damaged or foreign one raises with its path."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; make it with `onesearch sids build`")
    try:
        with safe_open(path, framework="np") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); build the SIDs again or copy the file again") from error
    if metadata.get("format") != expected:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected!r}; build the SIDs again")
    return metadata, tensors
