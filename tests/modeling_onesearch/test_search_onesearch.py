"""`search` against `generate`, against enumeration by teacher forcing, and under filters; encoder-decoder and decoder-only alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ForcedLogits, catalogues, children, distinct, forced_logits
from tiny import random_codes, random_prompts, tiny_causal_model, tiny_index, tiny_model

from onesearch.modeling_onesearch import search_onesearch
from onesearch.modeling_onesearch.packing_onesearch import PACKED_SDPA
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

CODEBOOK_SIZES = (16, 8, 8)
CODES = random_codes(300, CODEBOOK_SIZES, seed=4)
DISTINCT = distinct(CODES)
MAKERS = {"encoder-decoder": tiny_model, "decoder-only": tiny_causal_model}
CATEGORIES = [["shoes", f"kind-{row % 5}"] if row % 3 else ["coats"] for row in range(300)]


@pytest.fixture(scope="module")
def models():
    found = {name: make(CODEBOOK_SIZES, CODES) for name, make in MAKERS.items()}
    for model in found.values():
        model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES, popularity=np.arange(300) % 7, categories=CATEGORIES))
    return found


@pytest.fixture(params=MAKERS)
def model(request, models):
    """Read only."""
    return models[request.param]


def prompts_for(model, rows, seed=0):
    """Padded as `generate` needs it: on the left for a decoder-only model."""
    return random_prompts(rows, seed=seed, padding_side="right" if model.config.is_encoder_decoder else "left")


def alive(codes, scores):
    """SIDs and scores of the places that hold a SID."""
    held = scores > -torch.inf
    return list(map(tuple, codes[held].tolist())), scores[held]


# Against `generate`


def generated(model, input_ids, attention_mask, beams, normalize="children", item_filter=None):
    """SIDs and scores per query of transformers' own beam search with the processor; places without a SID are left out."""
    length = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    out = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,  # scores are sums over the codes
        renormalize_logits=normalize == "children",
        logits_processor=[model.logits_processor(length, item_filter)],
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    offsets = torch.tensor([model.config.sid_slice(level)[0] for level in range(len(CODEBOOK_SIZES))])
    codes = (out.sequences[:, length:] - offsets).view(len(input_ids), beams, -1)
    if beams == 1:  # greedy search, which neither sums nor, without renormalising, takes the logarithm
        steps = out.scores if normalize == "children" else [logits.log_softmax(-1) for logits in out.logits]
        picked = out.sequences[:, length:]
        scores = sum(step.gather(1, picked[:, [level]]) for level, step in enumerate(steps))
    else:
        scores = out.sequences_scores.view(len(input_ids), beams)
    held = scores > -1e8
    return [(list(map(tuple, codes[row][held[row]].tolist())), scores[row][held[row]]) for row in range(len(input_ids))]


def check_against_generate(model, prompts, beams, normalize="children", item_filter=None):
    codes, scores = model.search_sids(*prompts, beams, item_filter=item_filter, normalize=normalize)
    for row, (expected, expected_scores) in enumerate(generated(model, *prompts, beams, normalize, item_filter)):
        found, own_scores = alive(codes[row], scores[row])
        assert len(found) == len(set(found)) and (item_filter or len(found) == min(beams, len(DISTINCT)))
        torch.testing.assert_close(own_scores, expected_scores, atol=1e-4, rtol=0)
        assert_same_order(found, own_scores.tolist(), expected)


def assert_same_order(found, scores, expected):
    """The same SIDs in the same order, but for scores that are equal up to rounding, where two may change places."""
    assert len(found) == len(expected)
    score_of = dict(zip(found, scores))
    for sid, other, score in zip(found, expected, scores):
        assert sid == other or score_of.get(other, scores[-1]) == pytest.approx(score, abs=2e-5)


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("beams", [1, 10, 50, 128, 512])
def test_search_finds_what_generate_finds(model, beams, rows):
    check_against_generate(model, prompts_for(model, rows, seed=beams), beams)


@pytest.mark.parametrize("beams", [1, 10, 50, 512])
def test_over_the_vocabulary_it_finds_what_generate_finds_without_renormalising(model, beams):
    check_against_generate(model, prompts_for(model, 4, seed=beams), beams, normalize="vocabulary")


@pytest.mark.parametrize("beams", [1, 10, 128])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_any_attention_implementation_finds_what_generate_finds(name_of_kind, beams, implementation):
    model = MAKERS[name_of_kind](CODEBOOK_SIZES, CODES, attn_implementation=implementation)
    assert model.config._attn_implementation == {"eager": "eager", "sdpa": PACKED_SDPA}[implementation]
    check_against_generate(model, prompts_for(model, 3, seed=beams), beams)


