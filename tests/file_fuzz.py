"""Run by test_damaged_files in a process of its own: files of a run and of a checkpoint after a change of their bytes.

Reading raises a ValueError that names the file, or gives the same as before. Half of the changes meet the header of a safetensors file or
the footer of a parquet file, which say how the rest is read. Prints the counts of each kind of file as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from index_fuzz import changed, replace

from onesearch.data.market import Market
from onesearch.data.schema import TABLES
from onesearch.files import RunFolder
from onesearch.tokenization_sid.embedding.bands import CategoryBands
from onesearch.tokenization_sid.embedding.embeddings import FORMAT, embedding_rows, load_embeddings
from onesearch.tokenization_sid.keywords.keyword_files import KEYWORDS_NAME, load_keywords, save_keywords
from onesearch.tokenization_sid.keywords.keywords import CoreKeywords, Keyword
from onesearch.tokenization_sid.keywords.price_bands import PriceBands
from onesearch.tokenization_sid.quantizers.configs import PRQConfig, RQOPQConfig
from onesearch.tokenization_sid.quantizers.loading import fit_quantizer, load_quantizer
from onesearch.tokenization_sid.sids.appended_files import load_appended, save_appended
from onesearch.tokenization_sid.sids.code_files import Reference, StoredCodes, codes_path, load_codes
from onesearch.tokenization_sid.sids.item_codes import ItemCodes
from onesearch.tokenization_sid.tensor_files import write_tensors
from onesearch.views.default_histories import DefaultHistories

SIZES = (16, 8, 8)


class Kind(NamedTuple):
    """A kind of file.

    Args:
        path: the file.
        read: reads it; the result compares by `==`.
    """

    path: Path
    read: Callable[[], Any]


def codebooks(folder):
    """Codebooks, and the codes of vectors."""
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    configs = {"rq-opq": RQOPQConfig(residual_sizes=(16, 8), opq=(2, 8)), "prq": PRQConfig(residual_sizes=(16, 8))}
    for name, config in configs.items():
        path = fit_quantizer(vectors, config).save_pretrained(folder / name)

        def read(path=path):
            quantizer = load_quantizer(path.parent)
            return quantizer.kind, quantizer.config, quantizer.fingerprint, quantizer.encode(vectors).tolist()

        yield f"codebooks {name}", Kind(path, read)


def stored(run):
    """Codes of items and queries, embeddings, and appended items."""
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size, 60) for size in SIZES], axis=1)
    for kind in ("items", "queries"):
        path = codes_path(run.sids, kind)
        reference = Reference(random.normal(size=(16, 4)).astype(np.float32), np.arange(101, dtype=np.float32))
        StoredCodes(codes, random.random(60) < 0.9, SIZES, "f" * 64, reference if kind == "items" else None).save(path)

        def read(path=path):
            found = StoredCodes.load(path)
            parts = () if found.reference is None else tuple(part.tobytes() for part in found.reference)
            return found.codes.tobytes(), found.known.tolist(), found.codebook_sizes, found.fingerprint, parts

        yield f"{kind} codes", Kind(path, read)
        shard = run.embeddings / f"{kind}-00000.safetensors"
        write_tensors(shard, {"embeddings": random.normal(size=(60, 8)).astype(np.float32)}, {"format": FORMAT})
        yield f"{kind} embeddings", Kind(shard, lambda kind=kind: load_embeddings(run, kind).tobytes())
        yield f"{kind} embeddings by rows", Kind(shard, lambda kind=kind: embedding_rows(run, kind)[5:50].tobytes())
    table = pa.table({"item_id": [f"new-{row}" for row in range(20)], "title": [f"red shoe {row}" for row in range(20)]})
    items = ItemCodes(table["item_id"].to_pylist(), codes[:20], np.zeros(20), SIZES, "f" * 64, [["shoes", "boots"]] * 20)
    path = save_appended(run, table, items)

    def read_appended():
        found = load_appended(run)
        return found.table.to_pylist(), found.codes.tolist(), load_codes(run, "items").fingerprint

    yield "appended items", Kind(path, read_appended)


def views(folder):
    """Keywords and default histories."""
    path = folder / KEYWORDS_NAME
    words = [Keyword(f"word {row}", "color", row) for row in range(30)]
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    edges = {(): np.array([10.0, 20.0]), ("shoes",): np.array([30.5, 99.9])}
    save_keywords(path, CoreKeywords(words, vectors, core=3, bands=PriceBands(bands=CategoryBands(edges))), "f" * 64)

    def read():
        found = load_keywords(path, "f" * 64)
        return {**vars(found), "embeddings": found.embeddings.tobytes(), "bands": found.bands.to_dict()}

    yield "keywords", Kind(path, read)
    items = [f"item-{row}" for row in range(40)]
    histories = DefaultHistories(
        {f"query {row}": items[row : row + 10] for row in range(30)},
        {(1, 2): items[:3], (1,): items[:9]},
        {1: items[4:9]},
        items,
    )
    place = folder / "default_histories.parquet"
    histories.save(place)
    yield "default histories", Kind(place, lambda: DefaultHistories.load(place))


def market(folder):
    """Every table of a market."""
    items = [
        {"item_id": f"item-{row}", "title": f"red shoe {row}", "categories": ["shoes", f"kind {row % 3}"]} for row in range(40)
    ]
    sessions = [
        {"session_id": f"s{row}", "user_id": f"u{row % 7}", "time": row, "query": f"shoe {row % 9}", "clicked": [f"item-{row}"]}
        for row in range(40)
    ]
    relevance = [{"query": "shoe 1", "item_id": f"item-{row}", "grade": row % 4} for row in range(20)]
    users = [{"user_id": f"u{row}", "gender": "f", "age_bucket": "25-34"} for row in range(7)]
    Market.from_rows(items=items, users=users, sessions=sessions, relevance=relevance).save(folder)

    def read():
        found = Market.load(folder)
        return [list(getattr(found, name)) for name in TABLES]

    for name in TABLES:
        yield name, Kind(folder / f"{name}.parquet", read)


def frame(content):
    """Place and length of the part that says how the rest is read: header of a safetensors file, seal and footer of a parquet file."""
    if content[-4:] == b"PAR1":
        length = int.from_bytes(content[-8:-4], "little") + 40
        return len(content) - length, length
    return 0, 8 + int.from_bytes(content[:8], "little")


def damaged(content, random):
    """Content after one change, anywhere or in its frame."""
    if random.random() < 0.5:
        return changed(content, random)
    start, length = frame(content)
    return content[:start] + changed(content[start : start + length], random) + content[start + length :]


def fuzz(kind, count, random):
    """Read a file after each of `count` changes."""
    whole, expected, counts = kind.path.read_bytes(), kind.read(), Counter()
    for turn in range(count):
        replace(kind.path, damaged(whole, random))
        try:
            found = kind.read()
        except ValueError as error:
            counts["refused" if kind.path.name in str(error) else f"refused without a name: {error}"] += 1
        else:
            counts["same" if found == expected else f"another result in turn {turn}"] += 1
    replace(kind.path, whole)
    assert kind.read() == expected
    return counts


if __name__ == "__main__":
    amount, seed = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as place:
        run = RunFolder(place)
        for part in (run.sids, run.embeddings):
            part.mkdir()
        kinds = [*codebooks(Path(place)), *stored(run), *views(Path(place)), *market(run.market)]
        print(
            json.dumps({name: fuzz(kind, amount, np.random.default_rng([seed, row])) for row, (name, kind) in enumerate(kinds)})
        )
