"""Residual quantisation: how `RQOPQ` and its variants train their codebooks, encode and decode.

A vector is encoded level by level. Each residual level takes the nearest centroid of the residual, and leaves a residual to the next;
product codes describe what the last level leaves. A variant replaces the first residual, the training of a level, or what a level
leaves; see the methods under "What a variant defines".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Self, TypeVar

import numpy as np

from ..parallel.rows import CHUNK, Rows, as_rows, chunks, draw
from ..parallel.threads import one_thread
from .balance import Blocks, capacity, enforce_capacity
from .base import Quantizer
from .configs import RQOPQConfig, suggest_codebook_sizes
from .decoder import AdditiveDecoder
from .k_means import k_means
from .nearest import Centroids, nearest
from .subspaces import product_subspaces

Tensors = dict[str, np.ndarray]
Config = TypeVar("Config", bound=RQOPQConfig)


class Level(NamedTuple):
    """Trained centroids (codes, dimension) float32 of a level, and their prices (codes,) if it is balanced, else None."""

    centroids: np.ndarray
    prices: np.ndarray | None


class Scaled(NamedTuple):
    """Residuals (n, dimension) of unit length, and their lengths (n,) before; zeros stay zeros.

    Without `normalise_residuals` the residuals are unchanged and the lengths are None.
    """

    residual: np.ndarray
    lengths: np.ndarray | None


class ResidualQuantizer(Quantizer[Config]):
    """Residual levels, followed by product codes.

    Args:
        config: sizes and training.
        tensors: ``level_0``, … centroids of the residual levels; ``product_0``, … of the product codes; ``decoder_0``, … and
            ``scale_00``, … of the decoder; ``prices`` and ``loads`` of a balanced level; and what a variant adds.

    Attributes:
        product_codebooks: per product code its centroids (codes, dimension), in the space of the vectors. Those of one product code lie
            in a sub-space that is orthogonal to the others, so that any number of product codes up to the dimension is possible.
        prices: (codes,) of the last residual level, if it is balanced, else None.
        loads: (codes,) number of training vectors in each code of the last residual level, if it is balanced, else None.
    """

    def __init__(self, config: Config, tensors: Tensors) -> None:
        super().__init__(config, tensors)
        self.product_codebooks = [tensors[f"product_{part}"] for part in range(config.opq[0])]
        self.prices: np.ndarray | None = tensors.get("prices")
        self.loads: np.ndarray | None = tensors.get("loads")
        levels = range(len(config.codebook_sizes)) if "decoder_0" in tensors else ()
        books = [tensors[f"decoder_{level}"] for level in levels]
        scales = [tensors[name] for name in sorted(tensors) if name.startswith("scale_")]
        self._decoder = AdditiveDecoder(books, scales or None, tensors.get("centre"))

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return self.level_centroids[0].shape[1]

    @classmethod
    def fit(cls, vectors: Rows, config: Config) -> Self:
        """Train all codebooks.

        1. Sample `points_per_centroid` vectors per code of the largest level.
        2. For each residual level: scale the residuals, train the centroids, and subtract what the codes describe.
        3. If the last residual level is balanced, change its prices until the bound holds for all n vectors, sampled or not.
        4. Train the product codes on what the last level leaves.
        5. Fit the decoder to the codes of the sample.

        The sample is held in memory twice. A balanced level adds 16 candidates (192 bytes) per vector, because its bound holds for all
        vectors.

        Args:
            vectors: (n, dimension): an array, an `np.memmap` or `ShardedRows`.
            config: sizes and training.

        Raises:
            ValueError: a value is NaN or infinite, there are fewer distinct vectors than codes of a level, or more product codes than
                dimensions.
        """
        rows = as_rows(vectors)
        if config.opq[0] > rows.shape[1]:
            raise ValueError(
                f"{config.opq[0]} product codes need at least as many dimensions, the vectors have {rows.shape[1]}; lower opq={config.opq}"
            )
        sample = draw(rows, config.points_per_centroid * max(config.codebook_sizes), config.seed)
        _refuse_too_few(sample, config)
        tensors = cls._prepare(sample)
        trace = _Trace(sample, tensors)
        residual = cls._start(sample, tensors)
        for level, size in enumerate(config.residual_sizes):
            residual = trace.scaled(residual, config)
            generator = np.random.default_rng([config.seed, level])
            points = _sample(residual, size * config.points_per_centroid, generator)
            centroids, prices = cls._train_level(points, level, config, generator)
            tensors[f"level_{level}"] = centroids
            if prices is not None:
                blocks = _all_residuals(cls, rows, sample, residual, config, tensors)
                balance = enforce_capacity(blocks, centroids, prices, capacity(len(rows), size, config.slack))
                tensors |= balance._asdict()
                prices = balance.prices
            codes = nearest(residual, centroids, prices)
            trace.codes.append(codes)
            residual = cls._left(residual, centroids, codes)
        if config.opq[0]:
            residual = trace.scaled(residual, config)
            for part, centroids in enumerate(_train_product(residual, config)):
                tensors[f"product_{part}"] = centroids
                trace.codes.append(nearest(residual, centroids))
        tensors |= trace.decoder(config)
        return cls(config, tensors)

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = self._start(vectors, self.tensors)
        levels, products = self._ready
        for level, ready in enumerate(levels):
            residual = scaled(residual, self.config).residual
            codes[:, level] = ready.nearest(residual)
            residual = self._left(residual, ready.centroids, codes[:, level])
        residual = scaled(residual, self.config).residual
        for part, ready in enumerate(products):
            codes[:, len(levels) + part] = ready.nearest(residual)

    @cached_property
    def _ready(self) -> tuple[list[Centroids], list[Centroids]]:
        """Prepared centroids of the residual levels, and of the product codes."""
        books, last = self.level_centroids, len(self.config.residual_sizes) - 1
        levels = [Centroids(book, self.prices if level == last else None) for level, book in enumerate(books)]
        return levels, [Centroids(book) for book in self.product_codebooks]

    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        return self._decoder(codes)

    # What a variant defines

    @classmethod
    def _prepare(cls, vectors: np.ndarray) -> Tensors:
        """Tensors that the first residual needs, from the sampled vectors (n, dimension)."""
        return {}

    @classmethod
    def _start(cls, vectors: np.ndarray, tensors: Tensors) -> np.ndarray:
        """First residual (n, dimension) of `vectors` (n, dimension)."""
        return vectors

    @classmethod
    @abstractmethod
    def _train_level(cls, residual: np.ndarray, level: int, config: Config, generator: np.random.Generator) -> Level:
        """Train the centroids of a level on scaled residuals (n, dimension)."""

    @classmethod
    def _left(cls, residual: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Residual (n, dimension) that a level with `centroids` (codes, dimension) leaves to the next, after `codes` (n,)."""
        return residual - centroids[codes]


