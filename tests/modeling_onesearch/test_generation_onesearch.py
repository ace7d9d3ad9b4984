"""Trie, processor and index against brute force over plain sets; beam search against `generate` and against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tiny import TEXT_TOKENS, random_codes, random_prompts, tiny_index, tiny_model

from onesearch import Hit, SidIndex, SidTrie, TrieLogitsProcessor
from onesearch.modeling_onesearch.trie_onesearch import NONE


@st.composite
def catalogues(draw):
    """Codes (items, levels) and widths: duplicates, single items and widths of 1 included."""
    widths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    sid = st.tuples(*(st.integers(0, width - 1) for width in widths))
    return np.array(draw(st.lists(sid, min_size=1, max_size=25))), tuple(widths)


def children(codes, prefix):
    depth = len(prefix)
    return sorted({row[depth] for row in codes.tolist() if tuple(row[:depth]) == prefix})


def every_prefix(widths, depth):
    return list(itertools.product(*(range(width) for width in widths[:depth])))


# The trie


@given(catalogues())
def test_every_sid_walks_and_nothing_else_does(catalogue):
    codes, widths = catalogue
    trie = SidTrie(codes, widths)
    distinct = sorted({tuple(row) for row in codes.tolist()})
    assert len(trie) == len(distinct) and trie.levels == len(widths)
    assert sorted(trie.leaf_of(trie.walk(torch.tensor(distinct))).tolist()) == list(range(len(distinct)))
    for depth in range(len(widths) + 1):
        prefixes = every_prefix(widths, depth)
        known = {sid[:depth] for sid in distinct}
        nodes = trie.walk(torch.tensor(prefixes, dtype=torch.long).view(len(prefixes), depth))
        assert [node != NONE for node in nodes.tolist()] == [prefix in known for prefix in prefixes]
        sharing = {prefix: sum(sid[:depth] == prefix for sid in distinct) for prefix in prefixes}
        assert trie.is_open(nodes).tolist() == [sharing[prefix] > 1 or not depth for prefix in prefixes]


@given(catalogues())
def test_expand_gives_exactly_the_children(catalogue):
    codes, widths = catalogue
    trie = SidTrie(codes, widths)
    for level in range(len(widths)):
        prefixes = every_prefix(widths, level)
        nodes = trie.walk(torch.tensor(prefixes, dtype=torch.long).view(len(prefixes), level))
        row, code, child = trie.expand(level, nodes)  # unknown prefixes are among the nodes, as -1
        found = [[] for _ in prefixes]
        for parent, value in zip(row.tolist(), code.tolist()):
            found[parent].append(value)
        assert list(map(sorted, found)) == [children(codes, prefix) for prefix in prefixes]
        extended = torch.tensor([(*prefixes[parent], value) for parent, value in zip(row.tolist(), code.tolist())])
        assert trie.walk(extended).tolist() == child.tolist()


@pytest.mark.parametrize(
    ("codes", "widths", "words"),
    [
        ([[0, 1], [2, 4]], (3, 4), ["item 1", "code 4", "level 1", "0..3"]),
        ([[0, -1]], (3, 4), ["item 0", "code -1"]),
        ([[0, 1, 2]], (3, 4), ["(1, 3)", "(items, 2)"]),
        (np.zeros((0, 2)), (3, 4), ["no item"]),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes, widths, words):
    with pytest.raises(ValueError) as error:
        SidTrie(np.asarray(codes), widths)
    assert all(word in str(error.value) for word in words)


# The logits processor

EOS = 2


@st.composite
def decoder_rows(draw):
    """A catalogue and rows of `input_ids` that end in prefixes of its SIDs; before them padding, text, and whole SIDs."""
    codes, widths = draw(catalogues())
    bounds = np.concatenate([[0], np.cumsum(widths)[:-1]]) + TEXT_TOKENS
    rows, prefixes = [], []
    for _ in range(draw(st.integers(1, 6))):
        earlier = draw(st.lists(st.sampled_from(codes.tolist()), max_size=2))
        text = draw(st.lists(st.integers(3, TEXT_TOKENS - 1), max_size=3))
        sid = draw(st.sampled_from(codes.tolist()))
        prefix = sid[: draw(st.integers(0, len(widths)))]
        past = [token for one in earlier for token in (bounds + one).tolist()]
        rows.append([*past, *text, EOS, *(bounds[: len(prefix)] + prefix).tolist()])
        prefixes.append(tuple(prefix))
    longest = max(map(len, rows))
    return codes, widths, torch.tensor([[1] * (longest - len(row)) + row for row in rows]), prefixes


@given(decoder_rows())
def test_the_mask_is_the_brute_force_one(case):
    codes, widths, input_ids, prefixes = case
    processor = TrieLogitsProcessor(SidTrie(codes, widths), TEXT_TOKENS, eos_token_id=EOS)
    bounds = np.concatenate([[0], np.cumsum(widths)]) + TEXT_TOKENS
    scores = torch.randn(len(input_ids), int(bounds[-1]) + 3)
    expected = torch.full_like(scores, float("-inf"))
    for row, prefix in enumerate(prefixes):
        depth = len(prefix)
        allowed = [EOS] if depth == len(widths) else [int(bounds[depth]) + code for code in children(codes, prefix)]
        expected[row, allowed] = scores[row, allowed]
    untouched = scores.clone()
    assert torch.equal(processor(input_ids, scores), expected)
    assert torch.equal(scores, untouched)
    one_by_one = [processor(input_ids[row : row + 1], scores[row : row + 1]) for row in reversed(range(len(input_ids)))]
    assert torch.equal(torch.cat(one_by_one[::-1]), expected)  # the same instance, other calls, other batch sizes
    assert torch.equal(processor(input_ids, scores), expected)


def test_a_prefix_outside_the_trie_raises_with_its_codes():
    processor = TrieLogitsProcessor(SidTrie(np.array([[0, 1], [2, 3]]), (3, 4)), TEXT_TOKENS)
    input_ids = torch.tensor([[EOS, TEXT_TOKENS], [EOS, TEXT_TOKENS + 1]])
    with pytest.raises(ValueError, match=r"\(1,\)"):
        processor(input_ids, torch.zeros(2, TEXT_TOKENS + 7))


def test_going_on_after_a_sid_needs_an_eos_token():
    processor = TrieLogitsProcessor(SidTrie(np.array([[0, 1]]), (3, 4)), TEXT_TOKENS)
    with pytest.raises(ValueError, match="max_new_tokens=2"):
        processor(torch.tensor([[EOS, TEXT_TOKENS, TEXT_TOKENS + 4]]), torch.zeros(1, TEXT_TOKENS + 7))


# Beam search

WIDTHS = (8, 4, 4)
CODES = random_codes(60, WIDTHS, seed=4)
DISTINCT = sorted({tuple(row) for row in CODES.tolist()})


@pytest.fixture(scope="module")
def model():
    return tiny_model(WIDTHS, CODES)


def generated(model, input_ids, attention_mask, beams):
    """Codes and scores of transformers' own beam search with the processor; places without a SID are left out."""
    out = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,  # scores are sums over the codes
        logits_processor=[model.logits_processor()],
        output_scores=True,
        return_dict_in_generate=True,
    )
    offsets = torch.tensor([model.config.sid_slice(level)[0] for level in range(len(WIDTHS))])
    codes = (out.sequences[:, 1:] - offsets).view(len(input_ids), beams, -1)
    if beams == 1:  # greedy search, which does not sum
        scores = model.compute_transition_scores(out.sequences, out.scores).sum(1, keepdim=True)
    else:
        scores = out.sequences_scores.view(len(input_ids), beams)
    return [(codes[row][scores[row] > -1e8], scores[row][scores[row] > -1e8]) for row in range(len(input_ids))]


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("beams", [1, 5, 20, 80])
def test_search_finds_what_generate_finds(model, beams, padding_side):
    input_ids, attention_mask = random_prompts(6, seed=beams, padding_side=padding_side)
    codes, scores = model.search_sids(input_ids, attention_mask, beams)
    for row, (expected, expected_scores) in enumerate(generated(model, input_ids, attention_mask, beams)):
        alive = scores[row] > float("-inf")
        assert codes[row][alive].tolist() == expected.tolist()
        torch.testing.assert_close(scores[row][alive], expected_scores, atol=1e-4, rtol=0)


