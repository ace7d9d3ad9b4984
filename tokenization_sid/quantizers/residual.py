"""Residual quantisation: how `RQOPQ` and its variants train their codebooks, encode and decode.

A vector is encoded level by level. Each residual level takes the nearest centroid of the residual, and leaves a residual to the next;
product codes describe what the last level leaves. A variant replaces the first residual, the training of a level, or what a level
leaves; see the methods under "What a variant defines".
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import NamedTuple, Self, TypeVar

import numpy as np

from ..parallel.rows import Rows, as_rows, chunks, draw
from .base import Quantizer
from .configs import RQOPQConfig
from .decoder import AdditiveDecoder
from .nearest import Centroids, nearest
from .new_items import Published, free_codes
from .parents import ParentPrices, RowPrices, parent_ids
from .residual_training import (
    Level,
    Tensors,
    Trace,
    all_rows,
    balanced,
    refuse_too_few,
    sampled,
    scaled,
    train_product,
)

Config = TypeVar("Config", bound=RQOPQConfig)


class _Ready(NamedTuple):
    """Prepared centroids of the residual levels, and of the product codes."""

    levels: list[Centroids]
    products: list[Centroids]


class ResidualQuantizer(Quantizer[Config]):
    """Residual levels, followed by product codes.

    Args:
        config: sizes and training.
        tensors: ``level_0``, … centroids of the residual levels; ``product_0``, … of the product codes; ``decoder_0``, … and
            ``scale_00``, … of the decoder; ``prices`` and ``loads`` of a level that is balanced as a whole, or the ``parent_…`` tensors of
            `ParentPrices`; and what a variant adds.

    Attributes:
        product_codebooks: per product code its centroids (codes, dimension), in the space of the vectors. Those of one product code lie
            in a sub-space that is orthogonal to the others, so that any number of product codes up to the dimension is possible.
        prices: (codes,) of the last residual level, if it is balanced as a whole, else None.
        loads: (codes,) number of training vectors in each code of the last residual level, if it is balanced as a whole, else None.
        parent_prices: prices of the last residual level by parent, if it is balanced inside parents, else None.
    """

    def __init__(self, config: Config, tensors: Tensors) -> None:
        super().__init__(config, tensors)
        self.product_codebooks = [tensors[f"product_{part}"] for part in range(config.opq[0])]
        self.prices: np.ndarray | None = tensors.get("prices")
        self.loads: np.ndarray | None = tensors.get("loads")
        self.parent_prices = ParentPrices.from_tensors(tensors)
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
        3. If the last residual level is balanced, find prices under which the bound holds for all n vectors, sampled or not
            (`enforce_capacity` for the level, `balance_parents` inside parents).
        4. Train the product codes on what the last level leaves.
        5. Fit the decoder to the codes of the sample.

        The sample is held in memory twice, and the bound holds for all vectors: balance of the level adds 16 candidates (192 bytes) per
        vector; balance inside parents adds the codes of all vectors, and a pass over them per `ROWS_HELD` vectors in crowded parents.

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
        refuse_too_few(sample, config)
        tensors = cls._prepare(sample)
        trace = Trace(sample, tensors)
        residual = cls._start(sample, tensors)
        for level, size in enumerate(config.residual_sizes):
            residual = trace.scaled(residual, config)
            generator = np.random.default_rng([config.seed, level])
            points = sampled(residual, size * config.points_per_centroid, generator)
            centroids, prices = cls._train_level(points, level, config, generator)
            tensors[f"level_{level}"] = centroids
            inside = None
            if prices is not None:
                every = all_rows(cls, rows, residual, config, tensors, trace)
                prices, inside, saved = balanced(every, Level(centroids, prices), len(rows), config, trace)
                tensors |= saved
            codes = nearest(residual, centroids, prices, inside)
            trace.codes.append(codes)
            residual = cls._left(residual, centroids, codes)
        if config.opq[0]:
            residual = trace.scaled(residual, config)
            for part, centroids in enumerate(train_product(residual, config)):
                tensors[f"product_{part}"] = centroids
                trace.codes.append(nearest(residual, centroids))
        tensors |= trace.decoder(config)
        return cls(config, tensors)

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = self._before_last(vectors, codes)
        inside = None
        if self.parent_prices is not None:
            inside = RowPrices(self.parent_prices, parent_ids(codes, self.config.residual_sizes))
        last = len(self.config.residual_sizes) - 1
        codes[:, last] = self._ready.levels[last].nearest(residual, inside)
        self._encode_products(residual, codes)

    def _before_last(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Write the codes of `vectors` (n, dimension) before the last residual level; returns their scaled residuals."""
        residual = self._start(vectors, self.tensors)
        for level, ready in enumerate(self._ready.levels[:-1]):
            residual = scaled(residual, self.config).residual
            codes[:, level] = ready.nearest(residual)
            residual = self._left(residual, ready.centroids, codes[:, level])
        return scaled(residual, self.config).residual

    def _encode_products(self, residual: np.ndarray, codes: np.ndarray) -> None:
        """Write the product codes of what the last residual level leaves of its `residual` (n, dimension)."""
        if not self._ready.products:
            return
        last = len(self.config.residual_sizes) - 1
        residual = self._left(residual, self.level_centroids[last], codes[:, last])
        residual = scaled(residual, self.config).residual
        for part, ready in enumerate(self._ready.products):
            codes[:, last + 1 + part] = ready.nearest(residual)

    def encode_new(self, vectors: np.ndarray, published: np.ndarray) -> np.ndarray:
        """Codes of new items beside published ones, (n, levels) int32.

        If the codebooks are balanced inside parents, each item takes the nearest code of the last residual level that still has room in
        its parent (`free_codes`), and the product codes describe what that code leaves. Otherwise the codes are those of `encode`.

        Args:
            vectors: (n, dimension) in the order in which the items are added.
            published: (published items, levels) codes.

        Raises:
            ValueError: as `encode`.
        """
        if self.parent_prices is None:
            return self.encode(vectors)
        sizes, last = self.config.residual_sizes, len(self.config.residual_sizes) - 1
        codes = np.empty((len(vectors), len(self.config.codebook_sizes)), dtype=np.int32)
        parts = []
        for place, values in chunks(as_rows(vectors, self.dimension)):
            parts.append(self._before_last(values, codes[place]))
        residual = np.concatenate(parts)
        there = Published(parent_ids(published, sizes), published[:, last])
        codes[:, last] = free_codes(residual, parent_ids(codes, sizes), there, self.level_centroids[last])
        self._encode_products(residual, codes)
        return codes

    @cached_property
    def for_queries(self) -> Self:
        """Quantizer that encodes queries: the same centroids, without prices inside parents.

        Queries take no room from items, and an item that had to make room says nothing about a query: each takes the nearest code.
        """
        if self.parent_prices is None:
            return self
        kept = {name: tensor for name, tensor in self.tensors.items() if not name.startswith("parent_")}
        return type(self)(self.config, kept)

    @cached_property
    def _ready(self) -> _Ready:
        """Prepared centroids."""
        books, last = self.level_centroids, len(self.config.residual_sizes) - 1
        levels = [Centroids(book, self.prices if level == last else None) for level, book in enumerate(books)]
        return _Ready(levels, [Centroids(book) for book in self.product_codebooks])

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


__all__ = ["ResidualQuantizer"]
