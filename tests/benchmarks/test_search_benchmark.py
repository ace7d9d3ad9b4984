"""What a search costs beside the matrix products that it cannot do without, and how much plain functions, bfloat16 and batches save.

`BENCHMARK_RUN=runs/demo` measures a finished run of the demo from the text of the query to ten hits; without it that table is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from harness import Report, alternate, sized
from matrix_products import products_of, runner_of, without_onednn
from models import PROMPT, bart, decoder_rows, prompts

from onesearch import Searcher, SidIndex
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.decoding_onesearch import BartBeamDecoder

ITEMS = 10**6
CASES = sized((("small", 50), ("small", 512), ("base", 50)), (("small", 50), ("small", 512), ("base", 50), ("base", 512)))
BATCH = 32
BATCHED = ("small", 50)
"""The case that is also searched in a batch."""


@contextmanager
def modules_of(model) -> Iterator[None]:
    """The search by transformers' modules, as it was before the plain functions."""
    model._beam_decoder = BartBeamDecoder
    try:
        yield
    finally:
        del model._beam_decoder


def by_modules(model, **search):
    with modules_of(model):
        return model.search(**search)


def by_torch(search):
    """The same calls, with the products of torch's own library."""

    def run():
        with without_onednn():
            return search()

    return run


def batch_sides(model, many):
    """A batch, and the matrix products that it cannot do without: how much a batch can gain at most."""
    rows = decoder_rows(model, **many)
    return {
        "batch": lambda: model.search(**many),
        "batch_torch": by_torch(lambda: model.search(**many)),
        "batch_products": runner_of(products_of(model, BATCH, PROMPT, rows)),
    }


@pytest.mark.slow
def test_search_over_its_own_products(saved_index):
    index = SidIndex.load(saved_index(ITEMS))
    about = (
        f"Search of {ITEMS:,} clustered items by {PROMPT} tokens, CPU ms, one thread, over its own matrix products in float32"
    )
    with Report("search", about) as report:
        for size, beams in CASES:
            model = bart(size)
            half = deepcopy(model).to(torch.bfloat16)
            for one in (model, half):
                one.set_sid_index(index)
            search = {**prompts(), "num_beams": beams}
            rows = decoder_rows(model, **search)
            many = {**prompts(BATCH), "num_beams": beams}
            sides = alternate(
                {
                    "products": runner_of(products_of(model, 1, PROMPT, rows)),
                    "modules": lambda model=model, search=search: by_modules(model, **search),
                    "search": lambda model=model, search=search: model.search(**search),
                    "torch": by_torch(lambda model=model, search=search: model.search(**search)),
                    "bf16": lambda half=half, search=search: half.search(**search),
                    **(batch_sides(model, many) if (size, beams) == BATCHED else {}),
                },
                rounds=sized(5, 15),
            )
            names = ("products", "modules", "search", "torch", "bf16")
            products, modules, found, by_mkl, bf16 = (1000 * sides[name].cpu for name in names)
            batch, batch_mkl, batch_products = (
                1000 * sides[name].cpu / BATCH if name in sides else float("nan")
                for name in ("batch", "batch_torch", "batch_products")
            )
            report.add(
                model=size,
                beams=beams,
                rows=str(rows),
                products=products,
                modules=modules,
                search=found,
                ratio_before=modules / products,
                ratio=found / products,
                onednn_gain=by_mkl / found,
                bf16_gain=found / bf16,
                batch_gain=found / batch,
                batch_onednn_gain=batch_mkl / batch,
                batch_bound=found / batch_products,
            )
            assert [hit.item_id for hit in sides["search"].result[0]] == [hit.item_id for hit in sides["modules"].result[0]]


def demo_sides(searcher, requests):
    """The functions to time: each goes through all requests."""
    model, beams = searcher.model, searcher.num_beams
    inputs = [searcher.model_inputs([request]) for request in requests]
    rows = [decoder_rows(model, **one, num_beams=beams) for one in inputs]
    runners = [runner_of(products_of(model, 1, one["input_ids"].shape[1], own)) for one, own in zip(inputs, rows)]
    texts, histories = [request.query for request in requests], [request.history for request in requests]
    contexts = [request.context for request in requests]

    def search():
        return [searcher.search(query, *rest, context=own) for query, *rest, own in zip(texts, histories, contexts)]

    def before():
        with modules_of(model):
            return search()

    return {
        "products": lambda: [run() for run in runners],
        "modules": before,
        "search": search,
        "prompt": lambda: [searcher.model_inputs([request]) for request in requests],
        "batch": lambda: searcher.search_batch(texts, histories, contexts=contexts),
    }


@pytest.mark.slow
@pytest.mark.skipif("BENCHMARK_RUN" not in os.environ, reason="needs a finished run of the demo")
def test_the_demo_from_text_to_hits():
    run = RunFolder(Path(os.environ["BENCHMARK_RUN"]))
    requests = build_requests(Market.load(run.market), "test")[: sized(100, 500)]
    with Report(
        "search_demo", "Demo: CPU ms from the text of a query to ten hits, one thread, over its own products"
    ) as report:
        for beams in sized((50,), (50, 100)):
            searcher = Searcher.from_pretrained(run.checkpoint, num_beams=beams, rerank=False)
            sides = alternate(demo_sides(searcher, requests), rounds=sized(7, 15))
            ms = {name: 1000 * timing.cpu / len(requests) for name, timing in sides.items()}
            ratios = {"ratio_before": ms["modules"] / ms["products"], "ratio": ms["search"] / ms["products"]}
            report.add(beams=beams, **ms, **ratios, batch_gain=ms["search"] / ms["batch"])
