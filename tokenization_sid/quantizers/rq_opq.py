"""RQ-OPQ: residual k-means levels, then optimised product quantisation of what they leave (OneSearch, arXiv 2509.03236, KHQE step C).

Codes of the residual levels are hierarchical; the product codes that follow are peers. Codebooks are frozen once saved: new items are
encoded with them, a published SID never moves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from onesearch.files import atomic_file

CODEBOOKS_NAME = "codebooks.safetensors"
FORMAT = "onesearch-rq-opq/1"


@dataclass(frozen=True)
class RQOPQConfig:
    """Sizes and training of the codes.

    Args:
        levels: codes of each residual level. The paper's 4096-1024-512 suit catalogues of 10⁶ items and more; see `suggest_widths`.
        opq: (sub-codes, codes each); the paper's are (2, 256). (0, 0) leaves the product codes out.
        iterations: of k-means at each level (the authors' code: 25).
        points_per_centroid: at most so many training points per centroid are drawn (the authors' code: 10,000; ours is 256).
        normalise_residuals: scale the residual to unit length before each level. The paper's text normalises, the authors' code does
            not by default; neither do we.
        seed: of the draws and the initial centroids.
    """

    levels: tuple[int, ...] = (256, 128, 64)
    opq: tuple[int, int] = (2, 64)
    iterations: int = 25
    points_per_centroid: int = 256
    normalise_residuals: bool = False
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "levels", tuple(int(width) for width in self.levels))
        object.__setattr__(self, "opq", tuple(int(value) for value in self.opq))
        if not self.levels or min(self.levels) < 1 or len(self.opq) != 2 or min(self.opq) < 0:
            raise ValueError(
                f"levels={self.levels}, opq={self.opq}: levels need at least one code, opq is (sub-codes, codes each)"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Codes per SID position: residual levels, then product codes."""
        return (*self.levels, *([self.opq[1]] * self.opq[0]))


def suggest_widths(items: int) -> RQOPQConfig:
    """Widths in proportion to the catalogue and never above it, growing to the paper's at 10⁶ items; the steps between are ours."""
    if items >= 1_000_000:
        return RQOPQConfig((4096, 1024, 512), (2, 256))
    if items >= 100_000:
        return RQOPQConfig((1024, 512, 256), (2, 256))
    if items >= 5_000:
        return RQOPQConfig((256, 128, 64), (2, 64))
    width = min(64, 1 << (max(items, 1).bit_length() - 1))
    return RQOPQConfig((width, max(1, width // 2), max(1, width // 4)), (2, min(16, width)))


class RQOPQ:
    """Residual k-means followed by optimised product quantisation.

    Args:
        config: sizes.
        codebooks: per residual level (codes, dimension).
        rotation: (dimension, dimension) orthogonal, applied to the last residual; None without product codes.
        product_codebooks: (sub-codes, codes, dimension / sub-codes).
    """

    def __init__(
        self,
        config: RQOPQConfig,
        codebooks: Sequence[np.ndarray],
        rotation: np.ndarray | None,
        product_codebooks: np.ndarray | None,
    ):
        self.config = config
        self.codebooks = list(codebooks)
        self.rotation = rotation
        self.product_codebooks = product_codebooks

    @property
    def dimension(self) -> int:
        """Size of the vectors."""
        return self.codebooks[0].shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 of the sizes and all codebooks: equal digests mean that SIDs may be mixed."""
        state = hashlib.sha256(json.dumps([self.config.widths, self.config.normalise_residuals]).encode())
        for name, tensor in sorted(self._tensors().items()):
            state.update(name.encode())
            state.update(np.ascontiguousarray(tensor).tobytes())
        return state.hexdigest()

    @classmethod
    def fit(cls, vectors: np.ndarray, config: RQOPQConfig) -> RQOPQ:
        """Train all codebooks on `vectors` (n, dimension).

        Raises:
            ValueError: values that are not finite, fewer distinct vectors than codes of a level, or a dimension that the sub-codes do
                not divide.
        """
        vectors = _checked(vectors)
        parts, codes_each = config.opq
        largest = max(config.widths)
        distinct = len(np.unique(vectors, axis=0)) if len(vectors) < 4 * largest else len(vectors)
        if distinct < largest:
            better = suggest_widths(distinct)
            raise ValueError(
                f"{distinct:,} distinct vectors cannot train {largest:,} codes: use widths no larger than the catalogue, "
                f"for instance levels={better.levels}, opq={better.opq}"
            )
        if parts and vectors.shape[1] % parts:
            raise ValueError(f"dimension {vectors.shape[1]} is not divisible by {parts} sub-codes")
        residual, codebooks = vectors.copy(), []
        with _one_thread():
            for level, width in enumerate(config.levels):
                residual = _scaled(residual, config)
                centroids = _k_means(residual, width, config, config.seed + level)
                codebooks.append(centroids)
                residual -= centroids[_nearest(residual, centroids)]
            if not parts:
                return cls(config, codebooks, None, None)
            residual = _scaled(residual, config)
            rotation = _parametric_rotation(residual, parts)
            rotated = (residual @ rotation).reshape(len(residual), parts, -1)
            product = [
                _k_means(np.ascontiguousarray(rotated[:, part]), codes_each, config, config.seed + 100 + part)
                for part in range(parts)
            ]
        return cls(config, codebooks, rotation, np.stack(product))

    def encode(self, vectors: np.ndarray, chunk: int = 65_536) -> np.ndarray:
        """Codes of `vectors`: (n, dimension) → (n, levels + sub-codes) int32."""
        vectors = _checked(vectors, self.dimension)
        codes = np.empty((len(vectors), len(self.config.widths)), dtype=np.int32)
        for start in range(0, len(vectors), chunk):
            self._encode_chunk(vectors[start : start + chunk], codes[start : start + chunk])
        return codes

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = vectors.copy()
        for level, centroids in enumerate(self.codebooks):
            residual = _scaled(residual, self.config)
            codes[:, level] = _nearest(residual, centroids)
            residual -= centroids[codes[:, level]]
        if self.rotation is not None:
            residual = _scaled(residual, self.config)
            rotated = (residual @ self.rotation).reshape(len(residual), len(self.product_codebooks), -1)
            for part, centroids in enumerate(self.product_codebooks):
                codes[:, len(self.codebooks) + part] = _nearest(np.ascontiguousarray(rotated[:, part]), centroids)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Vectors that the codes stand for: (n, levels + sub-codes) → (n, dimension).

        Raises:
            ValueError: residuals were normalised, so their lengths are not in the codes.
        """
        if self.config.normalise_residuals:
            raise ValueError("codes of normalised residuals do not hold the lengths that decoding needs")
        codes = np.asarray(codes)
        vectors = np.zeros((len(codes), self.dimension), dtype=np.float32)
        for level, centroids in enumerate(self.codebooks):
            vectors += centroids[codes[:, level]]
        if self.rotation is not None:
            parts = [book[codes[:, len(self.codebooks) + part]] for part, book in enumerate(self.product_codebooks)]
            vectors += np.concatenate(parts, axis=1) @ self.rotation.T
        return vectors

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``codebooks.safetensors`` into `folder`, atomically."""
        path = Path(folder) / CODEBOOKS_NAME
        metadata = {"format": FORMAT, "config": json.dumps(asdict(self.config)), "digest": self.digest}
        with atomic_file(path) as temporary:
            save_file(
                {name: np.ascontiguousarray(tensor) for name, tensor in self._tensors().items()}, temporary, metadata=metadata
            )
        return path

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RQOPQ:
        """Read codebooks; a missing, damaged or foreign file raises with its path."""
        path = Path(folder) / CODEBOOKS_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; make it with `onesearch sids build`")
        try:
            with safe_open(path, framework="np") as file:
                metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); build the SIDs again or copy the file again") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {FORMAT!r}")
        config = RQOPQConfig(**json.loads(metadata["config"]))
        books = [tensors[f"level_{level}"] for level in range(len(config.levels))]
        return cls(config, books, tensors.get("rotation"), tensors.get("product"))

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = {f"level_{level}": book for level, book in enumerate(self.codebooks)}
        if self.rotation is not None:
            tensors |= {"rotation": self.rotation, "product": self.product_codebooks}
        return tensors


def _checked(vectors: np.ndarray, dimension: int | None = None) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"vectors have shape {vectors.shape}, expected (n, dimension) with n ≥ 1")
    if dimension is not None and vectors.shape[1] != dimension:
        raise ValueError(
            f"vectors have dimension {vectors.shape[1]}, the codebooks {dimension}: embed with the encoder they were made with"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(f"vector {int(np.argmin(finite))} holds NaN or infinity; embed its text again")
    return vectors


def _scaled(residual: np.ndarray, config: RQOPQConfig) -> np.ndarray:
    if not config.normalise_residuals:
        return residual
    lengths = np.linalg.norm(residual, axis=1, keepdims=True)
    return residual / np.where(lengths > 0, lengths, 1)


def _k_means(vectors: np.ndarray, width: int, config: RQOPQConfig, seed: int) -> np.ndarray:
    """Centroids (width, dimension)."""
    clustering = faiss.Kmeans(
        vectors.shape[1],
        width,
        niter=config.iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=config.points_per_centroid,
    )
    clustering.train(vectors)
    return clustering.centroids.copy()


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Row of the closest centroid for each vector, (n,)."""
    return faiss.knn(vectors, np.ascontiguousarray(centroids), 1)[1][:, 0]


def _parametric_rotation(vectors: np.ndarray, parts: int) -> np.ndarray:
    """Rotation (dimension, dimension) of parametric OPQ (Ge et al., CVPR 2013, section 3.2): principal directions dealt out so that the
    product of variances is alike in every sub-space."""
    covariance = np.cov(vectors, rowvar=False, ddof=min(1, len(vectors) - 1)).astype(np.float64).reshape(vectors.shape[1], -1)
    variances, directions = np.linalg.eigh(covariance)
    buckets: list[list[int]] = [[] for _ in range(parts)]
    load = np.zeros(parts)
    size = vectors.shape[1] // parts
    for column in np.argsort(-variances, kind="stable"):
        free = [part for part in range(parts) if len(buckets[part]) < size]
        part = min(free, key=lambda candidate: load[candidate])
        buckets[part].append(int(column))
        load[part] += np.log(max(variances[column], 1e-12))
    return np.ascontiguousarray(directions[:, [column for bucket in buckets for column in bucket]], dtype=np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Faiss sums in another order with another number of threads; training on one keeps codes the same everywhere."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