@pytest.fixture(params=MAKERS)
def name_of_kind(request):
    return request.param


@pytest.mark.parametrize("share", [2, 40])
def test_under_a_filter_it_finds_what_generate_finds(model, share):
    item_filter = model.sid_index.filter(items=[f"item-{row}" for row in range(0, 300, share)])
    for beams in (1, 10, 200):
        check_against_generate(model, prompts_for(model, 3, seed=share), beams, item_filter=item_filter)


def test_generate_stops_after_one_sid_with_the_model_s_own_settings(model):
    input_ids, attention_mask = prompts_for(model, 3)
    length = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    greedy = model.generate(input_ids=input_ids, attention_mask=attention_mask, logits_processor=[model.logits_processor()])
    assert greedy.shape == (3, length + len(CODEBOOK_SIZES))
    codes, _ = model.search_sids(input_ids, attention_mask, 1)
    offsets = torch.tensor([model.config.sid_slice(level)[0] for level in range(len(CODEBOOK_SIZES))])
    assert torch.equal(greedy[:, length:] - offsets, codes[:, 0])


# Padding


@pytest.mark.parametrize("kind", MAKERS)
def test_a_padded_batch_gives_what_each_query_gives_alone(models, kind):
    for side in ("left", "right"):
        input_ids, attention_mask = random_prompts(5, seed=2, padding_side=side)
        codes, scores = models[kind].search_sids(input_ids, attention_mask, 10)
        for row in range(5):
            own_codes, own_scores = models[kind].search_sids(input_ids[row][attention_mask[row].bool()][None], None, 10)
            assert torch.equal(own_codes[0], codes[row])
            torch.testing.assert_close(own_scores[0], scores[row], atol=1e-5, rtol=0)


def test_both_sides_of_padding_give_the_same(model):
    found = [model.search(*random_prompts(6, seed=2, padding_side=side), 50) for side in ("left", "right")]
    assert [[hit.item_id for hit in hits] for hits in found[0]] == [[hit.item_id for hit in hits] for hits in found[1]]
    for one, other in zip(*found):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)


@pytest.mark.parametrize(
    "mask",
    [torch.ones(2, 8), torch.tensor([[1] * 9, [0] * 9]), torch.ones(1, 9), torch.ones(3, 9)],
    ids=["short", "empty", "a row less", "a row more"],
)
def test_masks_that_do_not_fit_are_refused(model, mask):
    with pytest.raises(ValueError, match=r"\(2, 9\).*at least one token"):
        model.search(random_prompts(2)[0], mask.long())


# Against teacher forcing


@pytest.mark.parametrize("normalize", ["children", "level", "vocabulary"])
@pytest.mark.parametrize("beams", [1, 7])
def test_beams_are_those_of_exhaustive_search_over_forced_logits(model, beams, normalize):
    prompts = random_prompts(2, seed=7)
    oracle = ForcedLogits(model, *prompts, normalize)
    codes, scores = model.search_sids(*prompts, beams, normalize=normalize)
    hits = model.search(*prompts, beams, top_k=100, normalize=normalize, explain=True)
    for query in range(2):
        expected = oracle.best(DISTINCT, query, beams)
        found, own = alive(codes[query], scores[query])
        assert found == [sid for sid, _ in expected]
        assert own.tolist() == pytest.approx([sum(parts) for _, parts in expected], abs=1e-4)
        parts_of = dict(expected)
        assert {hit.sid for hit in hits[query]} == set(parts_of)
        for hit in hits[query]:
            assert hit.level_scores == pytest.approx(parts_of[hit.sid], abs=1e-4)
            assert sum(hit.level_scores) == pytest.approx(hit.score, abs=1e-5)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("normalize", ["children", "level"])
