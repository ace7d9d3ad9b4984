"""ONNX graphs: onnxruntime finds the hits of `search`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import LONG_VIEW, random_codes, random_long_view, random_prompts, tiny_causal_model, tiny_model

from onesearch import Searcher
from onesearch.cli import main
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

pytest.importorskip("onnxruntime")

from onesearch.serving.graph_export import export_graphs
from onesearch.serving.graph_search import GraphSearcher

SIZES = (8, 4, 4)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = tiny_model(SIZES, random_codes(60, SIZES), decoder_layers=2, scale_embedding=True)
    model.search_config = SearchConfig(num_beams=20, rank_by="item", items_per_sid=2)
    return model, GraphSearcher.from_pretrained(export_graphs(model, tmp_path_factory.mktemp("graphs") / "graphs"), threads=1)


def ids(hits):
    return [[hit.item_id for hit in row] for row in hits]


@pytest.mark.parametrize(("queries", "beams"), [(1, 20), (3, 7), (5, 1)])
def test_onnxruntime_finds_the_same_ten_hits(exported, queries, beams):
    model, searcher = exported
    input_ids, mask = random_prompts(queries, longest=4 + queries, seed=queries)
    expected, found = (one.search(input_ids, mask, num_beams=beams, top_k=10) for one in (model, searcher))
    assert ids(found) == ids(expected)
    scores = [[hit.score for row in hits for hit in row] for hits in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_the_settings_and_filters_of_the_checkpoint_hold(exported):
    model, searcher = exported
    input_ids, mask = random_prompts(2)
    assert ids(searcher.search(input_ids, mask)) == ids(model.search(input_ids, mask))
    item_filter = searcher.index.filter(["item-3", "item-40", "item-7"])
    own = model.sid_index.filter(["item-3", "item-40", "item-7"])
    assert ids(searcher.search(input_ids, mask, item_filter=item_filter)) == ids(model.search(input_ids, mask, item_filter=own))


QUERY, ITEM, SUMMARY, PLACEHOLDER = 6, 4, 5, 3
VIEWS = {
    **LONG_VIEW,
    "history_places": 6,
    "history_token_id": ITEM,
    "history_vector_size": 5,
    "history_facets": 12,
    "history_ids": 7,
    "history_summaries": [0, 4, 4, 12],
    "history_summary_token_id": SUMMARY,
    "query_vector_size": 5,
    "query_vector_token_id": QUERY,
}


@pytest.fixture(scope="module")
def views_exported(tmp_path_factory):
    """A model whose prompts hold everything beside tokens, with readers as after some training."""
    model = tiny_model(SIZES, random_codes(60, SIZES), decoder_layers=2, max_position_embeddings=64, **VIEWS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for table in (model.model.encoder.history_reader.kinds, model.model.encoder.history_reader.ids):
            table.weight[1:] = torch.randn(table.weight[1:].shape, generator=generator)
    return model, GraphSearcher.from_pretrained(export_graphs(model, tmp_path_factory.mktemp("views") / "graphs"), threads=1)


def views_of_prompts(lengths, seed=0):
    """Prompts with histories of these lengths, a query vector and a long view; a length of None stands for a prompt of tokens alone."""
    random, items = np.random.default_rng(seed), max(length or 0 for length in lengths)
    rows, history = [], np.full((len(lengths), max(items, 1), 3 + 3 + 2), -1)
    history[..., 4:6] = 0
    long_view = random_long_view(len(lengths), SIZES, seed=seed)
    for row, length in enumerate(lengths):
        words = random.integers(7, 40, 4).tolist()
        if length is None:
            rows.append([0, *words, 2])
            long_view[row] = -1
            continue
        rows.append([0, *[PLACEHOLDER] * 3, QUERY, *words, *[SUMMARY] * (2 if length else 0), *[ITEM] * length, 2])
        history[row, :length, :3] = random_codes(length, SIZES, seed=row) if length else 0
        history[row, :length, 3:6] = random.integers(0, [3, 24, 8], (length, 3))
        history[row, :length, 6:] = random.integers(-1, 12, (length, 2))
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    vectors = random.normal(size=(len(lengths), max(items, 1), 5)) * (history[..., :1] >= 0)
    return {
        "input_ids": ids,
        "attention_mask": (ids != 1).long(),
        "history_items": torch.from_numpy(history),
        "history_vectors": torch.from_numpy(vectors.astype(np.float32)),
        "query_vectors": torch.from_numpy(random.normal(size=(len(lengths), 5)).astype(np.float32)),
        "long_view_codes": long_view,
    }


@pytest.mark.parametrize("lengths", [[3], [2, 0, 6, 1], [1, None, 4]], ids=str)
def test_histories_query_vectors_and_long_views_reach_the_graphs(views_exported, lengths):
    model, searcher = views_exported
    inputs = views_of_prompts(lengths, seed=len(lengths))
    expected, found = (one.search(**inputs, num_beams=12, top_k=10) for one in (model, searcher))
    assert ids(found) == ids(expected)
    scores = [[hit.score for row in hits for hit in row] for hits in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    changed = {**inputs, "history_items": inputs["history_items"].clone()}
    changed["history_items"][0, 0, :3] = (changed["history_items"][0, 0, :3] + 1) % torch.tensor(SIZES)
    other = [hit.score for hit in searcher.search(**changed, num_beams=12)[0]]
    assert other != pytest.approx([hit.score for hit in found[0]], abs=1e-5)


def test_a_view_that_is_left_out_is_empty(views_exported, exported):
    model, searcher = views_exported
    tokens = {name: value for name, value in views_of_prompts([None, None]).items() if name in ("input_ids", "attention_mask")}
    assert ids(searcher.search(**tokens, num_beams=12)) == ids(model.search(**tokens, num_beams=12))
    with pytest.raises(ValueError, match="the graphs read no history_items; they read tokens alone"):
        exported[1].search(**tokens, history_items=torch.zeros(2, 1, 7))


def test_the_command_writes_both_formats(shared_run, exported, tmp_path, capsys):
    plain = tmp_path / "plain"
    assert main(["export", str(shared_run.root), str(plain)]) == 2
    assert "--drop-long-view" not in capsys.readouterr().out and not plain.exists()
    assert main(["export", str(shared_run.root), str(plain), "--drop-long-view"]) == 0
    assert "sid_items.json, tokenizer.json" in capsys.readouterr().out
    assert main(["export", str(shared_run.root), str(plain)]) == 2
    assert "exists and is not empty; nothing was changed" in capsys.readouterr().err
    assert main(["export", str(shared_run.root), str(tmp_path / "graphs"), "--format", "onnx"]) == 0
    graphs, searcher = GraphSearcher.from_pretrained(tmp_path / "graphs"), Searcher.from_pretrained(shared_run.checkpoint)
    requests = build_requests(Market.load(shared_run.market), "test")[:4]
    found = graphs.search(**searcher.model_inputs(requests), num_beams=10, top_k=5)
    assert ids(found) == ids(searcher.model.search(**searcher.model_inputs(requests), num_beams=10, top_k=5))


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only encoder-decoders are exported as graphs; export_backbone writes"):
        export_graphs(tiny_causal_model(SIZES, random_codes(5, SIZES)), tmp_path / "graphs")
    with pytest.raises(ValueError, match="no item index"):
        export_graphs(tiny_model(SIZES), tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists() and torch.is_grad_enabled()
