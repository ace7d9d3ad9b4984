"""The compiled beam step: its parts against numpy, the same functions as plain Python, and a machine without numba."""

from __future__ import annotations

import heapq
import importlib.util
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PrefixLogits, any_catalogues, found_sids, tries
from tiny import random_codes, random_prompts, tiny_model

from onesearch.modeling_onesearch import kernels_onesearch as kernels
from onesearch.modeling_onesearch.generation_onesearch import beam_search
from onesearch.modeling_onesearch.kernel_arrays_onesearch import BeamArrays, Buffers, LevelTables, Marks

needs_numba = pytest.mark.skipif(not kernels.AVAILABLE, reason="numba is not installed")


@pytest.fixture(scope="module")
def plain():
    """The module as a machine without numba reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)  # `import numba` raises ImportError
        spec = importlib.util.spec_from_file_location("onesearch.modeling_onesearch.plain_kernels", kernels.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    assert not module.AVAILABLE and not hasattr(module, "njit")
    return module


@pytest.fixture(params=["plain", pytest.param("compiled", marks=needs_numba)])
def module(request, plain):
    return kernels if request.param == "compiled" else plain


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60), st.integers(1, 20))
def test_the_heap_holds_the_best_scores_and_where_they_are(plain, scores, beams):
    for module in (plain, kernels):
        heap, entries = np.empty(beams, np.float32), np.empty(beams, np.int64)
        owner, size, oracle = {}, 0, []
        for number, score in enumerate(scores):
            entry = module._push(heap, entries, size, np.float32(score))
            is_full = len(oracle) == beams
            if is_full and score <= oracle[0][0]:
                assert entry == -1
                continue
            (heapq.heapreplace if is_full else heapq.heappush)(oracle, (score, number))
            owner[entry] = score
            size = min(size + 1, beams)
            assert heap[0] == oracle[0][0] and sorted(entries[:size].tolist()) == list(range(size))
            assert [owner[one] for one in entries[:size].tolist()] == heap[:size].tolist()
        assert sorted(heap[:size].tolist()) == sorted(score for score, _ in oracle)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 80.0, 1e4])
def test_the_log_sum_is_exact_to_single_precision(module, scale):
    random = np.random.default_rng(1)
    logits = (random.normal(0, 1, (3, 700)) * scale).astype(np.float32)
    for count in (1, 2, 700):
        children = np.zeros((3, 1400), np.int64)
        children[0, :count] = random.permutation(700)[:count]
        scales = np.empty(700, np.int32)
        values, powers = np.empty(700, np.float32), np.empty(700, np.float32)
        places = np.full(700, -1)
        buffers = Buffers(children, places, values, powers, scales, scales.view(np.float32))
        total = module._log_total(logits, 1, count, buffers)
        own = logits[1, children[0, :count]]
        assert np.array_equal(values[:count], own)
        expected = np.logaddexp.reduce(own.astype(np.float64))
        assert total == pytest.approx(expected, abs=2e-6 * max(1, abs(expected)))


@settings(max_examples=25)
@given(tries(any_catalogues), st.integers(1, 3), st.integers(1, 12), st.booleans(), st.sampled_from([None, 0.5]))
def test_the_kernel_as_plain_python_is_exhaustive_search(plain, case, queries, count, finish_early, totals):
    trie, names, codebook_sizes = case
    model = PrefixLogits(codebook_sizes, queries, 5, totals)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "advance", plain.advance)
        patch.setattr(kernels, "AVAILABLE", True)
        beams = beam_search(model, trie, queries, count, finish_early and totals is None, compiled=True)
    for query in range(queries):
        expected = model.best(names, query, count)
        found = found_sids(beams, names, query)
        assert found == [sid for sid, _ in expected]
        parts = torch.tensor([parts for _, parts in expected], dtype=torch.float32)
        torch.testing.assert_close(beams.level_scores[query, : len(found)], parts, atol=1e-5, rtol=1e-5)


def test_without_numba_torch_takes_over(monkeypatch):
    """A whole machine without numba: see `test_causal_lm_onesearch.py`."""
    codebook_sizes = (8, 4, 4)
    model = tiny_model(codebook_sizes, random_codes(40, codebook_sizes))
    prompts = random_prompts(5)
    codes, scores = model.search_sids(*prompts, 12)
    monkeypatch.setattr(kernels, "AVAILABLE", False)
    again, own_scores = model.search_sids(*prompts, 12)
    assert torch.equal(again, codes)
    torch.testing.assert_close(own_scores, scores, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"compiled=True needs numba \(`pip install onesearch\[fast\]`\)"):
        beam_search(PrefixLogits(codebook_sizes, 1), model.sid_index.trie, 1, 1, compiled=True)


@needs_numba
def test_the_kernel_leaves_its_arguments_as_they_are():
    """The beams before a level can be advanced a second time."""
    codebook_sizes = (8, 4, 4)
    model = tiny_model(codebook_sizes, random_codes(40, codebook_sizes))
    trie = model.sid_index.trie
    steps = PrefixLogits(codebook_sizes, 2)
    scores, states = np.full((2, 5), -np.inf, np.float32), np.full((2, 2, 5), -1)
    scores[:, 0], states[0, :, 0] = 0, 0
    history, active = np.zeros((2, 5, 3), np.float32), np.zeros((2, 1), np.int64)
    before = BeamArrays(scores, states, history, active, np.ones(2, np.int64))
    copies = [table.copy() for table in before]
    all_marked = Marks(np.empty(0, bool), np.empty(0, bool))
    first_level = trie.tables[0]
    tables = LevelTables(*(table.numpy() for table in first_level[:3]), first_level.inner)
    logits = steps(None, None, 0)[0].numpy()
    arguments = (tables, all_marked, tables, True, 0, before, logits, np.empty(0, np.float32))
    first, again = kernels.advance(*arguments), kernels.advance(*arguments)
    assert np.array_equal(first.beams.scores, again.beams.scores) and np.array_equal(first.codes, again.codes)
    assert all(np.array_equal(one, other) for one, other in zip(before, copies))
