"""Given SIDs and items get, by teacher forcing, the scores that the beam search gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SID_MODELS, random_codes, random_prompts, tiny_index

from onesearch.modeling_onesearch.search_onesearch import NORMALISATIONS

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(90, CODEBOOK_SIZES, seed=4)
POPULARITY = np.arange(90) % 7
CATEGORIES = [["shoes"] if row % 3 else ["coats"] for row in range(90)]


@pytest.fixture(params=SID_MODELS)
def model(request):
    model = SID_MODELS[request.param](CODEBOOK_SIZES, CODES)
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES, popularity=POPULARITY, categories=CATEGORIES))
    return model


def with_updates(index):
    """Some SIDs lose all of their items, and some are new."""
    index.remove_items(index.item_ids[::4])
    taken = set(map(tuple, index.codes.tolist()))
    free = [sid for sid in np.ndindex(*CODEBOOK_SIZES) if sid not in taken][::9]
    index.add_items([f"new-{number}" for number in range(len(free))], np.array(free))


@pytest.mark.parametrize("normalize", NORMALISATIONS)
@pytest.mark.parametrize("change", ["none", "updates", "filter"])
def test_given_sids_score_as_in_a_beam_of_the_whole_catalogue(model, normalize, change):
    if change == "updates":
        with_updates(model.sid_index)
    own = model.sid_index.filter(categories=["coats"]) if change == "filter" else None
    input_ids, mask = random_prompts(3, seed=2)
    codes, scores = model.search_sids(input_ids, mask, 200, own, normalize)
    order = torch.stack([torch.randperm(codes.shape[1], generator=torch.Generator().manual_seed(row)) for row in range(3)])
    shuffled = codes.gather(1, order[..., None].expand(-1, -1, codes.shape[2]))
    levels = model.score_sids(input_ids, shuffled, mask, own, normalize)
    torch.testing.assert_close(levels.sum(-1), scores.gather(1, order), atol=1e-5, rtol=0)
    if normalize == "children":
        torch.testing.assert_close(levels.sum(-1).exp().sum(1), torch.ones(3), atol=1e-4, rtol=0)


def test_a_sid_of_no_item_has_no_probability_and_few_cost_no_more_rows(model):
    input_ids, mask = random_prompts(2, seed=2)
    known = set(map(tuple, CODES.tolist()))
    free = next(sid for sid in np.ndindex(*CODEBOOK_SIZES) if sid not in known)
    sids = torch.tensor([[free, CODES[0].tolist()], [CODES[1].tolist(), [-1, -1, -1]]])
    totals = model.score_sids(input_ids, sids, mask).sum(-1)
    assert torch.isinf(totals).tolist() == [[True, False], [False, True]] and not totals.isnan().any()
    with pytest.raises(ValueError, match=r"sids \(2, 2, 2\): expected \(2, any number, 3\)"):
        model.score_sids(input_ids, sids[..., :2], mask)


def test_a_sid_that_leaves_the_trie_behind_a_certain_prefix_has_no_probability(model):
    known = CODES.tolist()
    single = next(sid for sid in known if sum(other[:2] == sid[:2] for other in known) == 1)
    sids = torch.tensor([[single, [*single[:2], (single[2] + 1) % 4]]])
    levels = model.score_sids(random_prompts(1, seed=2)[0], sids)
    assert torch.isfinite(levels[0, 0]).all() and levels[0, 0, 2] == 0
    assert levels[0, 1, 2] == -torch.inf and torch.equal(levels[0, 0, :2], levels[0, 1, :2])


@pytest.mark.parametrize("rank_by", ["sid", "item"])
def test_given_items_join_the_hits_with_the_scores_that_a_full_beam_gives_them(model, rank_by):
    with_updates(model.sid_index)
    index, prompts = model.sid_index, random_prompts(2, seed=7)
    everything = model.search(*prompts, 200, 200, items_per_sid=200, rank_by=rank_by, explain=True)
    named = [index.item_ids[::3], [*index.item_ids[1::5], index.item_ids[1]]]
    found = model.search(*prompts, 3, 4, rank_by=rank_by, explain=True, also=named)
    plain = model.search(*prompts, 3, 4, rank_by=rank_by, explain=True)
    for hits, beam, own, all_hits in zip(found, plain, named, everything):
        ids = [hit.item_id for hit in hits]
        assert len(ids) == len(set(ids)) and set(ids) == {hit.item_id for hit in beam} | set(own)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        known = {hit.item_id: hit for hit in all_hits}
        for hit in hits:
            assert hit.sid == known[hit.item_id].sid
            assert hit.score == pytest.approx(known[hit.item_id].score, abs=1e-5)
            assert hit.level_scores == pytest.approx(known[hit.item_id].level_scores, abs=1e-5)
        assert all(hit in hits for hit in beam)


def test_given_items_that_may_not_be_found_are_left_out(model):
    index, prompts = model.sid_index, random_prompts(2, seed=7)
    gone, *left = index.item_ids[:12]
    index.remove_items([gone])
    coats = index.filter(categories=["coats"], exclude=[left[2]])
    found = model.search(*prompts, 2, 2, item_filter=[coats, None], also=[[gone, "unknown", *left], [gone]])
    allowed = {item_id for item_id, passes in zip(left, index.contains(left, coats)) if passes}
    assert allowed == {left[5], left[8]}
    assert allowed <= {hit.item_id for hit in found[0]}
    assert all(index.contains([hit.item_id], coats)[0] for hit in found[0])
    assert [hit.item_id for hit in found[1]] == [hit.item_id for hit in model.search(*prompts, 2, 2)[1]]
    with pytest.raises(ValueError, match="also of 1 rows for 2 prompts"):
        model.search(*prompts, also=[[]])
