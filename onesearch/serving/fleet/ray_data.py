"""Catalogues and query logs that are larger than one machine, by Ray Data: read parquet, work in actors, write parquet.

Each actor loads the frozen parts once and works on one batch of rows after the other. The result does not depend on the number of actors:
a row is computed by itself, or together with the rows of its parent in the order of their ids, and `index_of` sorts the items by id.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.extras import require
from onesearch.files import RunFolder

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

ROWS = 4096
"""Number of items that an actor encodes at a time; our choice."""

GROUPS = 1024
"""Number of groups into which parents are divided to be balanced; our choice. A group must fit into the memory of one actor."""

QUERIES = 256
"""Number of queries that an actor is given at a time; our choice."""


class ItemEncoder:
    """An actor that turns rows of an items table into Semantic IDs.

    Args:
        run: folder of a run with SIDs, on a disk that every machine reads.
    """

    def __init__(self, run: str) -> None:
        from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

        self.run = RunFolder(run)
        self.encoder = SidEncoder.load(self.run)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode a batch, each item by itself.

        Returns:
            ``item_id``, ``codes``, ``popularity`` (0: a new catalogue has no purchases) and ``categories``. If the codebooks are balanced
            inside parents, also the ``vector`` of each item, and ``group``, which is equal for all items of a parent.
        """
        from onesearch.data.arrow_tables import conform
        from onesearch.tokenization_sid.sids.appending import encode_table, is_balanced_inside_parents, parents_of

        items = conform("items", batch, origin="the items").combine_chunks()
        coded, vectors, _ = encode_table(self.run, self.encoder, items)
        columns = {
            "item_id": pa.array(coded.item_ids, pa.string()),
            "codes": _lists(coded.codes, pa.int32()),
            "popularity": pa.array(coded.popularity, pa.float32()),
            "categories": pa.array(coded.categories, pa.list_(pa.string())),
        }
        if is_balanced_inside_parents(self.encoder):
            columns["vector"] = _lists(np.asarray(vectors, dtype=np.float32), pa.float32())
            columns["group"] = pa.array(parents_of(self.encoder, coded.codes) % GROUPS)
        return pa.table(columns)


def balance(group: pa.Table, run: str) -> pa.Table:
    """Make room inside parents: each item of a group of whole parents gets the nearest code that is free there.

    Args:
        group: rows as `ItemEncoder` made them.
        run: folder of the run.
    """
    from onesearch.tokenization_sid.sids.appending import rebalanced

    group = group.combine_chunks()
    codes = rebalanced(_encoder(run), group.column("item_id").to_pylist(), _matrix(group.column("vector")))
    kept = group.select(["item_id", "codes", "popularity", "categories"])
    return kept.set_column(1, "codes", _lists(codes, pa.int32()))


@lru_cache(1)
def _encoder(run: str) -> SidEncoder:
    """The encoder of a run, loaded once per process."""
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

    return SidEncoder.load(RunFolder(run))


