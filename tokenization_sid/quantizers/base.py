"""Interface of every quantizer: `fit`, `encode`, `decode`, `save_pretrained`, `from_pretrained` and a fingerprint.

A quantizer is saved as one file, ``codebooks.safetensors``: its tensors, and as metadata ``format``, ``kind``, ``config`` (JSON) and
``fingerprint``. The fingerprint of the whole content, settings included, is compared when the file is read (`tensor_files.py`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np

from ..parallel.rows import CHUNK, Rows, as_rows, chunks
from ..parallel.threads import Workers
from ..tensor_files import read_tensors, write_tensors
from .configs import LearnedConfig, RQOPQConfig
from .nearest import ROWS_PER_BLOCK

logger = logging.getLogger(__name__)

CODEBOOKS_NAME = "codebooks.safetensors"
FORMAT = "onesearch-codebooks/2"
REMEDY = "make it with `onesearch sids build`, or copy it again"

Config = TypeVar("Config", bound=RQOPQConfig | LearnedConfig)


class Quantizer(ABC, Generic[Config]):
    """Vectors to codes and back, with frozen codebooks.

    `fit` and `from_pretrained` make a quantizer. The codes of a vector depend on the codebooks and on that vector alone: not on the
    other rows, the chunk size or the number of threads.

    Args:
        config: sizes and training.
        tensors: codebooks and everything else that is saved.
    """

    kind: ClassVar[str]
    """Name of the quantizer in its file and in a recipe."""
    config_class: ClassVar[type]
    """Class of `config`."""

    def __init__(self, config: Config, tensors: dict[str, np.ndarray]) -> None:
        self.config = config
        self.tensors = tensors

    @classmethod
    @abstractmethod
    def fit(cls, vectors: Rows, config: Config) -> Self:
        """Train all codebooks on `vectors`, (n, dimension)."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Dimension of the vectors."""

    @property
    def level_centroids(self) -> list[np.ndarray]:
        """Centroids of each residual level, (codes, size) float32; size is the dimension, or that of the latent vector if there is one.

        They lie where the residuals of their level do, so that their lengths are about 1 wherever residuals are normalised. Product codes
        are not among them.
        """
        return [self.tensors[f"level_{level}"] for level in range(len(self.config.residual_sizes))]

    @abstractmethod
    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        """Write the codes of `vectors` (n, dimension) float32 into `codes` (n, levels) int32."""

    @abstractmethod
    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        """Vectors (n, dimension) float32 of `codes` (n, levels)."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the kind, the codebook sizes and all tensors; SIDs of equal fingerprints may be mixed."""
        state = hashlib.sha256(json.dumps([self.kind, self.config.codebook_sizes]).encode())
        for name, tensor in sorted(self.tensors.items()):
            state.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            state.update(np.ascontiguousarray(tensor).tobytes())
        return state.hexdigest()

    def encode(self, vectors: Rows, chunk: int = CHUNK) -> np.ndarray:
        """Codes of vectors, computed on as many threads as a matrix product would use.

        Args:
            vectors: (n, dimension): an array, or an `np.memmap` or `ShardedRows`, which is read in chunks.
            chunk: number of rows that are read at a time. Raising it costs memory; the codes stay the same.

        Returns:
            (n, levels) int32.

        Raises:
            ValueError: the shape does not fit the codebooks, or a value is NaN or infinite.
        """
        rows = as_rows(vectors, self.dimension)
        codes = np.empty((len(rows), len(self.config.codebook_sizes)), dtype=np.int32)
        with Workers(ROWS_PER_BLOCK) as workers:
            for place, values in chunks(rows, chunk):
                workers.run(len(values), partial(self._fill, values, codes[place]))
        return codes

    def encode_new(self, vectors: np.ndarray, published: np.ndarray) -> np.ndarray:
        """Codes of new items beside published ones; those of `encode`, unless the codebooks are balanced inside parents.

        Args:
            vectors: (n, dimension) in the order in which the items are added.
            published: (published items, levels) codes.

        Returns:
            (n, levels) int32.

        Raises:
            ValueError: as `encode`.
        """
        return self.encode(vectors)

    @property
    def for_queries(self) -> Self:
        """Quantizer that encodes queries: itself, unless the codebooks are balanced inside parents."""
        return self

    def _fill(self, vectors: np.ndarray, codes: np.ndarray, rows: slice) -> None:
        self._encode_chunk(vectors[rows], codes[rows])

    def decode(self, codes: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
        """Vectors that the codes stand for.

        Args:
            codes: (n, levels) integers.
            chunk: number of rows that are decoded at a time.

        Returns:
            (n, dimension) float32.

        Raises:
            ValueError: the shape or the type does not fit, or a code is not in its codebook.
        """
        codes, sizes = np.asarray(codes), np.array(self.config.codebook_sizes)
        if codes.ndim != 2 or codes.shape[1] != len(sizes) or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes have shape {codes.shape} and type {codes.dtype}, expected integers (n, {len(sizes)})")
        wrong = ((codes < 0) | (codes >= sizes)).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"codes {codes[row].tolist()} of row {row} are outside the codebook sizes {sizes.tolist()}")
        vectors = np.empty((len(codes), self.dimension), dtype=np.float32)
        for start in range(0, len(codes), chunk):
            vectors[start : start + chunk] = self._decode_chunk(codes[start : start + chunk])
        return vectors

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``codebooks.safetensors`` into `folder`, whole or not at all; returns its path."""
        path = Path(folder) / CODEBOOKS_NAME
        metadata = {
            "format": FORMAT,
            "kind": self.kind,
            "config": json.dumps(asdict(self.config)),
            "fingerprint": self.fingerprint,
        }
        write_tensors(path, self.tensors, metadata)
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read the codebooks in `folder`.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged, is not a codebooks file, or holds another kind of quantizer.
        """
        path, metadata, tensors = read_codebooks(folder)
        if metadata["kind"] != cls.kind:
            raise ValueError(
                f"{path} holds codebooks of kind {metadata['kind']!r}, {cls.__name__} reads {cls.kind!r}; use load_quantizer"
            )
        quantizer = cls(_read_config(path, metadata["config"], cls.config_class), tensors)
        if quantizer.fingerprint != metadata.get("fingerprint"):
            raise ValueError(f"{path} is damaged: its tensors are not those that were saved; copy the file again")
        return quantizer


class CodebooksFile(NamedTuple):
    """Path, metadata and tensors of a codebooks file."""

    path: Path
    metadata: dict[str, str]
    tensors: dict[str, np.ndarray]


def read_codebooks(folder: str | Path) -> CodebooksFile:
    """Read the codebooks file in `folder`; raises as `read_tensors` does."""
    path = Path(folder) / CODEBOOKS_NAME
    return CodebooksFile(path, *read_tensors(path, FORMAT, REMEDY))


def _read_config(path: Path, text: str, config_class: type) -> Any:
    """Config from its JSON; a setting of a newer version is left out with a warning."""
    values: dict[str, Any] = json.loads(text)
    known = {field.name for field in fields(config_class)}
    if unknown := sorted(set(values) - known):
        logger.warning("%s: settings %s are unknown to this version and are ignored", path, ", ".join(unknown))
    try:
        return config_class(**{name: value for name, value in values.items() if name in known})
    except ValueError as error:
        raise ValueError(
            f"{path} was made with settings that this version does not read ({error}); build the SIDs again"
        ) from error


__all__ = ["CODEBOOKS_NAME", "CodebooksFile", "Quantizer", "read_codebooks"]