class _Trace:
    """Codes and lengths of the sampled vectors, level by level; the decoder is fitted to them."""

    def __init__(self, vectors: np.ndarray, tensors: Tensors) -> None:
        self.vectors, self.tensors = vectors, tensors
        self.codes: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []

    def scaled(self, residual: np.ndarray, config: RQOPQConfig) -> np.ndarray:
        """Residuals scaled as the config says; notes their lengths."""
        residual, lengths = scaled(residual, config)
        if lengths is not None:
            self.lengths.append(lengths)
        return residual

    def decoder(self, config: RQOPQConfig) -> Tensors:
        """Tensors of the fitted decoder."""
        books = [self.tensors[f"level_{level}"] for level in range(len(config.residual_sizes))]
        books += [self.tensors[f"product_{part}"] for part in range(config.opq[0])]
        codes = np.stack(self.codes, axis=1)
        fitted = AdditiveDecoder.fit(self.vectors, codes, books, self.lengths or None, self.tensors.get("centre"))
        tensors = {f"decoder_{level}": book for level, book in enumerate(fitted.books)}
        return tensors | {f"scale_{level:02d}": scale for level, scale in enumerate(fitted.scales or ())}


class _Residuals:
    """Residuals of all rows before the last residual level, computed from the rows at every pass.

    The first pass encodes the levels before the last and keeps their codes; later passes only subtract.
    """

    def __init__(self, quantizer: type[ResidualQuantizer], rows: Rows, config: RQOPQConfig, tensors: Tensors) -> None:
        self.quantizer, self.rows, self.config, self.tensors = quantizer, rows, config, tensors
        self.books = [tensors[f"level_{level}"] for level in range(len(config.residual_sizes) - 1)]
        self.codes: dict[int, list[np.ndarray]] = {}  # first row of a chunk → its codes per level

    def __call__(self) -> Iterator[np.ndarray]:
        for place, vectors in chunks(self.rows, CHUNK):
            residual = scaled(self.quantizer._start(vectors, self.tensors), self.config).residual
            known = self.codes.setdefault(place.start, [])
            for level, centroids in enumerate(self.books):
                if level == len(known):
                    known.append(nearest(residual, centroids))
                left = self.quantizer._left(residual, centroids, known[level])
                residual = scaled(left, self.config).residual
            yield residual


