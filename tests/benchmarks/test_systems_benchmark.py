"""OneSearch and UniSearch at one size, as in the study `unisearch-onesearch`: the CPU time of a training example, of a search and of
encoding the catalogue again."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness import Report, alternate, sized

import onesearch.trainers
from onesearch import Searcher, SidIndex
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder
from onesearch.pipeline.run import make_parts
from onesearch.pipeline.study import load_study, recipe_of
from onesearch.serving.item_encoding import FrozenItemEncoder, is_unisearch
from onesearch.tokenization_sid.sids.appending import encode_table
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.trainers.unisearch.building import index_maker

STUDY = Path(onesearch.trainers.__file__).parent / "recipes" / "studies" / "unisearch-onesearch.yaml"
STEPS = sized((40, 120), (100, 708))
"""Two lengths of training, whose difference leaves out what a training costs before its first step."""


def trained(study, variant, steps, folder):
    """A run with `steps` steps, and the CPU seconds of its training."""
    recipe = recipe_of(study, variant, 0)
    arguments = {**recipe.training.arguments, "max_steps": steps}
    reward = replace(recipe.reward, epochs=1, warm_up=0.9, searches=200, text_index=False)
    recipe = replace(recipe, training=replace(recipe.training, arguments=arguments), reward=reward)
    run = RunFolder(folder)
    make_parts(recipe, run, False, False, last="embeddings" if recipe.training.unisearch is not None else "SIDs")
    start = time.process_time()
    make_parts(recipe, run, True, False, last="checkpoint")
    seconds = time.process_time() - start
    make_parts(recipe, run, True, False)
    return run, seconds


def reindex(run):
    """Encodes the whole catalogue with the frozen parts of a run and builds its item index."""
    market = Market.load(run.market)
    if is_unisearch(run.checkpoint):
        encoder = FrozenItemEncoder.load(run.checkpoint)
        make = index_maker(market, encoder.codebook_sizes)
        return lambda: make(encoder.encode(market).codes, encoder.fingerprint)
    sid_encoder, items = SidEncoder.load(run), pq.read_table(run.market / "items.parquet")
    make = index_maker(market, sid_encoder.quantizer.config.codebook_sizes)
    return lambda: make(encode_table(run, sid_encoder, items).coded.codes, sid_encoder.quantizer.fingerprint)


@pytest.mark.slow
def test_cost_of_both_systems(tmp_path):
    study = load_study(STUDY)
    runs: dict[str, RunFolder] = {}
    with Report("systems", "CPU time of both systems on a market of 300 items, one thread") as report:
        for variant in study.variants:
            short, long = (trained(study, variant, steps, tmp_path / f"{variant}-{steps}") for steps in STEPS)
            runs[variant] = long[0]
            batch = recipe_of(study, variant, 0).training.arguments["per_device_train_batch_size"]
            rate = (STEPS[1] - STEPS[0]) * batch / (long[1] - short[1])
            searcher = Searcher.from_pretrained(long[0].checkpoint)
            weights = sum(weight.numel() for weight in searcher.model.parameters())
            report.add(system=variant, weights=weights, **{"training examples per CPU second": rate})
        requests = build_requests(Market.load(next(iter(runs.values())).market), "test")[: sized(100, 500)]
        sides = {}
        for variant, run in runs.items():
            for arm, rerank in (("generator", False), ("reward model", True)):
                searcher = Searcher.from_pretrained(run.checkpoint, rerank=rerank)
                sides[f"{variant}, {arm}"] = lambda searcher=searcher: [searcher.retrieve([one], 10) for one in requests]
        for name, timing in alternate(sides).items():
            report.add(system=name, **{"ms per search": 1000 * timing.cpu / len(requests)})
        for name, timing in alternate({variant: reindex(run) for variant, run in runs.items()}).items():
            assert isinstance(timing.result, SidIndex)
            report.add(system=name, items=len(timing.result), **{"ms to encode and index the catalogue": 1000 * timing.cpu})
