"""RQ-OPQ: residual k-means levels, the last one balanced, then optimised product quantisation of what they leave (OneSearch, arXiv
2509.03236, KHQE step C).

Codes of the residual levels are hierarchical; the product codes that follow are peers. Codebooks are frozen once saved: new items are
encoded with them, a published SID never moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..parallel.rows import CHUNK, Rows, as_rows, chunks, draw
from ..parallel.threads import one_thread
from .balance import balanced_k_means, capacity, settle
from .base import CODEBOOKS_NAME, Quantizer
from .configs import RQOPQConfig, suggest_codebook_sizes
from .decoder import AdditiveDecoder
from .k_means import SWAP_ROUNDS, Centroids, k_means, nearest, shared_out_directions

__all__ = ["CODEBOOKS_NAME", "RQOPQ"]


class RQOPQ(Quantizer):
    """Residual k-means followed by optimised product quantisation.

    `level_centroids` are the centroids of the residual levels. `product_codebooks` are those of the sub-codes, turned back into the space
    of the vectors: (codes, dimension), one orthogonal sub-space per sub-code, so any number of sub-codes up to the dimension will do.
    `prices` and `loads` (codes of the last level,) belong to the balanced level and are None without it.

    >>> vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    >>> quantizer = RQOPQ.fit(vectors, RQOPQConfig(residual_sizes=(16, 8), opq=(2, 8)))
    >>> quantizer.encode(vectors).shape
    (400, 4)
    >>> int(quantizer.loads.max())  # ⌈400 / 8⌉ · 1.05
    52
    """

    kind = "rq-opq"
    config_class = RQOPQConfig

    def __init__(self, config: RQOPQConfig, tensors: dict[str, np.ndarray]):
        super().__init__(config, tensors)
        self.product_codebooks = [tensors[f"product_{part}"] for part in range(config.opq[0])]
        self.prices, self.loads = tensors.get("prices"), tensors.get("loads")
        books = (
            [tensors[f"decoder_{position}"] for position in range(len(config.codebook_sizes))] if "decoder_0" in tensors else []
        )
        scales = [tensors[name] for name in sorted(tensors) if name.startswith("scale_")]
        self._decoder = AdditiveDecoder(books, scales or None, tensors.get("centre"))

    @property
    def dimension(self) -> int:
        """Size of the vectors."""
        return self.level_centroids[0].shape[1]

    @classmethod
    def fit(cls, vectors: Rows, config: RQOPQConfig) -> Self:
        """Train all codebooks on `vectors` (n, dimension): an array, an `np.memmap` or `ShardedRows`.

        What is held in memory is `points_per_centroid` rows per code of the widest level, twice. A balanced level adds 16 candidates
        (128 bytes) per vector, because its bound holds for all n.

        Raises:
            ValueError: values that are not finite, fewer distinct vectors than codes of a level, or more sub-codes than dimensions.
        """
        rows = as_rows(vectors)
        if config.opq[0] > rows.shape[1]:
            raise ValueError(f"{config.opq[0]} sub-codes need at least as many dimensions, the vectors have {rows.shape[1]}")
        drawn = draw(rows, config.points_per_centroid * max(config.codebook_sizes), config.seed)
        _refuse_too_few(drawn, config)
        tensors = cls._prepare(drawn)
        trace = _Trace(drawn, tensors)
        residual = cls._start(drawn, tensors)
        for level, width in enumerate(config.residual_sizes):
            residual = trace.scale(residual, config)
            generator = np.random.default_rng([config.seed, level])
            sample = _sample(residual, width * config.points_per_centroid, generator)
            centroids, prices = cls._train_level(sample, level, config, generator)
            tensors[f"level_{level}"] = centroids
            if prices is not None:
                limit = capacity(len(rows), width, config.slack)
                held = len(drawn) == len(rows)
                blocks = (lambda residual=residual: iter([residual])) if held else _Residuals(cls, rows, config, tensors)
                prices, loads = settle(blocks, centroids, prices, limit)
                tensors |= {"prices": prices, "loads": loads}
            codes = nearest(residual, centroids, prices)
            trace.codes.append(codes)
            residual = cls._left(residual, centroids, codes)
        if config.opq[0]:
            residual = trace.scale(residual, config)
            for part, centroids in enumerate(_train_product(residual, config)):
                tensors[f"product_{part}"] = centroids
                trace.codes.append(nearest(residual, centroids))
        tensors |= trace.decoder(config)
        return cls(config, tensors)

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = self._start(vectors, self.tensors)
        levels, products = self._ready
        for level, ready in enumerate(levels):
            residual, _ = _scaled(residual, self.config)
            codes[:, level] = ready.nearest(residual)
            residual = self._left(residual, ready.centroids, codes[:, level])
        residual, _ = _scaled(residual, self.config)
        for part, ready in enumerate(products):
            codes[:, len(levels) + part] = ready.nearest(residual)

    @cached_property
    def _ready(self) -> tuple[list[Centroids], list[Centroids]]:
        """Centroids of the residual levels and of the product codes."""
        books, last = self.level_centroids, len(self.config.residual_sizes) - 1
        levels = [Centroids(book, self.prices if level == last else None) for level, book in enumerate(books)]
        return levels, [Centroids(book) for book in self.product_codebooks]

    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        return self._decoder(codes)

    # What variants replace

    @classmethod
    def _prepare(cls, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Tensors that the first residual needs."""
        return {}

    @classmethod
    def _start(cls, vectors: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
        """The first residual, (n, dimension)."""
        return vectors

    @classmethod
    def _train_level(
        cls, residual: np.ndarray, level: int, config: Any, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Centroids, and prices if the level is balanced."""
        width, last = config.residual_sizes[level], level == len(config.residual_sizes) - 1
        if last and config.balanced and width > 1:
            return balanced_k_means(residual, width, max(1, config.iterations // 2), generator)
        return k_means(residual, width, config.iterations, generator, 0 if last and level else SWAP_ROUNDS), None

    @classmethod
    def _left(cls, residual: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """What a level leaves to the next."""
        return residual - centroids[codes]


class _Trace:
    """Codes and lengths of the training vectors, level by level: what the decoder is fitted to."""

    def __init__(self, vectors: np.ndarray, tensors: dict[str, np.ndarray]):
        self.vectors, self.tensors = vectors, tensors
        self.codes: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []

    def scale(self, residual: np.ndarray, config: Any) -> np.ndarray:
        residual, lengths = _scaled(residual, config)
        if lengths is not None:
            self.lengths.append(lengths[:, 0])
        return residual

    def decoder(self, config: Any) -> dict[str, np.ndarray]:
        books = [self.tensors[f"level_{level}"] for level in range(len(config.residual_sizes))]
        books += [self.tensors[f"product_{part}"] for part in range(config.opq[0])]
        fitted = AdditiveDecoder.fit(
            self.vectors, np.stack(self.codes, axis=1), books, self.lengths or None, self.tensors.get("centre")
        )
        tensors = {f"decoder_{position}": book for position, book in enumerate(fitted.books)}
        return tensors | {f"scale_{level:02d}": scale for level, scale in enumerate(fitted.scales or ())}


class _Residuals:
    """Residuals of all rows before the last level, computed from the rows at each pass; the codes before it are kept."""

    def __init__(self, quantizer: type[RQOPQ], rows: Rows, config: Any, tensors: dict[str, np.ndarray]):
        self.quantizer, self.rows, self.config, self.tensors = quantizer, rows, config, tensors
        self.books = [tensors[f"level_{level}"] for level in range(len(config.residual_sizes) - 1)]
        self.codes: dict[int, list[np.ndarray]] = {}

    def __call__(self) -> Iterator[np.ndarray]:
        for place, block in chunks(self.rows, CHUNK):
            residual, _ = _scaled(self.quantizer._start(block, self.tensors), self.config)
            known = self.codes.setdefault(place.start, [])
            for level, centroids in enumerate(self.books):
                if level == len(known):
                    known.append(nearest(residual, centroids))
                residual, _ = _scaled(self.quantizer._left(residual, centroids, known[level]), self.config)
            yield residual


def _scaled(residual: np.ndarray, config: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Unit vectors and their former lengths (n, 1); zeros stay zeros. Without `normalise_residuals` as it was, and None."""
    if not config.normalise_residuals:
        return residual, None
    lengths = np.sqrt(np.einsum("ij,ij->i", residual, residual))[:, None]
    return residual / np.where(lengths > 0, lengths, 1), lengths


def _sample(residual: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    if count >= len(residual):
        return residual
    return residual[np.sort(generator.permutation(len(residual))[:count])]


def _refuse_too_few(vectors: np.ndarray, config: Any) -> None:
    largest = max(config.codebook_sizes)
    distinct = len(np.unique(vectors, axis=0)) if len(vectors) < 4 * largest else len(vectors)
    if distinct < largest:
        better = suggest_codebook_sizes(distinct)
        raise ValueError(
            f"{distinct:,} distinct vectors cannot train {largest:,} codes: use codebook sizes no larger than the catalogue, "
            f"for instance residual_sizes={better.residual_sizes}, opq={better.opq}"
        )


def _train_product(residual: np.ndarray, config: Any) -> list[np.ndarray]:
    """Centroids (codes, dimension) per sub-code: k-means in each sub-space of the rotation, turned back into the full space."""
    parts, width = config.opq
    sample = _sample(residual, width * config.points_per_centroid, np.random.default_rng([config.seed, 99]))
    books = []
    for part, directions in enumerate(shared_out_directions(sample, parts)):
        with one_thread():
            projected = sample @ directions
        generator = np.random.default_rng([config.seed, 100 + part])
        centroids = k_means(projected, width, config.iterations, generator, rounds=0)
        with one_thread():
            books.append(centroids @ directions.T)
    return books
