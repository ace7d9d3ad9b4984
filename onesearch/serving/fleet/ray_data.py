"""Catalogues and query logs that are larger than one machine, by Ray Data: read parquet, work in actors, write parquet.

Each actor loads the frozen parts once and works on one batch of rows after the other. The result does not depend on the number of actors:
every row is computed by itself, and the rows are sorted before they are written or indexed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.extras import require
from onesearch.files import RunFolder

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

ROWS = 4096
"""Number of items that an actor encodes at a time; our choice."""

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
        """Return ``item_id``, ``codes``, ``popularity`` (0, since a new catalogue has no purchases) and ``categories`` of a batch."""
        from onesearch.data.arrow_tables import conform
        from onesearch.tokenization_sid.sids.appending import encode_table

        coded = encode_table(self.run, self.encoder, conform("items", batch, origin="the items").combine_chunks())
        return pa.table(
            {
                "item_id": pa.array(coded.item_ids, pa.string()),
                "codes": pa.array(coded.codes.tolist(), pa.list_(pa.int32())),
                "popularity": pa.array(coded.popularity, pa.float32()),
                "categories": pa.array(coded.categories, pa.list_(pa.string())),
            }
        )


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

    Args:
        run: run with SIDs, on a disk that every machine reads.
        items: parquet file or folder in the columns of the items table.
        output: folder that receives parquet files, sorted by item id: ``item_id``, ``codes``, ``popularity`` and ``categories``, the
            columns of `onesearch items add` and of `index_of`.
        workers: number of actors. More encode faster and take more memory; the codes stay the same.
        rows: number of items that an actor encodes at a time.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
        ValueError: the codebooks are balanced inside parents.
    """
    _mapped(ItemEncoder, (str(run.root.resolve()),), items, output, "item_id", workers, rows)


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
        output: folder that receives parquet files, sorted by query id: the same columns with ``item_ids`` and ``scores``.
        workers: number of actors.
        top_k: largest number of hits per query.
        rows: number of queries that an actor is given at a time.
        settings: fields of `SearchConfig` that replace those of the checkpoint.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
    """
    arguments = (str(Path(checkpoint).resolve()), top_k, settings)
    _mapped(QuerySearcher, arguments, queries, output, "query_id", workers, rows)


def index_of(run: RunFolder, coded: str | Path) -> SidIndex:
    """Build the item index of an encoded catalogue.

    Items that share a SID stand in the order of their popularity, then of their ids, however the catalogue was divided.

    Args:
        run: run whose codebooks made the codes.
        coded: folder that `encode_catalogue` wrote.
    """
    import numpy as np

    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.tokenization_sid.quantizers.loading import load_quantizer

    table = pq.read_table(coded).sort_by("item_id").combine_chunks()
    quantizer = load_quantizer(run.sids)
    sizes = quantizer.config.codebook_sizes
    codes = np.asarray(table.column("codes").combine_chunks().flatten()).reshape(-1, len(sizes))
    return SidIndex.build(
        table.column("item_id").to_pylist(),
        codes,
        table.column("popularity").to_numpy(),
        sizes,
        quantizer.fingerprint,
        [names or [] for names in table.column("categories").to_pylist()],
    )


def _mapped(
    worker: Callable[..., Any],
    arguments: tuple[Any, ...],
    source: str | Path,
    output: str | Path,
    key: str,
    workers: int,
    rows: int,
) -> None:
    """Read parquet, run actors over batches, sort by a key, write parquet."""
    require("ray", needed_by="a job of many machines")
    import ray.data

    if workers < 1 or rows < 1:
        raise ValueError(f"workers={workers} and rows={rows} must be at least 1")
    source, output = Path(source).resolve(), Path(output).resolve()
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a parquet file or a folder of them")
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds files already; write to a new folder")
    data = ray.data.read_parquet(str(source))
    made = data.map_batches(
        worker,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=rows,
        batch_format="pyarrow",
    )
    made.sort(key).write_parquet(str(output))


__all__ = ["ItemEncoder", "QuerySearcher", "encode_catalogue", "index_of", "search_queries"]
