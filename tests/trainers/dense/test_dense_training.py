"""The dense term of a run: from its checkpoint to the search settings."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from onesearch.cli import main
from onesearch.data.market import Market
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.auto_search import served_arms
from onesearch.serving.dense_index import DenseIndex
from onesearch.serving.searcher import Searcher
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.dense.training import DEFAULT_WEIGHT, WEIGHTS, collect_examples, train_dense_run


@pytest.fixture(scope="module")
def run(shared_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "run"
    shutil.copytree(shared_run.root, folder)
    return RunFolder(folder)


def test_a_checkpoint_gets_a_dense_term_and_serves_it(run):
    search = train_dense_run(run, DenseConfig(searches=60, epochs=2))
    assert search.dense_weight in WEIGHTS
    searcher = Searcher.from_pretrained(run.checkpoint)
    assert searcher.config == search and searcher.dense is not None
    if search.dense_weight:
        assert search.candidates == "beam+dense"
        assert "onesearch_dense" in [arm.name for arm in served_arms(searcher)]
    assert searcher.search("red shoe")


def test_examples_are_requests_with_their_items_and_beams(run, market, shared_searcher):
    dense = DenseIndex.of_run(run)
    examples = collect_examples(shared_searcher, dense, market, DenseConfig(searches=20, negatives=5))
    assert len(examples) == 20 and examples.negatives.shape == (20, 5)
    assert (examples.negatives != examples.targets[:, None]).all()
    assert examples.states.shape == (20, shared_searcher.model.config.d_model) and np.isfinite(examples.states).all()


def test_a_catalogue_without_searches_learns_from_made_queries(run, market, shared_searcher):
    pytest.importorskip("bm25s")
    bare = Market.from_rows(items=list(market.items))
    dense = DenseIndex.of_run(run)
    examples = collect_examples(shared_searcher, dense, bare, DenseConfig(searches=30, negatives=0))
    assert 25 <= len(examples) <= 30 and examples.negatives.shape[1] == 0
    assert DEFAULT_WEIGHT in WEIGHTS


def test_the_command_reads_its_part_of_a_recipe(run, tmp_path, capsys):
    recipe = tmp_path / "dense.yaml"
    recipe.write_text("name: dense\ndense: {searches: 30, epochs: 0, recall: false}\n", encoding="utf-8")
    SearchConfig(num_beams=20, dense_weight=4.0).save_pretrained(run.checkpoint)
    assert main(["dense", str(run.root), "--recipe", str(recipe)]) == 0
    assert capsys.readouterr().out == "searches rank by log p + 4 cos now, candidates: beam\n"  # the weight that was set stays
    assert Searcher.from_pretrained(run.checkpoint).dense.projection is None
