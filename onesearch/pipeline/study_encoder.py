"""Cells of a study that measures the text encoder alone: no model is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder, write_json

from .recipe import Recipe
from .run import make_parts
from .run_lock import writing
from .study_summary import VALUES_NAME


def measure_encoder(recipe: Recipe, run: RunFolder, metrics: Sequence[str], progress: bool = False) -> None:
    """Make the embeddings and SIDs of a cell and write the encoder's recall of each request.

    The recall@K of a request is the share of its purchased items among the K items of the whole catalogue that are nearest to its query
    by the vectors in ``embeddings/``, before core keywords are fused in.

    Args:
        recipe: settings of the cell; the requests are those of its `evaluation.split` with a purchase.
        run: folder of the cell, which was claimed for the recipe.
        metrics: ``recall@K`` with any K.
        progress: show progress bars.

    Raises:
        BlockingIOError: another command is writing into the folder.
    """
    from onesearch.tokenization_sid.embedding.alignment_measures import target_ranks
    from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings

    with writing(run, "onesearch study"):
        make_parts(recipe, run, True, progress, last="SIDs")
        market = Market.load(run.market)
        asked = {query: row for row, query in enumerate(distinct_queries(market))}
        items = {item_id: row for row, item_id in enumerate(market.items.data.column("item_id").to_pylist())}
        requests = [request for request in build_requests(market, recipe.evaluation.split) if request.purchased]
        targets = [(asked[request.query], items[item]) for request in requests for item in request.purchased]
        queries, bought = np.array(targets, dtype=np.int64).reshape(-1, 2).T
        ranks = target_ranks(queries, bought, load_embeddings(run, "queries"), load_embeddings(run, "items"))
        of_request = np.split(ranks, np.cumsum([len(request.purchased) for request in requests])[:-1])
        values: dict[str, list[float]] = {}
        for metric in metrics:
            cutoff = int(metric.partition("@")[2])
            values[metric] = [float((part < cutoff).mean()) for part in of_request]
        run.evaluation.mkdir(exist_ok=True)
        cold = [not request.history for request in requests]
        write_json(run.evaluation / VALUES_NAME, {"served": "encoder", "orders": {"encoder": values}, "cold": cold})


__all__ = ["measure_encoder"]