class QuerySearcher:
    """An actor that searches for rows of a table of queries.

    Args:
        checkpoint: folder of the checkpoint, on a disk that every machine reads.
        top_k: largest number of hits per query.
        settings: fields of `SearchConfig` that replace those of the checkpoint.
    """

    def __init__(self, checkpoint: str, top_k: int, settings: dict[str, Any]) -> None:
        from onesearch.serving.searcher import Searcher

        self.searcher = Searcher.from_pretrained(checkpoint, **settings)
        self.top_k = top_k

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the columns of a batch with ``item_ids`` and ``scores``, best first."""
        queries = batch.column("query").to_pylist()
        histories = None
        if "history" in batch.column_names:
            histories = [items or [] for items in batch.column("history").to_pylist()]
        hits = self.searcher.search_batch(queries, histories, self.top_k)
        items = pa.array([[hit.item_id for hit in found] for found in hits], pa.list_(pa.string()))
        scores = pa.array([[hit.score for hit in found] for found in hits], pa.list_(pa.float64()))
        return batch.append_column("item_ids", items).append_column("scores", scores)


def encode_catalogue(run: RunFolder, items: str | Path, output: str | Path, workers: int = 2, rows: int = ROWS) -> None:
    """Embed and encode a catalogue with the frozen encoder and codebooks of a run.

    If the codebooks are balanced inside parents, the items of a parent are brought together, put in the order of their ids, and each takes
    the nearest code that has room.

    Args:
        run: run with SIDs, on a disk that every machine reads.
        items: parquet file or folder in the columns of the items table.
        output: folder that receives parquet files with rows in any order: ``item_id``, ``codes``, ``popularity`` and ``categories``, the
            columns of `onesearch items add` and of `index_of`.
        workers: largest number of actors, as far as there are processors. More encode faster and take more memory; the codes stay the same.
        rows: number of items that an actor encodes at a time.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
        FileNotFoundError: there are no items.
        FileExistsError: the output holds files.
    """
    require("ray", needed_by="encode_catalogue")
    import ray.data

    from onesearch.tokenization_sid.sids.appending import is_balanced_inside_parents
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

    source, output = _checked(items, output)
    root = str(run.root.resolve())
    balanced = is_balanced_inside_parents(SidEncoder.load(run))
    first = output.with_name(f"{output.name}.encoded") if balanced else output
    _map_files(source, first, ItemEncoder, (root,), workers, rows)
    if balanced:  # the encoders have given their processors back, and the vectors need not stay in memory
        groups = ray.data.read_parquet(str(first)).groupby("group", num_partitions=4 * workers)
        balanced_items = groups.map_groups(partial(balance, run=root), batch_format="pyarrow")
        balanced_items.write_parquet(str(output))
        shutil.rmtree(first)


def search_queries(
    checkpoint: str | Path,
    queries: str | Path,
    output: str | Path,
    workers: int = 2,
    top_k: int = 10,
    rows: int = QUERIES,
    **settings: Any,
) -> None:
    """Search for all queries of a table.

    Args:
        checkpoint: folder of the checkpoint, on a disk that every machine reads.
        queries: parquet file or folder with the columns ``query_id`` and ``query``, optionally ``history`` (lists of item ids).
        output: folder that receives parquet files with rows in any order: the same columns with ``item_ids`` and ``scores``.
        workers: largest number of actors, as far as there are processors.
        top_k: largest number of hits per query.
        rows: number of queries that an actor is given at a time.
        settings: fields of `SearchConfig` that replace those of the checkpoint.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
    """
    require("ray", needed_by="search_queries")
    source, output = _checked(queries, output)
    arguments = (str(Path(checkpoint).resolve()), top_k, settings)
    _map_files(source, output, QuerySearcher, arguments, workers, rows)


def index_of(run: RunFolder, coded: str | Path) -> SidIndex:
    """Build the item index of an encoded catalogue.

    Items that share a SID stand in the order of their popularity, then of their ids, however the catalogue was divided.

    Args:
        run: run whose codebooks made the codes.
        coded: folder that `encode_catalogue` wrote.
    """
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.tokenization_sid.quantizers.loading import load_quantizer

    table = pq.read_table(coded).sort_by("item_id").combine_chunks()
    quantizer = load_quantizer(run.sids)
    sizes = quantizer.config.codebook_sizes
    codes = _matrix(table.column("codes"))
    return SidIndex.build(
        table.column("item_id").to_pylist(),
        codes,
        table.column("popularity").to_numpy(),
        sizes,
        quantizer.fingerprint,
        [names or [] for names in table.column("categories").to_pylist()],
    )


class _Folders(NamedTuple):
    """Where a job reads and writes, as absolute paths."""

    source: Path
    output: Path


def _checked(source: str | Path, output: str | Path) -> _Folders:
    """The folders of a job; an error if there is nothing to read, or if the output holds files."""
    source, output = Path(source).resolve(), Path(output).resolve()
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a parquet file or a folder of them")
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds files already; write to a new folder")
    return _Folders(source, output)


def _map_files(
    source: Path, output: Path, worker: Callable[..., Any], arguments: tuple[Any, ...], workers: int, rows: int
) -> None:
    """Read parquet, run actors over batches of rows, write parquet."""
    import ray.data

    if workers < 1 or rows < 1:
        raise ValueError(f"workers={workers} and rows={rows} must be at least 1")
    made = ray.data.read_parquet(str(source)).map_batches(
        worker,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),  # the tasks that read need a processor, too
        batch_size=rows,
        batch_format="pyarrow",
    )
    made.write_parquet(str(output))


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Rows of a matrix as an Arrow column of lists."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel(), kind))


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """An Arrow column of lists of one length as a matrix."""
    return np.asarray(column.combine_chunks().flatten()).reshape(len(column), -1)


__all__ = ["ItemEncoder", "QuerySearcher", "balance", "encode_catalogue", "index_of", "search_queries"]
