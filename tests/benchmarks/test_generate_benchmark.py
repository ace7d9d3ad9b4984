"""Whole searches: `search_sids` against `generate` with the trie processor and with a dict trie, same model, catalogue and beams."""

from __future__ import annotations

import os

import pytest
import torch
from catalogues import CODEBOOK_SIZES, KINDS, DictTrie, index_of
from harness import Report, alternate, sized
from models import OFFSET, PROMPT, bart, decoder_rows, prompts, qwen3

NORMALISATIONS = ("children", "level", "vocabulary")
ITEMS = 100_000
BUDGET = sized(1.5, 12.0)

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
    [("256x4", 1, (50,))],
    [("256x4", 1, (10, 50, 128, 512)), ("1024x4", 1, (10, 50, 128, 512)), ("256x4", 8, (10, 50))],
)
ALL_CORES_CASES = sized([("small", 1, (50,))], [("small", 1, (50, 512)), ("base", 1, (50, 512))])


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
    levels = torch.tensor(CODEBOOK_SIZES)
    generated = (tokens[:, : len(levels)] - (levels.cumsum(0) - levels + OFFSET)).view(codes.shape)
    common = [len({*map(tuple, a)} & {*map(tuple, b)}) for a, b in zip(codes.tolist(), generated.tolist())]
    return sum(common) / codes.shape[:2].numel()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind", "queries", "beams"), BART_CASES)
def test_encoder_decoder_against_generate(size, kind, queries, beams):
    about = f"Whole search of {ITEMS:,} {kind} items, prompt of {PROMPT} tokens, CPU seconds, one thread"
    with Report(f"generate_{size}_{kind}_{queries}", about) as report:
        model, codes = bart(size), KINDS[kind](ITEMS)
        model.set_sid_index(index_of(codes))
        for count in beams:
            compare(report, model, codes, 1, queries, count, "cpu", size=size)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "queries", "beams"), QWEN3_CASES)
def test_decoder_only_against_generate(size, queries, beams):
    about = f"Whole search with Qwen3, {ITEMS:,} skewed items, prompt of {PROMPT} tokens, CPU seconds, one thread"
    with Report(f"generate_qwen3_{size}_{queries}", about) as report:
        model, codes = qwen3(size), KINDS["skewed"](ITEMS)
        model.set_sid_index(index_of(codes))
        for count in beams:
            compare(report, model, codes, PROMPT, queries, count, "cpu", size=size)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "queries", "beams"), ALL_CORES_CASES)
def test_all_cores(size, queries, beams):
    torch.set_num_threads(os.cpu_count())
    about = f"Whole search of {ITEMS:,} skewed items, wall seconds, all cores"
    with Report(f"generate_{size}_all_cores_{queries}", about) as report:
        model, codes = bart(size), KINDS["skewed"](ITEMS)
        model.set_sid_index(index_of(codes))
        for count in beams:
            compare(report, model, codes, 1, queries, count, "wall", size=size)
