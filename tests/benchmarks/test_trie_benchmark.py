"""The trie and the choice of beams alone: the logits are given, no model runs."""

from __future__ import annotations

import pytest
import torch
from catalogues import CODEBOOK_SIZES, KINDS
from harness import Report, alternate, sized

from onesearch import SidTrie
from onesearch.modeling_onesearch.generation_onesearch import beam_search
from onesearch.modeling_onesearch.kernels_onesearch import AVAILABLE

SIZES = sized([10**4, 10**6], [10**4, 10**6, 10**7])
QUERIES_AND_BEAMS = [(1, 512), (1, 50), (16, 50)]
LEVELS = range(len(CODEBOOK_SIZES))
NORMALISATIONS = ("children", "level")
ENGINES = {"compiled": True, "torch": False} if AVAILABLE else {"torch": False}


def given_logits(queries, beams, normalize):
    """A step function that returns the same random logits every time."""
    random = torch.Generator().manual_seed(0)
    rows = [queries * (beams if level else 1) for level in LEVELS]
    logits = [2 * torch.randn(count, size, generator=random) for count, size in zip(rows, CODEBOOK_SIZES)]
    totals = [table.logsumexp(-1) for table in logits]

    def step(codes, parents, level):
        count = queries if codes is None else codes.numel()
        return logits[level][:count], totals[level][:count] if normalize == "level" else None

    return step


def logits_of_prefixes(queries, beams, normalize):
    """The same, but a prefix has the same logits wherever it stands among the beams, so that the order of equals does not matter."""
    given = [
        given_logits(queries, beams, normalize)(torch.zeros(queries, beams) if level else None, None, level)[0]
        for level in LEVELS
    ]
    prefix = None

    def step(codes, parents, level):
        nonlocal prefix
        prefix = torch.arange(queries) if codes is None else prefix[parents] * 4099 + codes.flatten()
        logits = given[level][prefix % len(given[level])]
        return logits, logits.logsumexp(-1) if normalize == "level" else None

    return step


@pytest.mark.slow
def test_trie_and_beams_alone():
    with Report("trie", "All levels of a beam search, logits given, CPU milliseconds, one thread") as report:
        for kind in sized(["clustered"], list(KINDS)):
            for items in SIZES:
                trie = SidTrie.build(KINDS[kind](items), CODEBOOK_SIZES)
                for queries, beams in QUERIES_AND_BEAMS:
                    measure(report, trie, queries, beams, kind=kind, items=items)


def measure(report, trie, queries, beams, **labels):
    """One row: both engines, scores renormalised over the children (beams finish early) and over the level (they do not)."""
    sides = {}
    for normalize in NORMALISATIONS:
        step = given_logits(queries, beams, normalize)
        for engine, compiled in ENGINES.items():
            sides[f"{engine}, {normalize}"] = lambda step=step, finish_early=normalize == "children", compiled=compiled: (
                beam_search(step, trie, queries, beams, finish_early, compiled)
            )
    timings = alternate(sides, rounds=15)
    report.add(**labels, queries=queries, beams=beams, **{name: 1000 * timing.cpu for name, timing in timings.items()})
    for normalize in NORMALISATIONS:
        found = [
            beam_search(logits_of_prefixes(queries, beams, normalize), trie, queries, beams, normalize == "children", compiled)
            for compiled in ENGINES.values()
        ]
        torch.testing.assert_close(found[0].scores, found[-1].scores, atol=1e-4, rtol=1e-4)
