"""Steps of training a residual quantizer: scaled residuals, the codes of the sample, the balance of the last level, and product codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..parallel.rows import CHUNK, Rows, chunks
from ..parallel.threads import one_thread
from .balance import Blocks, capacity, enforce_capacity
from .configs import RQOPQConfig, suggest_codebook_sizes
from .decoder import AdditiveDecoder
from .k_means import k_means
from .nearest import nearest
from .parent_balance import balance_parents
from .parents import RowPrices, parent_ids
from .subspaces import product_subspaces

if TYPE_CHECKING:
    from .residual import ResidualQuantizer

Tensors = dict[str, np.ndarray]


class Level(NamedTuple):
    """Trained centroids (codes, dimension) float32 of a level, and prices (codes,) to start balancing from; None if it is not balanced."""

    centroids: np.ndarray
    prices: np.ndarray | None


class Scaled(NamedTuple):
    """Residuals (n, dimension) of unit length, and their lengths (n,) before; zeros stay zeros.

    Without `normalise_residuals` the residuals are unchanged and the lengths are None.
    """

    residual: np.ndarray
    lengths: np.ndarray | None


def scaled(residual: np.ndarray, config: RQOPQConfig) -> Scaled:
    """Scale residuals (n, dimension) to unit length if the config says so."""
    if not config.normalise_residuals:
        return Scaled(residual, None)
    lengths = np.sqrt(np.einsum("ij,ij->i", residual, residual))
    return Scaled(residual / np.where(lengths > 0, lengths, 1)[:, None], lengths)


class Trace:
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

    def stacked(self) -> np.ndarray:
        """Codes (sampled vectors, levels so far)."""
        return np.stack(self.codes, axis=1) if self.codes else np.zeros((len(self.vectors), 0), dtype=np.int32)

    def decoder(self, config: RQOPQConfig) -> Tensors:
        """Tensors of the fitted decoder."""
        books = [self.tensors[f"level_{level}"] for level in range(len(config.residual_sizes))]
        books += [self.tensors[f"product_{part}"] for part in range(config.opq[0])]
        fitted = AdditiveDecoder.fit(self.vectors, self.stacked(), books, self.lengths or None, self.tensors.get("centre"))
        tensors = {f"decoder_{level}": book for level, book in enumerate(fitted.books)}
        return tensors | {f"scale_{level:02d}": scale for level, scale in enumerate(fitted.scales or ())}


class _Residuals:
    """Residuals of all rows before the last residual level, computed from the rows at every pass.

    The first pass encodes the levels before the last and keeps their codes; later passes only subtract.
    """

    def __init__(self, quantizer: type[ResidualQuantizer[Any]], rows: Rows, config: RQOPQConfig, tensors: Tensors) -> None:
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

    def parents(self) -> np.ndarray:
        """Parent (n,) int64 of each row."""
        if not self.codes:
            for _ in self():
                pass
        codes = [np.stack(known, axis=1) for known in self.codes.values() if known]
        if not codes:
            return np.zeros(len(self.rows), dtype=np.int64)
        return parent_ids(np.concatenate(codes), self.config.residual_sizes)


class AllRows(NamedTuple):
    """Passes over the residuals of all rows before the last residual level, and their parents (n,) int64."""

    blocks: Blocks
    parents: Callable[[], np.ndarray]


def all_rows(
    quantizer: type[ResidualQuantizer[Any]],
    rows: Rows,
    residual: np.ndarray,
    config: RQOPQConfig,
    tensors: Tensors,
    trace: Trace,
) -> AllRows:
    """All `rows`; `residual` (sampled vectors, dimension) serves if all of them were sampled."""
    if len(residual) == len(rows):
        return AllRows(lambda: iter([residual]), lambda: parent_ids(trace.stacked(), config.residual_sizes))
    passes = _Residuals(quantizer, rows, config, tensors)
    return AllRows(passes, passes.parents)


class Balanced(NamedTuple):
    """Prices of the last residual level: of the whole level or inside the parents of the sampled vectors; and the tensors to save."""

    prices: np.ndarray | None
    inside: RowPrices | None
    saved: Tensors


def balanced(every: AllRows, level: Level, count: int, config: RQOPQConfig, trace: Trace) -> Balanced:
    """Balance the last residual level for `count` rows, as `config.balanced` says."""
    if config.balanced == "parent":
        found = balance_parents(every.blocks, every.parents(), level.centroids, config.slack)
        inside = RowPrices(found, parent_ids(trace.stacked(), config.residual_sizes))
        return Balanced(None, inside, found.tensors())
    limit = capacity(count, len(level.centroids), config.slack)
    start = np.zeros(len(level.centroids)) if level.prices is None else level.prices
    balance = enforce_capacity(every.blocks, level.centroids, start, limit)
    return Balanced(balance.prices, None, balance._asdict())


def sampled(residual: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """At most `count` rows of `residual`, in their order."""
    if count >= len(residual):
        return residual
    return residual[np.sort(generator.permutation(len(residual))[:count])]


def refuse_too_few(vectors: np.ndarray, config: RQOPQConfig) -> None:
    """Raise ValueError if there are fewer distinct vectors (n, dimension) than codes of a level."""
    largest = max(config.codebook_sizes)
    distinct = len(np.unique(vectors, axis=0)) if len(vectors) < 4 * largest else len(vectors)
    if distinct < largest:
        better = suggest_codebook_sizes(distinct)
        levels, opq = ",".join(map(str, better.residual_sizes)), "x".join(map(str, better.opq))
        raise ValueError(
            f"{distinct:,} distinct vectors cannot train {largest:,} codes; use codebook sizes no larger than that: "
            f"--residual-sizes {levels} --opq {opq} (in Python residual_sizes={better.residual_sizes}, opq={better.opq})"
        )


def train_product(residual: np.ndarray, config: RQOPQConfig) -> list[np.ndarray]:
    """Centroids (codes, dimension) per product code.

    1. Split the space into orthogonal sub-spaces of equal variance (`product_subspaces`).
    2. Run k-means on the coordinates in each sub-space.
    3. Turn the centroids back into the whole space, so that a vector needs no rotation to be encoded.
    """
    parts, size = config.opq
    sample = sampled(residual, size * config.points_per_centroid, np.random.default_rng([config.seed, 99]))
    books = []
    for part, directions in enumerate(product_subspaces(sample, parts)):
        with one_thread():
            projected = sample @ directions
        generator = np.random.default_rng([config.seed, 100 + part])
        centroids = k_means(projected, size, config.iterations, generator, rounds=0)
        with one_thread():
            books.append(centroids @ directions.T)
    return books


__all__ = [
    "AllRows",
    "Balanced",
    "Level",
    "Scaled",
    "Tensors",
    "Trace",
    "all_rows",
    "balanced",
    "refuse_too_few",
    "sampled",
    "scaled",
    "train_product",
]