def test_a_beam_as_wide_as_a_catalogue_of_3000_is_enumeration(kind, normalize):
    codebook_sizes = (32, 16, 16)
    codes = np.stack(np.unravel_index(np.random.default_rng(0).permutation(32 * 16 * 16)[:3000], codebook_sizes), axis=1)
    model = MAKERS[kind](codebook_sizes, codes)
    input_ids, attention_mask = random_prompts(1, seed=3)
    (hits,) = model.search(input_ids, attention_mask, 3000, top_k=3000, normalize=normalize)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    row_of = {f"item-{row}": row for row in range(3000)}
    assert len(hits) == len({hit.item_id for hit in hits}) == 3000
    assert all(tuple(codes[row_of[hit.item_id]]) == hit.sid for hit in hits)
    logits = torch.cat([forced_logits(model, input_ids[0], part.tolist()) for part in torch.from_numpy(codes).split(500)])
    below = {prefix: children(starting_with(codes, prefix), prefix) for prefix in every_prefix(codes)}
    scores = np.zeros(3000)
    for level in range(3):
        start, stop = model.config.sid_slice(level)
        row_logits = logits[:, level, start:stop].double()
        if normalize == "children":
            allowed = torch.zeros_like(row_logits, dtype=torch.bool)
            for row, sid in enumerate(codes.tolist()):
                allowed[row, below[tuple(sid[:level])]] = True
            row_logits = row_logits.masked_fill(~allowed, -torch.inf)
        scores += row_logits.log_softmax(-1).gather(1, torch.from_numpy(codes[:, [level]]))[:, 0].numpy()
    found = np.zeros(3000)
    found[[row_of[hit.item_id] for hit in hits]] = [hit.score for hit in hits]
    assert np.abs(found - scores).max() < 1e-4
    if normalize == "children":
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-4)


def every_prefix(codes):
    return {tuple(sid[:depth]) for sid in codes.tolist() for depth in range(codes.shape[1])}


def starting_with(codes, prefix):
    return codes[(codes[:, : len(prefix)] == prefix).all(1)].tolist()


# Any catalogue


def test_more_beams_than_items_invent_nothing(name_of_kind):
    """One item under most prefixes: beams have nowhere else to go."""
    codes = np.array([[level, level % 4, 0] for level in range(8)] + [[0, 1, 1], [0, 1, 2]])
    model = MAKERS[name_of_kind](CODEBOOK_SIZES, codes)
    prompts = random_prompts(4)
    for beams in (3, 11, 512):
        found, scores = model.search_sids(*prompts, beams)
        assert (found[scores == -torch.inf] == -1).all()
        for row in range(4):
            sids, _ = alive(found[row], scores[row])
            assert len(set(sids)) == len(sids) and set(sids) <= set(distinct(codes))
        items = [[hit.item_id for hit in hits] for hits in model.search(*prompts, beams, top_k=100)]
        assert all(len(set(row)) == len(row) for row in items)
    assert all(len(row) == len(codes) for row in items)


@pytest.mark.parametrize("items", [1, 40, 600])
def test_no_invalid_sid_in_a_thousand_queries(items):
    codebook_sizes = (16, 8, 8, 4, 4)
    codes = random_codes(items, codebook_sizes, seed=items)
    valid = set(distinct(codes))
    model = tiny_model(codebook_sizes, codes, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8)
    input_ids, attention_mask = random_prompts(1000, longest=12, seed=5)
    beams = [1, 2, 3, 5, 10, 20, 50, 100, 128, 512]
    for part, count in enumerate(beams):
        rows = slice(100 * part, 100 * part + 100)
        found, scores = model.search_sids(input_ids[rows], attention_mask[rows], count)
        held = scores > float("-inf")
        sids = [tuple(sid) for sid in found[held].tolist()]
        assert set(sids) <= valid
        assert held.sum(1).min() >= min(count, len(valid), 1)
        per_query = [len(set(map(tuple, found[row][held[row]].tolist()))) for row in range(100)]
        assert per_query == held.sum(1).tolist()


@settings(max_examples=30)
@given(catalogues(), st.integers(1, 40), st.integers(0, 3), st.sampled_from(sorted(MAKERS)))
def test_beams_are_valid_distinct_and_sorted_on_any_catalogue(catalogue, beams, seed, kind):
    codes, codebook_sizes = catalogue
    model = MAKERS[kind](codebook_sizes, codes, seed=seed)
    found, scores = model.search_sids(*random_prompts(3, seed=seed), beams)
    sids_held = set(distinct(codes))
    for row in range(3):
        sids, own = alive(found[row], scores[row])
        assert set(sids) <= sids_held and len(set(sids)) == len(sids) <= min(beams, len(sids_held))
        assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)
        if beams >= len(sids_held):
            assert len(sids) == len(sids_held)


# Filters


def plain(hits):
    return [[(hit.item_id, hit.sid) for hit in row] for row in hits], [hit.score for row in hits for hit in row]


