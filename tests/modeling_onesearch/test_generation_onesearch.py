"""The logits processor against brute-force masks, beam search against exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PrefixLogits, any_catalogues, catalogues, children, distinct, found_sids, tensor, tries
from tiny import TEXT_TOKENS, random_codes, random_prompts, tiny_causal_model, tiny_model

from onesearch import SidTrie, TrieLogitsProcessor
from onesearch.modeling_onesearch.active_sids_onesearch import ActiveSids
from onesearch.modeling_onesearch.generation_onesearch import beam_search
from onesearch.modeling_onesearch.kernels_onesearch import AVAILABLE
from onesearch.modeling_onesearch.trie_onesearch import NONE
from onesearch.modeling_onesearch.trie_view_onesearch import TrieView

EOS = 2

# The logits processor


@st.composite
def decoder_rows(draw):
    """A catalogue and rows of `input_ids` that end in prefixes of its SIDs; before them padding, text, and whole SIDs."""
    codes, codebook_sizes = draw(catalogues())
    bounds = np.concatenate([[0], np.cumsum(codebook_sizes)[:-1]]) + TEXT_TOKENS
    rows, prefixes = [], []
    for _ in range(draw(st.integers(1, 6))):
        earlier = draw(st.lists(st.sampled_from(codes.tolist()), max_size=2))
        text = draw(st.lists(st.integers(3, TEXT_TOKENS - 1), max_size=3))
        sid = draw(st.sampled_from(codes.tolist()))
        prefix = sid[: draw(st.integers(0, len(codebook_sizes)))]
        past = [token for one in earlier for token in (bounds + one).tolist()]
        rows.append([*past, *text, EOS, *(bounds[: len(prefix)] + prefix).tolist()])
        prefixes.append(tuple(prefix))
    longest = max(map(len, rows))
    return codes, codebook_sizes, torch.tensor([[1] * (longest - len(row)) + row for row in rows]), prefixes


@settings(max_examples=50)
@given(decoder_rows())
def test_the_mask_is_the_brute_force_one(case):
    codes, codebook_sizes, input_ids, prefixes = case
    processor = TrieLogitsProcessor(SidTrie.build(codes, codebook_sizes), TEXT_TOKENS, eos_token_id=EOS)
    bounds = np.concatenate([[0], np.cumsum(codebook_sizes)]) + TEXT_TOKENS
    scores = torch.randn(len(input_ids), int(bounds[-1]) + 3)
    expected = torch.full_like(scores, float("-inf"))
    for row, prefix in enumerate(prefixes):
        depth = len(prefix)
        allowed = (
            [EOS] if depth == len(codebook_sizes) else [int(bounds[depth]) + code for code in children(codes.tolist(), prefix)]
        )
        expected[row, allowed] = scores[row, allowed]
    untouched = scores.clone()
    assert torch.equal(processor(input_ids, scores), expected)
    assert torch.equal(scores, untouched)
    one_by_one = [processor(input_ids[row : row + 1], scores[row : row + 1]) for row in reversed(range(len(input_ids)))]
    assert torch.equal(torch.cat(one_by_one[::-1]), expected)  # the same instance, other calls, other batch sizes
    assert torch.equal(processor(input_ids, scores), expected)


@settings(max_examples=40)
@given(tries(catalogues()), st.data())
def test_with_a_prompt_length_the_prompt_may_hold_anything(case, data):
    """Prompts of arbitrary tokens, SIDs and their beginnings among them; tries with inactive and added SIDs."""
    trie, names, codebook_sizes = case
    bounds = np.concatenate([[0], np.cumsum(codebook_sizes)]) + TEXT_TOKENS
    length, depth = data.draw(st.integers(0, 5)), data.draw(st.integers(0, len(codebook_sizes)))
    tokens = st.integers(0, int(bounds[-1]) - 1)
    prompts = data.draw(st.lists(st.lists(tokens, min_size=length, max_size=length), min_size=1, max_size=4))
    prefixes = [data.draw(st.sampled_from(sorted(names)))[:depth] for _ in prompts]
    input_ids = tensor([[*prompt, *(bounds[:depth] + prefix)] for prompt, prefix in zip(prompts, prefixes)], length + depth)
    scores = torch.randn(len(prompts), int(bounds[-1]))
    expected = torch.full_like(scores, float("-inf"))
    for row, prefix in enumerate(prefixes):
        own = [EOS] if depth == len(codebook_sizes) else [int(bounds[depth]) + code for code in children(names, prefix)]
        expected[row, own] = scores[row, own]
    processor = TrieLogitsProcessor(trie, TEXT_TOKENS, EOS, prompt_length=length)
    assert torch.equal(processor(input_ids, scores), expected)
    if depth == len(codebook_sizes):  # a finished row stays finished, whatever it is filled up with
        for filler in (EOS, 1, TEXT_TOKENS):
            longer = torch.cat([input_ids, torch.full((len(input_ids), 2), filler)], dim=1)
            assert torch.equal(processor(longer, scores), expected)


def test_a_prefix_outside_the_trie_raises_with_its_codes():
    processor = TrieLogitsProcessor(SidTrie.build(np.array([[0, 1], [2, 3]]), (3, 4)), TEXT_TOKENS)
    input_ids = torch.tensor([[EOS, TEXT_TOKENS], [EOS, TEXT_TOKENS + 1]])
    with pytest.raises(ValueError, match=r"\(1,\)"):
        processor(input_ids, torch.zeros(2, TEXT_TOKENS + 7))


def test_a_prefix_whose_sids_are_all_inactive_raises_with_its_codes():
    base = SidTrie.build(np.array([[0, 1], [2, 1], [2, 3]]), (3, 4))
    states = base.walk(torch.tensor([[0, 1]]))
    kept = torch.zeros(3, dtype=torch.bool)
    kept[base.leaf_of(states)] = True
    for added in (None, SidTrie.build(np.array([[1, 1]]), (3, 4))):
        processor = TrieLogitsProcessor(TrieView(base, ActiveSids.of(base, kept), added), TEXT_TOKENS)
        with pytest.raises(ValueError, match=r"\(2,\)"):
            processor(torch.tensor([[EOS, TEXT_TOKENS], [EOS, TEXT_TOKENS + 2]]), torch.zeros(2, TEXT_TOKENS + 7))


def test_going_on_after_a_sid_needs_an_eos_token():
    processor = TrieLogitsProcessor(SidTrie.build(np.array([[0, 1]]), (3, 4)), TEXT_TOKENS)
    with pytest.raises(ValueError, match="max_new_tokens=2"):
        processor(torch.tensor([[EOS, TEXT_TOKENS, TEXT_TOKENS + 4]]), torch.zeros(1, TEXT_TOKENS + 7))


def test_a_prompt_longer_than_the_row_is_refused():
    processor = TrieLogitsProcessor(SidTrie.build(np.array([[0, 1]]), (3, 4)), TEXT_TOKENS, prompt_length=3)
    with pytest.raises(ValueError, match="prompt_length=3.*2 tokens"):
        processor(torch.tensor([[0, EOS]]), torch.zeros(1, TEXT_TOKENS + 7))


# The processor inside of `generate`

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)
OFFSETS = torch.tensor([TEXT_TOKENS, TEXT_TOKENS + 8, TEXT_TOKENS + 12])
WAYS = {
    "greedy": {},
    "beams": {"num_beams": 6, "num_return_sequences": 6},
    "sampling": {"do_sample": True, "num_return_sequences": 8, "top_k": 0},
    "sampling with beams": {"do_sample": True, "num_beams": 4, "num_return_sequences": 3},
}


@pytest.fixture(scope="module")
def model():
    return tiny_model(CODEBOOK_SIZES, CODES)


@pytest.fixture(scope="module")
def causal():
    return tiny_causal_model(CODEBOOK_SIZES, CODES)


def sids_in(tokens):
    return list(map(tuple, (tokens - OFFSETS).tolist()))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_generating_stays_within_the_catalogue(model, causal, way):
    torch.manual_seed(0)
    encoder, decoder = model.logits_processor(), causal.logits_processor()
    found = set()
    for rows in (1, 4):  # one instance each, for several calls and batch sizes
        inputs = dict(zip(("input_ids", "attention_mask"), random_prompts(rows, seed=rows, padding_side="left")))
        ours = model.generate(**inputs, logits_processor=[encoder], **WAYS[way])
        assert ours.shape == (rows * WAYS[way].get("num_return_sequences", 1), 1 + len(CODEBOOK_SIZES))
        theirs = causal.generate(**inputs, logits_processor=[decoder], **WAYS[way])
        assert theirs.shape == (len(ours), inputs["input_ids"].shape[1] + len(CODEBOOK_SIZES))
        found |= {*sids_in(ours[:, 1:]), *sids_in(theirs[:, -len(CODEBOOK_SIZES) :])}
    assert found <= set(distinct(CODES)) and len(found) > 1


@pytest.mark.parametrize("way", WAYS)
def test_a_decoder_only_prompt_may_end_in_a_sid(causal, way):
    text, _ = random_prompts(4, seed=3, padding_side="left")
    input_ids = torch.cat([text, torch.from_numpy(CODES[:4]) + OFFSETS], dim=1)
    inputs = {"input_ids": input_ids, "attention_mask": (input_ids != 1).long()}
    with pytest.raises(ValueError, match="complete SID"):
        causal.generate(**inputs, logits_processor=[causal.logits_processor()], **WAYS[way])
    processor = causal.logits_processor(prompt_length=input_ids.shape[1])
    tokens = causal.generate(**inputs, logits_processor=[processor], **WAYS[way])
    assert set(sids_in(tokens[:, input_ids.shape[1] :])) <= set(distinct(CODES))
    if way == "greedy":
        codes, _ = causal.search_sids(**inputs, num_beams=1)
        assert sids_in(tokens[:, input_ids.shape[1] :]) == list(map(tuple, codes[:, 0].tolist()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only"])
def test_finished_rows_stay_finished(model, causal, kind, way):
    own = model if kind == "encoder-decoder" else causal
    input_ids, attention_mask = random_prompts(3, seed=1, padding_side="left")
    length = 1 if own is model else input_ids.shape[1]
    tokens = own.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        logits_processor=[TrieLogitsProcessor(own.sid_index.trie, TEXT_TOKENS, EOS, prompt_length=length)],
        eos_token_id=EOS,
        max_new_tokens=len(CODEBOOK_SIZES) + 4,
        min_new_tokens=0,
        **WAYS[way],
    )
    new = tokens[:, length:]
    assert set(sids_in(new[:, : len(CODEBOOK_SIZES)])) <= set(distinct(CODES))
    assert set(new[:, len(CODEBOOK_SIZES)].tolist()) == {EOS} and set(new[:, len(CODEBOOK_SIZES) + 1 :].flatten().tolist()) <= {
        1,
        EOS,
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_filter_holds_generate_to_what_passes(model, causal, way):
    passing = [f"item-{row}" for row in range(0, 60, 9)]
    allowed = set(map(tuple, CODES[::9].tolist()))
    for own, length in ((model, 1), (causal, 9)):
        input_ids, attention_mask = random_prompts(3, seed=1, padding_side="left")
        processor = own.logits_processor(item_filter=own.sid_index.filter(items=passing))
        tokens = own.generate(input_ids=input_ids, attention_mask=attention_mask, logits_processor=[processor], **WAYS[way])
        assert set(sids_in(tokens[:, length:])) <= allowed


# Beam search

COMPILED = [False, pytest.param(True, marks=pytest.mark.skipif(not AVAILABLE, reason="numba is not installed"))]


@pytest.mark.parametrize("compiled", COMPILED)
@settings(max_examples=40)
@given(
    tries(any_catalogues),
    st.integers(1, 3),
    st.one_of(st.integers(1, 6), st.just(40)),
    st.sampled_from([(True, None), (False, None), (False, 0.0), (False, 0.7)]),
    st.integers(0, 9),
)
def test_beam_search_is_exhaustive_search(compiled, case, queries, count, manner, seed):
    trie, names, codebook_sizes = case
    finish_early, totals = manner
    model = PrefixLogits(codebook_sizes, queries, seed, totals)
    beams = beam_search(model, trie, queries, count, finish_early, compiled)
    assert beams.leaves.dtype == torch.long and beams.scores.dtype == beams.level_scores.dtype == torch.float32
    assert beams.leaves.shape == beams.scores.shape == beams.level_scores.shape[:2]
    for query in range(queries):
        expected = model.best(names, query, count)
        found = found_sids(beams, names, query)
        assert found == [sid for sid, _ in expected]
        parts = torch.tensor([parts for _, parts in expected], dtype=torch.float32)
        torch.testing.assert_close(beams.level_scores[query, : len(found)], parts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(beams.scores[query, : len(found)], parts.sum(1), atol=1e-5, rtol=1e-5)
    if totals is None:
        assert beams.scores.max() <= 1e-6


@pytest.mark.skipif(not AVAILABLE, reason="numba is not installed")
@settings(max_examples=25)
@given(tries(any_catalogues), st.integers(1, 4), st.integers(1, 12), st.booleans(), st.integers(0, 9))
def test_the_compiled_kernel_agrees_with_torch(case, queries, count, finish_early, seed):
    trie, names, codebook_sizes = case
    slow = beam_search(PrefixLogits(codebook_sizes, queries, seed), trie, queries, count, finish_early, compiled=False)
    fast = beam_search(PrefixLogits(codebook_sizes, queries, seed), trie, queries, count, finish_early, compiled=True)
    for query in range(queries):
        sids = found_sids(slow, names, query)
        assert found_sids(fast, names, query) == sids
        for one, other in ((fast.scores, slow.scores), (fast.level_scores, slow.level_scores)):
            torch.testing.assert_close(one[query, : len(sids)], other[query, : len(sids)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
@settings(max_examples=25)
@given(tries(any_catalogues), st.integers(1, 3), st.integers(1, 40), st.booleans(), st.booleans())
def test_ties_give_distinct_active_sids(compiled, case, queries, count, finish_early, whole):
    """All logits alike, or only a few different ones: any of the best will do, but no SID twice and none from outside."""
    trie, names, codebook_sizes = case

    class Alike(PrefixLogits):
        def logits(self, query, prefix):
            return np.zeros(codebook_sizes[len(prefix)], np.float32) if whole else super().logits(query, prefix).round()

    model = Alike(codebook_sizes, queries)
    beams = beam_search(model, trie, queries, count, finish_early, compiled)
    for query in range(queries):
        found = found_sids(beams, names, query)
        assert len(set(found)) == len(found) >= min(count, 1) and set(found) <= set(names)
        scores = beams.scores[query, : len(found)].tolist()
        assert scores == sorted(scores, reverse=True)
        if count >= len(names):
            assert set(found) == set(names)
            best = {sid: sum(parts) for sid, parts in model.best(names, query, count)}
            assert scores == pytest.approx([best[sid] for sid in found], abs=1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
def test_the_model_runs_only_for_beams_that_have_something_to_decide(compiled):
    codes = np.array([[level, level % 4, 0] for level in range(8)] + [[0, 1, 1], [0, 1, 2]])
    runs = []

    class Counting(PrefixLogits):
        def __call__(self, codes, parents, level):
            runs.append((level, 0 if codes is None else codes.shape[1]))
            return super().__call__(codes, parents, level)

    trie = SidTrie.build(codes, CODEBOOK_SIZES)
    beam_search(Counting(CODEBOOK_SIZES, 2), trie, 2, 20, True, compiled)
    assert runs == [(0, 0), (1, 1), (2, 1)]  # only the prefixes (0,) and (0, 1) are shared
    runs.clear()
    beam_search(Counting(CODEBOOK_SIZES, 2), SidTrie.build(codes[:8], CODEBOOK_SIZES), 2, 20, True, compiled)
    assert runs == [(0, 0)]
    runs.clear()
    beam_search(Counting(CODEBOOK_SIZES, 2), trie, 2, 20, False, compiled)
    assert runs == [(0, 0), (1, 8), (2, 9)]


@pytest.mark.skipif(not AVAILABLE, reason="needs numba")
def test_a_beam_of_which_a_filter_leaves_one_sid_is_finished():
    codes = np.array([[first, second, third] for first in range(4) for second in range(3) for third in range(2)])
    trie = SidTrie.build(codes, (4, 3, 2))
    kept = torch.zeros(len(codes), dtype=torch.bool)
    kept[trie.leaf_of(trie.walk(torch.tensor([[0, 1, 1], [1, 0, 0], [1, 2, 0], [1, 2, 1]])))] = True
    view = TrieView(trie, ActiveSids.of(trie, kept))
    rows = []

    class Counting(PrefixLogits):
        def __call__(self, codes, parents, level):
            rows.append(1 if codes is None else codes.numel())
            return super().__call__(codes, parents, level)

    found = beam_search(Counting((4, 3, 2), 1), view, 1, 4, compiled=True)
    # Level 0 leaves prefix 0 with one SID; level 1 splits prefix 1 into one with one SID and one with two.
    assert rows == [1, 1, 1]
    expected = beam_search(PrefixLogits((4, 3, 2), 1), view, 1, 4, compiled=False)
    assert torch.equal(found.leaves, expected.leaves)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.level_scores, expected.level_scores)


@pytest.mark.parametrize("compiled", COMPILED)
def test_logits_of_half_precision_are_read(compiled):
    trie = SidTrie.build(CODES, CODEBOOK_SIZES)
    expected = beam_search(PrefixLogits(CODEBOOK_SIZES, 2), trie, 2, 9, compiled=compiled)

    class Half(PrefixLogits):
        def __call__(self, codes, parents, level):
            return super().__call__(codes, parents, level)[0].bfloat16(), None

    beams = beam_search(Half(CODEBOOK_SIZES, 2), trie, 2, 9, compiled=compiled)
    assert beams.scores.dtype == torch.float32 and (beams.leaves != NONE).all()
    torch.testing.assert_close(beams.scores, expected.scores, atol=0.1, rtol=0)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not AVAILABLE, reason="needs numba"))])
def test_more_beams_than_sids_cost_and_give_what_as_many_as_sids_do(compiled):
    codes, sizes = random_codes(60, (8, 4, 4)), (8, 4, 4)
    trie = SidTrie.build(codes, sizes)
    view = TrieView(trie, ActiveSids.all_of(trie))
    for searched in (trie, view):
        found = []
        for num_beams in (len(trie), 10**12):  # as many would not fit into any memory
            found.append(beam_search(PrefixLogits(sizes, 3), searched, 3, num_beams, compiled=compiled))
        assert torch.equal(found[0].leaves, found[1].leaves) and torch.equal(found[0].scores, found[1].scores)
        assert found[1].scores.shape == (3, len(trie))
    with pytest.raises(ValueError, match="num_beams=0 must be at least 1"):
        beam_search(PrefixLogits(sizes, 3), trie, 3, 0)
