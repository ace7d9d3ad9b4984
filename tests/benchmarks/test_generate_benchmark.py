"""Whole searches: `search_sids` against `generate` with the trie processor and with a dict trie, same model, catalogue and beams."""

from __future__ import annotations

import os

import pytest
import torch
from catalogues import KINDS, WIDTHS, DictTrie, index_of
from harness import Report, alternate, sized
from models import OFFSET, PROMPT, QWEN3_SIZES, bart, decoder_rows, prompts, qwen3

NORMALISATIONS = ("children", "level", "vocabulary")
ITEMS = 100_000
BUDGET = sized(3.0, 12.0)

BART_CASES = sized(
    [("small", "skewed", 1, (10, 50, 128))],
    [
        ("small", "skewed", 1, (10, 50, 128, 512)),
        ("base", "skewed", 1, (10, 50, 128, 512)),
        ("small", "clustered", 1, (50, 512)),
        ("base", "clustered", 1, (50, 512)),
        ("small", "skewed", 8, (10, 50)),
        ("base", "skewed", 8, (10, 50)),
    ],
)
"""Model, catalogue, queries in a batch, beams."""

QWEN3_CASES = sized(
    [("hidden 256, 4 layers", 1, (10, 50))],
    [(size, 1, (10, 50, 128, 512)) for size in QWEN3_SIZES] + [("hidden 256, 4 layers", 8, (10, 50))],
)
ALL_CORES_CASES = sized([("small", 1, (50,))], [("small", 1, (50, 512)), ("small", 8, (50,)), ("base", 1, (50, 512))])


def compare(report, model, codes, prompt_length, queries, beams, clock, **labels):
    """One row: medians of all sides by `clock`, ratios to the search over `children`, which finds what `generate` finds, and the share
    of its SIDs that they find too."""
    inputs = prompts(queries)
    generation = {"num_beams": beams, "num_return_sequences": beams, "length_penalty": 0.0}
    processors, walk = [model.logits_processor(prompt_length)], DictTrie(codes, OFFSET, prompt_length)
    sides = {name: lambda name=name: model.search_sids(**inputs, num_beams=beams, normalize=name) for name in NORMALISATIONS}
    sides["processor"] = lambda: model.generate(**inputs, **generation, logits_processor=processors)
    sides["dict"] = lambda: model.generate(**inputs, **generation, prefix_allowed_tokens_fn=walk)
    timings = alternate(sides, budget=BUDGET)
    seconds = {name: getattr(timing, clock) for name, timing in timings.items()}
    found = timings["children"].result[0]
    same = [share_found(found, timings[name].result[:, prompt_length:]) for name in ("processor", "dict")]
    report.add(
        **labels,
        batch=queries,
        beams=beams,
        **seconds,
        runs="/".join(str(timings[name].runs) for name in ("children", "processor", "dict")),
        processor_ratio=seconds["processor"] / seconds["children"],
        dict_ratio=seconds["dict"] / seconds["children"],
        same=min(same),
        rows=" ".join(map(str, decoder_rows(model, **inputs, num_beams=beams))),
        rows_level=" ".join(map(str, decoder_rows(model, **inputs, num_beams=beams, normalize="level"))),
    )
    assert min(same) > 0.95  # near ties may fall either way


def share_found(codes: torch.Tensor, tokens: torch.Tensor) -> float:
    """Share of the SIDs (queries, beams, levels) that are among the generated tokens (queries * beams, levels)."""
    levels = torch.tensor(WIDTHS)
    generated = (tokens[:, : len(levels)] - (levels.cumsum(0) - levels + OFFSET)).view(codes.shape)
    common = [len({*map(tuple, a)} & {*map(tuple, b)}) for a, b in zip(codes.tolist(), generated.tolist())]
    return sum(common) / codes.shape[:2].numel()


@pytest.mark.slow
def test_encoder_decoder_against_generate():
    with Report("generate", f"Whole search of {ITEMS:,} items, prompt of {PROMPT} tokens, CPU seconds, one thread") as report:
        for size, kind, queries, beams in BART_CASES:
            model, codes = bart(size), KINDS[kind](ITEMS)
            model.set_sid_index(index_of(codes))
            for count in beams:
                compare(report, model, codes, 1, queries, count, "cpu", size=size, catalogue=kind)


@pytest.mark.slow
def test_decoder_only_against_generate():
    with Report("generate_qwen3", f"The same for Qwen3, {ITEMS:,} skewed items, CPU seconds, one thread") as report:
        codes = KINDS["skewed"](ITEMS)
        for size, queries, beams in QWEN3_CASES:
            model = qwen3(size)
            model.set_sid_index(index_of(codes))
            for count in beams:
                compare(report, model, codes, PROMPT, queries, count, "cpu", size=size)


@pytest.mark.slow
def test_all_cores():
    torch.set_num_threads(os.cpu_count())
    with Report("generate_all_cores", f"Encoder-decoder, {ITEMS:,} skewed items, wall seconds, all cores") as report:
        codes = KINDS["skewed"](ITEMS)
        for size, queries, beams in ALL_CORES_CASES:
            model = bart(size)
            model.set_sid_index(index_of(codes))
            for count in beams:
                compare(report, model, codes, 1, queries, count, "wall", size=size)
