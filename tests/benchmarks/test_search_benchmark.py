"""CPU time of `search` against `generate` with the trie processor, same model and catalogue, in turn in one process, one thread.

`make benchmark` prints the table and writes search.json beside this file's folder name in `runs/benchmarks/`. Nothing is asserted on time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from onesearch import OneSearchConfig, OneSearchForConditionalGeneration, SidIndex
from onesearch.files import write_json

WIDTHS = [256, 128, 64, 64, 64]
ITEMS, PROMPT, ROUNDS = 100_000, 64, 5


def build_model() -> OneSearchForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 3), ("attention_heads", 4), ("ffn_dim", 1024))
    }
    config = OneSearchConfig(
        vocab_size=60_000, d_model=256, **sizes, sid_widths=WIDTHS, sid_offset=50_000, sid_digest="benchmark"
    )
    model = OneSearchForConditionalGeneration(config).eval()
    skewed = np.random.default_rng(0).random((ITEMS, len(WIDTHS))) ** 2 * WIDTHS
    model.set_sid_index(
        SidIndex([f"item-{row}" for row in range(ITEMS)], skewed.astype(int), np.zeros(ITEMS), WIDTHS, "benchmark")
    )
    return model


def median_cpu_seconds(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Medians of alternating runs after one warm-up each."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 1):
        for run, seconds in zip((first, second), spent):
            start = time.process_time()
            run()
            if turn:
                seconds.append(time.process_time() - start)
    return statistics.median(spent[0]), statistics.median(spent[1])


@pytest.mark.slow
def test_search_against_generate():
    torch.set_num_threads(1)
    model = build_model()
    inputs = {"input_ids": torch.randint(4, 50_000, (1, PROMPT), generator=torch.Generator().manual_seed(1))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    processors = [model.logits_processor()]
    rows = []
    print(f"\n| beams | search, CPU s | generate, CPU s | ratio |\n|---|---|---|---|   ({ITEMS:,} items, d 256, 3 + 3 layers)")
    for beams in (10, 50, 128):
        ours, theirs = median_cpu_seconds(
            lambda beams=beams: model.search_sids(**inputs, num_beams=beams),
            lambda beams=beams: model.generate(
                **inputs, num_beams=beams, num_return_sequences=beams, logits_processor=processors
            ),
        )
        rows.append({"beams": beams, "search": ours, "generate": theirs, "ratio": theirs / ours})
        print(f"| {beams} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} |")
    write_json(Path("runs") / "benchmarks" / "search.json", {"items": ITEMS, "prompt_tokens": PROMPT, "rows": rows})
    assert all(row["search"] > 0 for row in rows)