def test_generate_stops_after_one_sid_with_the_model_s_own_settings(model):
    input_ids, attention_mask = random_prompts(3)
    greedy = model.generate(input_ids=input_ids, attention_mask=attention_mask, logits_processor=[model.logits_processor()])
    assert greedy.shape == (3, 1 + len(WIDTHS))
    codes, _ = model.search_sids(input_ids, attention_mask, 1)
    offsets = torch.tensor([model.config.sid_slice(level)[0] for level in range(len(WIDTHS))])
    assert torch.equal(greedy[:, 1:] - offsets, codes[:, 0])


def test_a_padded_batch_gives_what_each_query_gives_alone(model):
    input_ids, attention_mask = random_prompts(5, seed=2)
    codes, scores = model.search_sids(input_ids, attention_mask, 10)
    for row in range(5):
        alone = input_ids[row : row + 1, : int(attention_mask[row].sum())]
        own_codes, own_scores = model.search_sids(alone, None, 10)
        assert torch.equal(own_codes[0], codes[row])
        torch.testing.assert_close(own_scores[0], scores[row], atol=1e-5, rtol=0)


def test_a_beam_as_wide_as_the_catalogue_is_enumeration(model):
    """Every SID is found, with the log-probability that teacher forcing gives it, renormalised over the allowed children."""
    input_ids, attention_mask = random_prompts(2, seed=9)
    codes, scores = model.search_sids(input_ids, attention_mask, len(DISTINCT))
    for row in range(2):
        found = {tuple(sid): score for sid, score in zip(codes[row].tolist(), scores[row].tolist())}
        assert sorted(found) == DISTINCT
        assert sum(np.exp(list(found.values()))) == pytest.approx(1, abs=1e-5)
        assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)
        for sid in DISTINCT[::7]:
            assert found[sid] == pytest.approx(forced_score(model, input_ids[row], attention_mask[row], sid), abs=1e-4)