@pytest.mark.parametrize("rows", [range(0, 300, 2), range(0, 300, 23), [7]], ids=["half", "few", "one"])
def test_a_filter_gives_what_an_index_of_these_items_alone_gives(model, rows):
    prompts = random_prompts(4, seed=6)
    rows = list(rows)
    item_filter = model.sid_index.filter(items=[f"item-{row}" for row in rows])
    own = type(model)(model.config).eval()
    own.load_state_dict(model.state_dict())
    popularity = (np.arange(300) % 7)[rows]
    own.set_sid_index(tiny_index(CODES[rows], CODEBOOK_SIZES, [f"item-{row}" for row in rows], popularity))
    for normalize in ("children", "level"):
        items, scores = plain(model.search(*prompts, 20, top_k=15, item_filter=item_filter, normalize=normalize))
        expected, expected_scores = plain(own.search(*prompts, 20, top_k=15, normalize=normalize))
        assert items == expected and all(len(row) == min(15, len(rows)) for row in items)
        assert scores == pytest.approx(expected_scores, abs=1e-5)


def test_queries_of_one_batch_have_filters_of_their_own(model):
    input_ids, attention_mask = random_prompts(5, seed=8)
    index = model.sid_index
    shoes, few = index.filter(categories=["shoes"]), index.filter(items=["item-3", "item-70", "item-150"])
    filters = [shoes, None, few, shoes, index.filter(exclude=[f"item-{row}" for row in range(290)])]
    hits = model.search(input_ids, attention_mask, 50, item_filter=filters)
    for row, item_filter in enumerate(filters):
        (alone,) = model.search(input_ids[row : row + 1], attention_mask[row : row + 1], 50, item_filter=item_filter)
        assert [hit.item_id for hit in hits[row]] == [hit.item_id for hit in alone]
        assert [hit.score for hit in hits[row]] == pytest.approx([hit.score for hit in alone], abs=1e-5)
        assert item_filter is None or item_filter.mask[index.rows_of([hit.item_id for hit in hits[row]])].all()
    assert [len(row) for row in hits] == [10, 10, 3, 10, 10]
    with pytest.raises(ValueError, match="2 filters for 5 queries"):
        model.search(input_ids, attention_mask, item_filter=[None, shoes])


def test_top_k_is_full_whatever_the_share_of_the_filter(model):
    """A filter narrows the beam itself: no place is lost to items that do not pass."""
    prompts = random_prompts(4, seed=9)
    random = np.random.default_rng(1)
    for count in (10, 12, 29, 31, 100, 299):
        mask = np.zeros(300, dtype=bool)
        mask[random.permutation(300)[:count]] = True
        hits = model.search(*prompts, 10, top_k=10, item_filter=model.sid_index.filter(items=mask), items_per_sid=1)
        reach = min(10, len(distinct(CODES[mask])))
        assert [len(row) for row in hits] == [reach] * 4
        assert all(mask[int(hit.item_id[5:])] for row in hits for hit in row)


def test_a_search_with_a_filter_sees_the_catalogue_as_it_was_when_the_filter_was_made(name_of_kind):
    model = MAKERS[name_of_kind](CODEBOOK_SIZES, CODES)
    prompts = random_prompts(2)
    item_filter = model.sid_index.filter(exclude=["item-3"])
    before = model.retrieve(*prompts, 300, top_k=300, item_filter=item_filter)
    sids = model.search_sids(*prompts, 300, item_filter=item_filter)
    model.sid_index.remove_items(["item-5"])
    model.sid_index.add_items(["new"], np.array([CODES[5]]))
    model.sid_index.remove_items(["new"])
    assert model.retrieve(*prompts, 300, top_k=300, item_filter=item_filter) == before and not any(before.invalid)
    assert all(torch.equal(one, other) for one, other in zip(sids, model.search_sids(*prompts, 300, item_filter=item_filter)))
    fresh = model.sid_index.filter(exclude=["item-3"])
    items = {hit.item_id for row in model.search(*prompts, 300, top_k=300, item_filter=fresh) for hit in row}
    assert items == {f"item-{row}" for row in range(300)} - {"item-3", "item-5"}


# Hits and arguments


def test_hits_of_a_shared_sid_follow_popularity_and_are_cut(model):
    prompts = random_prompts(3, seed=4)
    for limit in (1, 2, 5):
        for row in model.search(*prompts, 300, top_k=1000, items_per_sid=limit):
            assert len({hit.item_id for hit in row}) == len(row)
            by_sid = {}
            for hit in row:
                by_sid.setdefault(hit.sid, []).append(int(hit.item_id[5:]))
            assert set(by_sid) == set(DISTINCT)
            for sid, found in by_sid.items():
                sharing = np.flatnonzero((CODES == sid).all(1)).tolist()
                assert found == sorted(sharing, key=lambda item: (-(item % 7), item))[:limit]


