"""Rollouts are distinct SIDs of the catalogue, and hold the log's own SIDs where they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SID_MODELS, random_codes, random_prompts

from onesearch.trainers.grpo.rollouts import draw_rollouts

CODEBOOK_SIZES = (8, 4, 4)
CODES = np.unique(random_codes(60, CODEBOOK_SIZES, seed=4), axis=0)


def draw(kind="encoder-decoder", codes=CODES, rows=3, **settings):
    model = SID_MODELS[kind](CODEBOOK_SIZES, codes)
    input_ids, mask = random_prompts(rows, seed=2)
    prompts = {"input_ids": input_ids, "attention_mask": mask}
    return draw_rollouts(model, prompts, [{}] * rows, seeds=range(rows), **settings)


@pytest.mark.parametrize("kind", SID_MODELS)
@pytest.mark.parametrize("how", ["sample", "beam"])
def test_a_group_holds_distinct_sids_of_the_catalogue(kind, how):
    found = draw(kind, how=how, group=10)
    known = set(map(tuple, CODES.tolist()))
    for group in found.codes.tolist():
        assert len(set(map(tuple, group))) == 10 and set(map(tuple, group)) <= known
    assert found.is_sid.all() and not found.is_expert.any()


def test_experts_take_the_last_places_and_none_twice():
    plain = draw(group=4)
    new = next(sid for sid in CODES.tolist() if sid not in plain.codes[0].tolist())
    held = plain.codes[1, 3].tolist()  # drawn last: it must not be replaced by the other expert
    none = [-1, -1, -1]
    fresh = [sid for sid in CODES.tolist() if sid not in plain.codes[2].tolist()][:2]
    other = next(sid for sid in CODES.tolist() if sid not in plain.codes[1].tolist())
    experts = torch.tensor([[new, new], [held, other], fresh])
    found = draw(group=4, experts=experts)
    assert found.codes[0].tolist() == [*plain.codes[0, :3].tolist(), new]
    assert found.codes[1].tolist() == [*plain.codes[1, :2].tolist(), other, held]
    assert found.codes[2].tolist() == [*plain.codes[2, :2].tolist(), fresh[1], fresh[0]]
    assert found.is_expert.tolist() == [[False] * 3 + [True], [False, False, True, False], [False, False, True, True]]
    untouched = draw(group=4, experts=torch.tensor([[none]] * 3))
    assert torch.equal(untouched.codes, plain.codes) and not untouched.is_expert.any()


@pytest.mark.parametrize("how", ["sample", "beam"])
def test_a_catalogue_smaller_than_a_group_leaves_places_empty(how):
    found = draw(codes=CODES[:3], how=how, group=5)
    assert found.is_sid.tolist() == [[True] * 3 + [False] * 2] * 3
    assert (found.codes[:, 3:] == -1).all()


def test_weights_estimate_the_mean_over_the_policys_own_distribution():
    """Over many seeds, the weighted mean of a group is the mean of all SIDs; beams and experts weigh alike."""
    model = SID_MODELS["encoder-decoder"](CODEBOOK_SIZES, CODES)
    input_ids, mask = random_prompts(1, seed=2)
    best, scores = model.search_sids(input_ids, mask, len(CODES))
    wanted = float((scores[0].exp() * best[0, :, 0]).sum())  # of the first code, say
    draws = 3000
    prompts = {"input_ids": input_ids.expand(draws, -1), "attention_mask": mask.expand(draws, -1)}
    found = draw_rollouts(model, prompts, [{}] * draws, group=12, seeds=range(draws))
    torch.testing.assert_close(found.weights.mean(1), torch.ones(draws))
    estimates = (found.weights * found.codes[..., 0]).mean(1)
    assert float(estimates.mean()) == pytest.approx(wanted, abs=0.05)
    plain = float(found.codes[..., 0].float().mean())
    assert abs(plain - wanted) > 0.1  # without weights rare SIDs count too often
    assert draw(how="beam", group=4).weights.unique().tolist() == [1.0]
