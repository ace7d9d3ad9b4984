"""Sixteen shops, each from its export to a measured search by `onesearch new` without other arguments.

`BENCHMARKS=all python -m pytest tests/benchmarks/test_shops_benchmark.py -m "" -s` runs all of them and prints the table of
docs/results.md, "Sixteen shops"; without the variable the smallest one runs. `SHOPS=german,tags` names some. A run that was stopped is
continued, as the runs stay in `SHOPS_FOLDER` (default: a folder of the test run).
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from shops.files import write_shop
from shops.grid import OUTDOOR, SHOPS
from shops.shop import ShopSpec, make_products

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.evaluator import evaluate
from onesearch.evaluation.measuring import Bootstrap
from onesearch.files import RunFolder, read_json, write_json
from onesearch.pipeline.baselines import text_baselines
from onesearch.pipeline.new import new_run
from onesearch.serving.searcher import Searcher

pytestmark = pytest.mark.slow

ARMS = ("onesearch", "onesearch_reward", "onesearch_reward_text", "bm25", "dense")
"""Columns of the table after the served order and its lead over BM25."""


ENOUGH = 500
"""Number of searches of a log below which its test split is too small, and known queries are measured instead."""


def chosen() -> tuple[ShopSpec, ...]:
    """The shops that run."""
    names = os.environ.get("SHOPS")
    if names:
        return tuple(shop for shop in SHOPS if shop.name in names.split(","))
    return SHOPS if os.environ.get("BENCHMARKS") == "all" else (OUTDOOR,)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


@pytest.mark.parametrize("shop", chosen(), ids=lambda shop: shop.name)
def test_a_shop_is_served(shop, tmp_path):
    root = Path(os.environ.get("SHOPS_FOLDER", tmp_path)) / shop.name
    files = write_shop(shop, root / "export")
    run = RunFolder(root / "run")
    before, started = cpu_seconds(), time.time()
    new_run(files.products, run, files.log, resume=(run.root / "recipe.yaml").is_file(), progress=False)
    spent = {"cpu_minutes": (cpu_seconds() - before) / 60, "wall_minutes": (time.time() - started) / 60}
    figures = behaviour(run) if shop.searches >= ENOUGH else judged(shop, run)
    write_json(root / "figures.json", {"shop": shop.name, "items": shop.items, **spent, **figures})
    print("\n" + row(read_json(root / "figures.json")))


def behaviour(run: RunFolder) -> dict:
    """HR@10 of clicks and purchases by arm, and the served arm."""
    report = read_json(run.evaluation / "metrics.json")
    found = {}
    for kind in ("click", "purchase"):
        requests = report["targets"][kind]["requests"]
        if not requests:
            continue
        parts = {name: part["targets"][kind] for name, part in report["retrievers"].items()}
        lead = parts["bm25"]["reference_lead"]["item"]
        found[kind] = {"requests": requests, "lead": [lead["HR@10"], lead["MRR@10"]]}
        found[kind] |= {name: [part["item"]["HR@10"], part["item"]["MRR@10"]] for name, part in parts.items()}
    return {"served": report["reference"], "figures": found}


def judged(shop: ShopSpec, run: RunFolder) -> dict:
    """NDCG@10 of known queries: a product's type with its colour, material or brand; every product that fits is a target."""
    products = make_products(shop)
    requests = []
    for number, product in enumerate(products[:: max(1, len(products) // 200)]):
        name = ("colour", "material", "brand")[number % 3]
        query = f"{getattr(product, name)}{product.words.blank}{product.noun}".lower()
        fits = [
            other.item_id for other in products if (other.noun, getattr(other, name)) == (product.noun, getattr(product, name))
        ]
        requests.append(Request(f"q{number}", "", query, clicked=tuple(fits)))
    market, searcher = Market.load(run.market), Searcher.from_pretrained(run.checkpoint)
    served = searcher.arm("served")
    retrievers = [served, searcher.arm("onesearch", rerank=False, candidates="beam"), *text_baselines(run, market)]
    report = evaluate(retrievers, requests, targets=("click",), progress=False)
    bootstrap = Bootstrap(1000, 0)
    arms = {}
    for retriever in retrievers:
        values = report.values[retriever.name]["click"]["item"]
        estimates = bootstrap.estimates({name: values[name] for name in ("NDCG@10", "MRR@10")})
        arms[retriever.name] = [estimates["NDCG@10"], estimates["MRR@10"]]
    return {"served": "served", "figures": {"judged": {"requests": len(requests), **arms}}}


def row(found: dict) -> str:
    """A line of the table for each kind of target."""
    lines = []
    for kind, arms in found["figures"].items():
        shown = [found["served"], "lead", *ARMS]
        cells = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**arms[name][0]) if name in arms else "–" for name in shown]
        minutes = f"{found['cpu_minutes']:.1f}"
        lines.append(
            f"| {found['shop']} | {found['items']:,} | {kind} ({arms['requests']}) | " + " | ".join([*cells, minutes]) + " |"
        )
    return "\n".join(lines)
