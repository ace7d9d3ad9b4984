"""Search through onnxruntime against `model.search`: the same model, catalogue, beams and thread."""

from __future__ import annotations

import pytest
from catalogues import KINDS, index_of
from harness import Report, alternate, sized
from models import PROMPT, bart, prompts

pytest.importorskip("onnxruntime")

ITEMS = sized(20_000, 100_000)
CASES = sized([("small", 1, (10, 50))], [("small", 1, (10, 50, 512)), ("base", 1, (10, 50, 512)), ("small", 8, (50,))])
"""Model, queries in a batch, beams."""


@pytest.mark.slow
@pytest.mark.parametrize(("size", "queries", "beams"), CASES)
def test_graphs_against_torch(size, queries, beams, tmp_path):
    from onesearch.serving.graph_export import export_graphs
    from onesearch.serving.graph_search import GraphSearcher

    about = f"Whole search of {ITEMS:,} items, prompt of {PROMPT} tokens, CPU seconds, one thread"
    with Report(f"graphs_{size}_{queries}", about) as report:
        model, codes = bart(size), KINDS["skewed"](ITEMS)
        model.set_sid_index(index_of(codes))
        searcher = GraphSearcher.from_pretrained(export_graphs(model, tmp_path / "graphs"), threads=1)
        inputs = prompts(queries)
        for count in beams:
            sides = {
                "torch": lambda count=count: model.search(**inputs, num_beams=count),
                "onnxruntime": lambda count=count: searcher.search(**inputs, num_beams=count),
            }
            timings = alternate(sides, budget=sized(1.5, 12.0))
            found = {name: [[hit.item_id for hit in row] for row in timing.result] for name, timing in timings.items()}
            seconds = {name: timing.cpu for name, timing in timings.items()}
            ratio = seconds["onnxruntime"] / seconds["torch"]
            report.add(batch=queries, beams=count, **seconds, ratio=ratio, same=found["torch"] == found["onnxruntime"])