def _all_residuals(
    quantizer: type[ResidualQuantizer],
    rows: Rows,
    sample: np.ndarray,
    residual: np.ndarray,
    config: RQOPQConfig,
    tensors: Tensors,
) -> Blocks:
    """Passes over the residuals of all `rows` before the last residual level: `residual` itself if all rows were sampled."""
    if len(sample) == len(rows):
        return lambda: iter([residual])
    return _Residuals(quantizer, rows, config, tensors)


def scaled(residual: np.ndarray, config: RQOPQConfig) -> Scaled:
    """Scale residuals (n, dimension) to unit length if the config says so."""
    if not config.normalise_residuals:
        return Scaled(residual, None)
    lengths = np.sqrt(np.einsum("ij,ij->i", residual, residual))
    return Scaled(residual / np.where(lengths > 0, lengths, 1)[:, None], lengths)


def _sample(residual: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """At most `count` rows of `residual`, in their order."""
    if count >= len(residual):
        return residual
    return residual[np.sort(generator.permutation(len(residual))[:count])]


def _refuse_too_few(vectors: np.ndarray, config: RQOPQConfig) -> None:
    largest = max(config.codebook_sizes)
    distinct = len(np.unique(vectors, axis=0)) if len(vectors) < 4 * largest else len(vectors)
    if distinct < largest:
        better = suggest_codebook_sizes(distinct)
        levels, opq = ",".join(map(str, better.residual_sizes)), "x".join(map(str, better.opq))
        raise ValueError(
            f"{distinct:,} distinct vectors cannot train {largest:,} codes; use codebook sizes no larger than that: "
            f"--residual-sizes {levels} --opq {opq} (in Python residual_sizes={better.residual_sizes}, opq={better.opq})"
        )


def _train_product(residual: np.ndarray, config: RQOPQConfig) -> list[np.ndarray]:
    """Centroids (codes, dimension) per product code.

    1. Split the space into orthogonal sub-spaces of equal variance (`product_subspaces`).
    2. Run k-means on the coordinates in each sub-space.
    3. Turn the centroids back into the whole space, so that a vector needs no rotation to be encoded.
    """
    parts, size = config.opq
    sample = _sample(residual, size * config.points_per_centroid, np.random.default_rng([config.seed, 99]))
    books = []
    for part, directions in enumerate(product_subspaces(sample, parts)):
        with one_thread():
            projected = sample @ directions
        generator = np.random.default_rng([config.seed, 100 + part])
        centroids = k_means(projected, size, config.iterations, generator, rounds=0)
        with one_thread():
            books.append(centroids @ directions.T)
    return books


__all__ = ["Level", "ResidualQuantizer", "Scaled", "scaled"]
