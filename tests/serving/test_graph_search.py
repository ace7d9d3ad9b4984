"""ONNX graphs: onnxruntime finds the hits of `search`."""

from __future__ import annotations

import pytest
import torch
from tiny import LONG_VIEW, random_codes, random_prompts, tiny_causal_model, tiny_model

from onesearch.cli import main
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


def test_the_command_writes_both_formats(shared_run, exported, tmp_path, capsys):
    plain = tmp_path / "plain"
    assert main(["export", str(shared_run.root), str(plain)]) == 2
    assert "--drop-long-view" not in capsys.readouterr().out and not plain.exists()
    assert main(["export", str(shared_run.root), str(plain), "--drop-long-view"]) == 0
    assert "sid_items.json, tokenizer.json" in capsys.readouterr().out
    assert main(["export", str(shared_run.root), str(plain)]) == 2
    assert "exists and is not empty; nothing was changed" in capsys.readouterr().err
    assert main(["export", str(shared_run.root), str(tmp_path / "graphs"), "--format", "onnx"]) == 2
    assert "has a long view" in capsys.readouterr().err and not (tmp_path / "graphs").exists()


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only encoder-decoders are exported as graphs; export_backbone writes"):
        export_graphs(tiny_causal_model(SIZES, random_codes(5, SIZES)), tmp_path / "graphs")
    with pytest.raises(ValueError, match=r"long view \(long_view_tokens=3\), which the graphs do not read"):
        export_graphs(tiny_model(SIZES, random_codes(5, SIZES), **LONG_VIEW), tmp_path / "graphs")
    with pytest.raises(ValueError, match="no item index"):
        export_graphs(tiny_model(SIZES), tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists() and torch.is_grad_enabled()
