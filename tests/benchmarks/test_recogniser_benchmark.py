"""F1 of the recogniser per attribute type on titles of brands that it never saw; `pytest -m slow -s` on this file prints the table.

Three simulated markets of 2,000 items. A recogniser is trained on the items of 80 % of the brands and on the sessions in which they were
clicked; the titles of the other brands are compared with the items' attributes. ONESEARCH_SEEDS=0 measures fewer markets.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from onesearch.data.arrow_tables import as_dataset
from onesearch.data.market import Market
from onesearch.simulator import SimulatorConfig, simulate
from onesearch.tokenization_sid.keywords.configs import RecogniserConfig
from onesearch.tokenization_sid.keywords.keyword_mining import mine_keywords, read_values
from onesearch.tokenization_sid.keywords.keyword_sources import ClickLog
from onesearch.tokenization_sid.keywords.labelling import Labeller
from onesearch.tokenization_sid.keywords.recogniser_evaluation import evaluate_titles
from onesearch.tokenization_sid.keywords.recogniser_training import train_recogniser

pytestmark = pytest.mark.slow
SEEDS = [int(seed) for seed in os.environ.get("ONESEARCH_SEEDS", "0,1,2").split(",")]


def by_brand(market, seed):
    """The market without the items of a fifth of the brands, and the table of those items."""
    items = market.items.with_format("arrow")[:]
    brands = np.array(items.column("brand").to_pylist())
    names = np.unique(brands)
    held_out = np.isin(brands, np.random.default_rng(seed).permutation(names)[: len(names) // 5])
    kept = as_dataset(items.filter(~held_out))
    return Market(kept, market.users, market.sessions, market.relevance, market.info), items.filter(held_out)


def scores(folder, seed):
    market = simulate(SimulatorConfig(items=2000, seed=seed, oracle_requests=0), folder)
    known, unseen = by_brand(market, seed)
    values = read_values(known)
    labeller = Labeller(mine_keywords(known, values=values), values)
    titles, queries = labeller.titles(known), labeller.queries(ClickLog.read(known))
    return evaluate_titles(train_recogniser(titles, queries, RecogniserConfig(seed=seed)), unseen)


def test_values_are_recognised_in_titles_of_unseen_brands(tmp_path):
    found = [scores(tmp_path / str(seed), seed) for seed in SEEDS]
    print(f"\n| type | values in titles | {' | '.join(f'F1, seed {seed}' for seed in SEEDS)} |\n|---|---|{'---|' * len(SEEDS)}")
    for kind in sorted(set().union(*found)):
        of_kind = [part[kind] for part in found]
        print(f"| {kind} | {sum(score.values for score in of_kind)} | {' | '.join(f'{score.f1:.3f}' for score in of_kind)} |")
    assert all(len(part) >= 10 for part in found)
    assert min(score.f1 for part in found for score in part.values()) >= 0.85
