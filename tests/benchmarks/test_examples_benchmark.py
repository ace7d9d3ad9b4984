"""How fast rows of tables become training examples: the whole prompt of the paper, every task, tokenised."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Report, alternate, sized

from onesearch import PromptLayout, SidIndex, SidTokenizer
from onesearch.data.text import item_texts
from onesearch.simulator import SimulatorConfig, simulate
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.configs import ExampleConfig
from onesearch.trainers.sft.data.examples import ExampleBuilder
from onesearch.views.session_views import SessionViews

CODEBOOK_SIZES = (256, 128, 64, 64, 64)
SESSIONS = sized(20_000, 200_000)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    config = SimulatorConfig(items=2000, sessions=SESSIONS, oracle_requests=0, judged_queries=1)
    return simulate(config, tmp_path_factory.mktemp("market") / "market")


@pytest.mark.slow
def test_making_examples(market):
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size, len(market.items)) for size in CODEBOOK_SIZES], axis=1)
    index = SidIndex.build(market.items["item_id"], codes, np.zeros(len(codes)), CODEBOOK_SIZES, "benchmark")
    queries = sorted(set(market.sessions["query"]))
    sids = np.stack([random.integers(0, size, len(queries)) for size in CODEBOOK_SIZES], axis=1)
    with Report("examples", f"Training examples of {SESSIONS:,} sessions, per CPU second, one thread") as report:
        for name, layout in {"query and items": PLAIN_LAYOUT, "all views": PromptLayout()}.items():
            tokenizer = SidTokenizer.train(item_texts(market), CODEBOOK_SIZES, 4000, prompt=layout)
            views = SessionViews(market, index, layout, queries, sids)
            builder = ExampleBuilder(views, tokenizer, ExampleConfig())
            views.frozen_defaults()  # the logs are read once, whatever is made of them
            for task in ("purchases", "clicks", "item-text-to-sid", "query-sid-to-item-sid"):
                timing = alternate({task: lambda task=task, builder=builder: _tokens(builder, task)}, rounds=3)[task]
                examples, tokens = timing.result
                speed = {"examples/s": examples / timing.cpu, "tokens/s": tokens / timing.cpu}
                report.add(prompt=name, task=task, examples=examples, **speed)


def _tokens(builder, task):
    examples = tokens = 0
    for chunk in builder.chunks(task, "train"):
        examples += len(chunk)
        tokens += int(np.sum(chunk.column("length").to_numpy()))
    return examples, tokens