@torch.no_grad()
def forced_score(model, input_ids, attention_mask, sid):
    starts = [model.config.sid_slice(level)[0] for level in range(len(WIDTHS))]
    decoder = torch.tensor([[2, *(start + code for start, code in zip(starts, sid))]])[:, :-1]
    logits = model(input_ids=input_ids[None], attention_mask=attention_mask[None], decoder_input_ids=decoder).logits[0]
    total = 0.0
    for level, code in enumerate(sid):
        allowed = children(CODES, sid[:level])
        log_probs = logits[level, [starts[level] + child for child in allowed]].log_softmax(0)
        total += float(log_probs[allowed.index(code)])
    return total


def test_more_beams_than_items_invent_nothing():
    """One item under most prefixes: beams have nowhere else to go."""
    codes = np.array([[level, level % 4, 0] for level in range(8)] + [[0, 1, 1], [0, 1, 2]])
    model = tiny_model(WIDTHS, codes)
    input_ids, attention_mask = random_prompts(4)
    for beams in (3, 11, 512):
        found, scores = model.search_sids(input_ids, attention_mask, beams)
        for row in range(4):
            sids = [tuple(sid) for sid in found[row][scores[row] > float("-inf")].tolist()]
            assert len(set(sids)) == len(sids) and set(sids) <= {tuple(sid) for sid in codes.tolist()}
        items = [[hit.item_id for hit in hits] for hits in model.search(input_ids, attention_mask, beams, top_k=100)]
        assert all(len(set(row)) == len(row) for row in items)
    assert all(len(row) == len(codes) for row in items)


@pytest.mark.parametrize("items", [1, 40, 600])
def test_no_invalid_sid_in_a_thousand_queries(items):
    widths = (16, 8, 8, 4, 4)
    codes = random_codes(items, widths, seed=items)
    valid = {tuple(sid) for sid in codes.tolist()}
    model = tiny_model(widths, codes, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8)
    input_ids, attention_mask = random_prompts(1000, longest=12, seed=5)
    beams = [1, 2, 3, 5, 10, 20, 50, 100, 128, 512]
    for part, count in enumerate(beams):
        rows = slice(100 * part, 100 * part + 100)
        found, scores = model.search_sids(input_ids[rows], attention_mask[rows], count)
        alive = scores > float("-inf")
        sids = [tuple(sid) for sid in found[alive].tolist()]
        assert set(sids) <= valid
        assert alive.sum(1).min() >= min(count, len(valid), 1)
        per_query = [len(set(map(tuple, found[row][alive[row]].tolist()))) for row in range(100)]
        assert per_query == alive.sum(1).tolist()


