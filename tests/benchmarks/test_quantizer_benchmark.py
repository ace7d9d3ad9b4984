"""Codes: CPU seconds, reconstruction and collisions of our quantizers beside the authors' k-means (faiss), same vectors, one thread.

`make benchmark` prints the tables and writes quantizers-*.json under `runs/benchmarks/`. Nothing is asserted on time. The errors are mean
squared distances on the vectors that were fitted, ICR is per item. The catalogue of 10⁶ × 384 takes about an hour on one core and 4 GB of
disk: set ONESEARCH_BENCHMARK_LARGE=1.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from onesearch import RQOPQ, RQOPQConfig
from onesearch.files import write_json
from onesearch.tokenization_sid.quantizers.configs import PRQConfig, RQKMeansConfig, RQVAEConfig, SimVQConfig
from onesearch.tokenization_sid.quantizers.learned import RQVAE, SimVQ
from onesearch.tokenization_sid.quantizers.variants import PRQ, RQKMeans

pytestmark = pytest.mark.slow
FOLDER = Path("runs") / "benchmarks"


def clustered(rows: int, dimension: int, seed: int = 0, first: int = 0, out: np.ndarray | None = None) -> np.ndarray:
    """Unit vectors of 64 categories ▸ 1,024 sub-categories drawn by Zipf's law ▸ noise; `first` continues a catalogue."""
    shape = np.random.default_rng(seed)
    categories, parts = shape.standard_normal((64, dimension)), 0.6 * shape.standard_normal((1024, dimension))
    parent = shape.integers(0, 64, 1024)
    weights = 1 / np.arange(1, 1025)
    random = np.random.default_rng([seed, first])
    drawn = random.choice(1024, rows, p=weights / weights.sum())
    vectors = categories[parent[drawn]] + parts[drawn] + 0.35 * random.standard_normal((rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def icr(codes: np.ndarray) -> float:
    _, counts = np.unique(codes, axis=0, return_counts=True)
    return float((counts == 1).sum() / len(codes))


def squared_error(vectors: np.ndarray, decoded: np.ndarray) -> float:
    return float(((vectors - decoded) ** 2).sum(axis=1).mean())


def faiss_baseline(vectors: np.ndarray, config: RQOPQConfig) -> dict:
    """The authors' way: 25 iterations of faiss k-means per level, OPQ with faiss' own rotations, both on one thread."""
    faiss.omp_set_num_threads(1)
    start, residual, codes = time.process_time(), vectors.copy(), []
    for level, size in enumerate(config.residual_sizes):
        clustering = faiss.Kmeans(
            vectors.shape[1], size, niter=25, seed=level, min_points_per_centroid=1, max_points_per_centroid=10_000
        )
        clustering.train(residual)
        codes.append(clustering.index.search(residual, 1)[1][:, 0])
        residual -= clustering.centroids[codes[-1]]
    row = {"way": "faiss k-means, 25 iterations", "rq_seconds": time.process_time() - start}
    row |= {
        "mse_rq": squared_error(residual, 0),
        "icr_rq": icr(np.stack(codes, 1)),
        "largest": int(np.bincount(codes[-1]).max()),
    }
    if config.opq[0]:
        start, (parts, size) = time.process_time(), config.opq
        rotation, quantizer = faiss.OPQMatrix(vectors.shape[1], parts), faiss.ProductQuantizer(vectors.shape[1], parts, 8)
        rotation.pq = quantizer
        rotation.train(residual)
        rotated = rotation.apply(residual)
        quantizer.train(rotated)
        found = quantizer.compute_codes(rotated)
        row |= {"opq_seconds": time.process_time() - start, "mse": squared_error(rotated, quantizer.decode(found))}
        row["icr"] = icr(np.concatenate([np.stack(codes, 1), found.astype(np.int64)], axis=1))
    return row


def ours(vectors: np.ndarray, config, way: str, quantizer=RQOPQ) -> dict:
    start = time.process_time()
    fitted = quantizer.fit(vectors, config)
    seconds = time.process_time() - start
    codes = fitted.encode(vectors)
    last = codes[:, len(config.residual_sizes) - 1]
    row = {"way": way, "seconds": seconds, "encode_seconds": time.process_time() - start - seconds, "icr": icr(codes)}
    row |= {"mse": squared_error(vectors, fitted.decode(codes)), "largest": int(np.bincount(last).max())}
    return row | {"used": [len(np.unique(level)) for level in codes.T]}


def both_halves(vectors: np.ndarray, config: RQOPQConfig, way: str) -> dict:
    """Residual levels alone, then everything: the difference is what the product codes take."""
    levels = ours(vectors, replace(config, opq=(0, 0)), way)
    whole = ours(vectors, config, way)
    return whole | {
        "rq_seconds": levels["seconds"] + levels["encode_seconds"],
        "opq_seconds": whole["seconds"] - levels["seconds"],
        "mse_rq": levels["mse"],
        "icr_rq": levels["icr"],
    }


def report(name: str, title: str, rows: list[dict], **facts) -> None:
    columns = [
        key for key in ("rq_seconds", "opq_seconds", "seconds", "encode_seconds", "mse_rq", "icr_rq", "mse", "icr", "largest")
    ]
    columns = [key for key in columns if any(key in row for row in rows)]
    print(f"\n{title}\n| way | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for row in rows:
        cells = [row.get(key, "") for key in columns]
        shown = [f"{cell:.1f}" if key.endswith("seconds") and cell != "" else f"{cell:.4f}" if isinstance(cell, float) else str(cell)
                 for key, cell in zip(columns, cells)]  # fmt: skip
        print(f"| {row['way']} | {' | '.join(shown)} |")
    write_json(FOLDER / f"quantizers-{name}.json", {"title": title, **facts, "rows": rows})


@pytest.mark.parametrize(
    ("rows", "dimension", "levels"),
    [(20_000, 64, (256, 256, 256)), (100_000, 64, (1024, 1024, 512)), (50_000, 384, (4096, 1024, 512))],
)
def test_beside_faiss(rows, dimension, levels):
    vectors, config = clustered(rows, dimension), RQOPQConfig(levels, (2, 256))
    with threadpool_limits(1):
        table = [faiss_baseline(vectors, config), both_halves(vectors, config, "ours")]
        table.append(both_halves(vectors, replace(config, balanced="level"), "ours, last level balanced as a whole"))
        table.append(both_halves(vectors, replace(config, balanced="none"), "ours, last level free"))
        if rows == 20_000:
            plain = replace(config, normalise_residuals=False)
            table.append(both_halves(vectors, plain, "ours, residuals as they are"))
            table.append(both_halves(vectors, replace(plain, balanced="none"), "ours, residuals as they are, last level free"))
            table.append(both_halves(vectors, replace(config, seed=1), "ours, another seed"))
    bound = int(-(-rows // levels[-1]) * 1.05)
    report(f"{rows}x{dimension}", f"{rows:,} × {dimension}, {levels} + 2 × 256, bound {bound}", table, bound=bound)
    assert table[2]["largest"] <= bound
    assert table[1]["icr_rq"] > max(table[2]["icr_rq"], table[3]["icr_rq"])


def test_variants():
    pytest.importorskip("vector_quantize_pytorch")
    vectors, levels = clustered(20_000, 64), (256, 256, 256)
    learned, sim = RQVAEConfig(levels), SimVQConfig(levels)
    with threadpool_limits(1):
        table = [
            ours(vectors, RQOPQConfig(levels, (0, 0)), "RQ, balanced inside parents"),
            ours(vectors, RQKMeansConfig(levels), "RQ-KMeans", RQKMeans),
            ours(vectors, PRQConfig(levels), "PRQ-KMeans", PRQ),
            ours(vectors, learned, "RQ-VAE", RQVAE),
            ours(vectors, replace(learned, hidden=()), "residual VQ, no layers", RQVAE),
            ours(vectors, sim, "SimVQ", SimVQ),
            ours(vectors, replace(sim, hidden=()), "SimVQ, no layers", SimVQ),
        ]
    report("variants", f"20,000 × 64, {levels}, {learned.steps:,} steps for the learned ones", table)
    assert all(len(row["used"]) == 3 for row in table)


def test_threads_do_not_matter():
    vectors, fingerprints = clustered(20_000, 64), []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fitted = RQOPQ.fit(vectors, RQOPQConfig((256, 256, 256), (2, 256)))
            fingerprints.append((fitted.fingerprint, fitted.encode(vectors).tobytes()))
    assert fingerprints[0] == fingerprints[1]


ENCODE = """
import sys, time, numpy as np
from threadpoolctl import threadpool_limits
from onesearch import RQOPQ, RQOPQConfig
random = np.random.default_rng(0)
vectors = random.standard_normal((1_000, 384), dtype=np.float32)[random.integers(0, 1_000, 60_000)]
vectors += 0.5 * random.standard_normal((60_000, 384), dtype=np.float32)
fitted = RQOPQ.fit(vectors[:30_000], RQOPQConfig((4096, 1024, 512), (2, 256), iterations=3, balanced="none"))
columns = [np.ascontiguousarray(book.T) for book in (*fitted.level_centroids, *fitted.product_codebooks)]

def products(rows=2048):
    for start in range(0, len(vectors), rows):
        for book in columns:
            vectors[start : start + rows] @ book

def best(work):
    walls, cpus = [], []
    for _ in range(4):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return len(vectors) / min(walls), len(vectors) / min(cpus)

with threadpool_limits(int(sys.argv[1])):
    found = best(lambda: fitted.encode(vectors))
with threadpool_limits(1):
    print(*found, best(products)[1])
"""


def test_encoding_speed():
    """Items per second at the paper's codebook sizes, 384 dimensions, in processes of their own: threads are set at the start."""
    rows = []
    for threads in range(1, (os.cpu_count() or 1) + 1):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-c", ENCODE, str(threads)], env=environment, capture_output=True, text=True, check=True
        )
        wall, cpu, bound = map(float, done.stdout.split())
        rows.append({"way": f"{threads} threads", "per_second": wall, "per_cpu_second": cpu, "matrix_products_alone": bound})
        print(
            f"\n{threads} threads: {wall:,.0f} items per second, {cpu:,.0f} per CPU second, matrix products alone {bound:,.0f}"
        )
    write_json(FOLDER / "quantizers-encode.json", {"title": "4096-1024-512 + 2 × 256, 384 dimensions", "rows": rows})
    assert rows


@pytest.mark.skipif("ONESEARCH_BENCHMARK_LARGE" not in os.environ, reason="about an hour: set ONESEARCH_BENCHMARK_LARGE=1")
def test_a_million_vectors_from_disk(tmp_path):
    rows, dimension, step = 1_000_000, 384, 50_000
    vectors = np.memmap(tmp_path / "vectors.bin", dtype=np.float32, mode="w+", shape=(rows, dimension))
    for first in range(0, rows, step):
        vectors[first : first + step] = clustered(step, dimension, first=first)
    vectors.flush()
    config = RQOPQConfig((4096, 1024, 512), (2, 256), points_per_centroid=int(os.environ["ONESEARCH_BENCHMARK_LARGE"]) or 64)
    start = time.process_time(), time.perf_counter()
    fitted = RQOPQ.fit(vectors, config)
    middle = time.process_time(), time.perf_counter()
    codes = fitted.encode(vectors)
    end = time.process_time(), time.perf_counter()
    row = {"fit_cpu": middle[0] - start[0], "fit_wall": middle[1] - start[1], "encode_cpu": end[0] - middle[0]}
    row |= {"encode_wall": end[1] - middle[1], "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    row |= {
        "icr": icr(codes),
        "icr_rq": icr(codes[:, :3]),
        "largest": int(fitted.loads.max()),
        "bound": int(-(-rows // 512) * 1.05),
    }
    print("\n", row)
    write_json(FOLDER / "quantizers-million.json", {"points_per_centroid": config.points_per_centroid, **row})
    assert row["largest"] <= row["bound"] and row["peak_gb"] < 8