def test_explaining_changes_nothing_else(model):
    prompts = random_prompts(3, seed=4)
    explained, short = model.search(*prompts, 30, explain=True), model.search(*prompts, 30)
    for row, own in zip(explained, short):
        assert [dataclasses.replace(hit, level_scores=None) for hit in row] == own
        for hit in row:
            assert len(hit.level_scores) == 3 and max(hit.level_scores) <= 1e-6
            assert sum(hit.level_scores) == pytest.approx(hit.score, abs=1e-5)


@pytest.mark.parametrize("arguments", [{"num_beams": 0}, {"top_k": 0}, {"items_per_sid": -1}])
def test_counts_below_one_are_refused(model, arguments):
    with pytest.raises(ValueError, match="at least 1"):
        model.search(torch.tensor([[0, 5, 2]]), **arguments)


def test_an_unknown_normalisation_is_refused(model):
    with pytest.raises(ValueError, match="normalize='levels'.*'children', 'level', 'vocabulary'"):
        model.search(torch.tensor([[0, 5, 2]]), normalize="levels")


def test_a_checkpoint_searches_by_its_own_settings(name_of_kind, tmp_path):
    model = MAKERS[name_of_kind](CODEBOOK_SIZES, CODES)
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES, popularity=np.arange(300) % 7))
    model.search_config = SearchConfig(num_beams=40, rank_by="item", items_per_sid=1)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.search_config == model.search_config and type(model).search_config == SearchConfig()
    prompts = random_prompts(3, seed=4)
    settings = {"num_beams": 40, "rank_by": "item", "items_per_sid": 1}
    expected = model.search(*prompts, top_k=30, **settings)
    assert loaded.search(*prompts, top_k=30) == expected
    for name, value in {
        "num_beams": 2,
        "rank_by": "sid",
        "items_per_sid": 5,
    }.items():  # each of them counts, and can be overruled
        assert loaded.search(*prompts, top_k=30, **{name: value}) != expected, name
    assert loaded.search_sids(*prompts)[1].shape == (3, 40)


def test_the_result_counts_the_beams_of_each_query(model, monkeypatch):
    input_ids, attention_mask = random_prompts(3, seed=4)
    few = model.sid_index.filter(items=["item-3", "item-70"])
    result = model.retrieve(input_ids, attention_mask, 20, item_filter=[None, few, None])
    assert result.beams == [20, len({tuple(CODES[row]) for row in (3, 70)}), 20] and result.invalid == [0, 0, 0]
    assert result.hits == model.search(input_ids, attention_mask, 20, item_filter=[None, few, None])
    search = search_onesearch.beam_search

    def with_a_sid_of_no_item(*args, **kwargs):
        beams = search(*args, **kwargs)
        beams.leaves[1, 4] = -1
        return beams

    monkeypatch.setattr(search_onesearch, "beam_search", with_a_sid_of_no_item)
    assert model.retrieve(input_ids, attention_mask, 20).invalid == [0, 1, 0]


def test_one_search_sees_one_state_of_the_catalogue(name_of_kind, monkeypatch):
    """Every item found is removed between the beam search and the expansion of its SIDs."""
    model = MAKERS[name_of_kind](CODEBOOK_SIZES, CODES)
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES))
    prompts = random_prompts(2, seed=4)
    expected = model.retrieve(*prompts, 20)
    search = search_onesearch.beam_search

    def then_update(*args, **kwargs):
        beams = search(*args, **kwargs)
        model.sid_index.remove_items([hit.item_id for hit in expected.hits[0]])
        return beams

    monkeypatch.setattr(search_onesearch, "beam_search", then_update)
    assert model.retrieve(*prompts, 20) == expected
    monkeypatch.undo()
    assert not {hit.item_id for hit in model.search(*prompts, 20)[0]} & {hit.item_id for hit in expected.hits[0]}


def test_searching_leaves_no_trace(model):
    prompts = random_prompts(3, seed=4)
    first = model.search(*prompts, 20)
    model.search(*random_prompts(7, seed=5), 64, item_filter=model.sid_index.filter(categories=["coats"]))
    assert model.search(*prompts, 20) == first
    assert not any(parameter.grad is not None for parameter in model.parameters())