@settings(max_examples=30)
@given(catalogues(), st.integers(1, 40), st.integers(0, 3))
def test_beams_are_valid_distinct_and_sorted_on_any_catalogue(catalogue, beams, seed):
    codes, widths = catalogue
    model = tiny_model(widths, codes, seed=seed)
    found, scores = model.search_sids(*random_prompts(3, seed=seed), beams)
    distinct = len({tuple(sid) for sid in codes.tolist()})
    for row in range(3):
        alive = scores[row] > float("-inf")
        sids = [tuple(sid) for sid in found[row][alive].tolist()]
        assert set(sids) <= {tuple(sid) for sid in codes.tolist()}
        assert len(set(sids)) == len(sids) <= min(beams, distinct)
        assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)
        if beams >= distinct:
            assert len(sids) == distinct


# The item index


@given(catalogues(), st.data())
def test_hits_follow_beam_order_then_popularity(catalogue, data):
    codes, widths = catalogue
    popularity = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(codes), max_size=len(codes))), dtype=np.float32)
    top_k, items_per_sid = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    index = tiny_index(codes, widths, popularity=popularity)
    beams = [list(sid) for sid in data.draw(st.permutations(sorted({tuple(row) for row in codes.tolist()})))]
    scores = [-float(place) for place in range(len(beams))]
    leaves = index.trie.leaf_of(index.trie.walk(torch.tensor(beams)))
    (hits,) = index.hits(leaves[None], torch.tensor([scores]), top_k, items_per_sid)
    expected = []
    for sid, score in zip(beams, scores):
        rows = [row for row, other in enumerate(codes.tolist()) if other == sid]
        rows.sort(key=lambda row: (-popularity[row], row))
        expected += [Hit(f"item-{row}", tuple(sid), score) for row in rows[:items_per_sid]]
    assert hits == expected[:top_k]


def test_beams_without_a_sid_or_an_item_give_no_hit():
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    leaves = index.trie.leaf_of(index.trie.walk(torch.tensor([[1, 1], [2, 3], [0, 1]])))
    (hits,) = index.hits(leaves[None], torch.tensor([[-1.0, -2.0, float("-inf")]]), top_k=10)
    assert hits == [Hit("item-1", (2, 3), -2.0)]


@settings(max_examples=50)
@given(catalogues(), st.data())
def test_an_index_survives_its_file(tmp_path_factory, catalogue, data):
    codes, widths = catalogue
    ids = data.draw(st.lists(st.text(max_size=6), min_size=len(codes), max_size=len(codes), unique=True))
    index = tiny_index(codes, widths, ids, np.arange(len(codes)), digest="däg")
    path = tmp_path_factory.mktemp("index") / "sid_index.safetensors"
    index.save(path)
    loaded = SidIndex.load(path)
    assert loaded.item_ids == ids and loaded.widths == widths and loaded.digest == "däg"
    assert np.array_equal(loaded.codes, codes) and np.array_equal(loaded.popularity, index.popularity)
    assert [loaded.sid_of(item_id) for item_id in ids] == [tuple(row) for row in codes.tolist()]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_damaged_or_foreign_index_is_named(tmp_path):
    path = tmp_path / "sid_index.safetensors"
    tiny_index([[0, 1], [2, 3]], (3, 4)).save(path)
    whole = path.read_bytes()
    for size in (0, 5, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="sid_index.safetensors.*damaged"):
            SidIndex.load(path)
    save_file({"codes": np.zeros((1, 2), dtype=np.int32)}, path)
    with pytest.raises(ValueError, match="sid_index.safetensors has format None"):
        SidIndex.load(path)
    with pytest.raises(FileNotFoundError, match="onesearch sids build"):
        SidIndex.load(tmp_path / "none.safetensors")


def test_an_index_names_what_it_does_not_hold():
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    with pytest.raises(KeyError, match="'item-7'.*2 items"):
        index.codes_of(["item-0", "item-7"])
    assert index.codes_of([]).shape == (0, 2)
    with pytest.raises(ValueError, match="1 item ids, 2 SIDs"):
        tiny_index([[0, 1], [2, 3]], (3, 4), item_ids=["a"])
