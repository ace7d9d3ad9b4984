"""Samples without replacement have the probabilities of drawing SIDs one by one, and the scores of teacher forcing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from tiny import SID_MODELS, random_codes, random_prompts, tiny_index, tiny_model

from onesearch.modeling_onesearch.sampling_onesearch import sample_without_replacement
from onesearch.modeling_onesearch.trie_onesearch import SidTrie

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(90, CODEBOOK_SIZES, seed=4)

SMALL = np.array([[0, 0, 0], [0, 0, 1], [0, 2, 1], [1, 1, 1], [2, 0, 0], [2, 3, 2]])
"""Six SIDs: shared prefixes of one and two codes, and one that is alone after its first code."""


def table_step(tables):
    """A model whose logits at a level are those of the table's row of the last code; the same for all queries."""

    def step(codes, parents, level):
        rows = tables[0][None].expand(step.queries, -1) if level == 0 else tables[level][codes.flatten()]
        return rows.clone(), None

    return step


def small_model(queries):
    random = torch.Generator().manual_seed(1)
    step = table_step(
        [torch.randn(4, generator=random), *(torch.randn(4, 4, generator=random) for _ in range(2))],
    )
    step.queries = queries
    return step, SidTrie.build(SMALL, (4, 4, 4))


def probabilities(step, trie):
    """Probability of every SID, by its number: the whole trie as a sample."""
    step.queries = 1
    whole = sample_without_replacement(step, trie, len(trie), [0])
    return whole.scores[0].double().exp()[whole.leaves[0].argsort()]


def test_sets_have_the_probabilities_of_drawing_one_by_one():
    """Two of six SIDs: 30 ordered samples, against p(first) · p(second) / (1 − p(first))."""
    draws = 15_000
    step, trie = small_model(draws)
    p = probabilities(step, trie)
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-6)
    step.queries = draws
    found = sample_without_replacement(step, trie, 2, range(draws))
    first, second = found.leaves.T
    counts = torch.bincount(first * 6 + second, minlength=36).double() / draws
    for one, other in permutations(range(6), 2):
        wanted = float(p[one] * p[other] / (1 - p[one]))
        assert float(counts[one * 6 + other]) == pytest.approx(wanted, abs=4.5 * (wanted / draws) ** 0.5 + 1e-4)
    assert all(counts[sid * 7] == 0 for sid in range(6))  # never the same twice


def test_inclusion_probabilities_weigh_a_sample_to_the_mean_of_all():
    """Σ f · p / q over a sample is unbiased (Horvitz–Thompson), whatever f is."""
    draws = 8_000
    step, trie = small_model(draws)
    p = probabilities(step, trie)
    step.queries = draws
    f = torch.tensor([3.0, -1.0, 0.5, 7.0, 0.0, 2.0])
    found = sample_without_replacement(step, trie, 3, range(draws))
    estimates = (f[found.leaves] * (found.scores - found.log_inclusion).exp()).sum(1)
    error = float(estimates.std()) / draws**0.5
    assert float(estimates.mean()) == pytest.approx(float((p * f).sum()), abs=4 * error)
    everything = sample_without_replacement(step, trie, 6, range(draws))  # a sample of all is the mean itself, draw by draw
    whole = (f[everything.leaves] * (everything.scores - everything.log_inclusion).exp()).sum(1)
    torch.testing.assert_close(whole, torch.full_like(whole, float((p * f).sum())), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", SID_MODELS)
@pytest.mark.parametrize("change", ["none", "filter", "updates"])
def test_samples_are_distinct_sids_of_the_catalogue_with_the_scores_of_teacher_forcing(kind, change):
    model = SID_MODELS[kind](CODEBOOK_SIZES, CODES)
    categories = [["shoes"] if row % 3 else ["coats"] for row in range(90)]
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES, categories=categories))
    own = model.sid_index.filter(categories=["coats"]) if change == "filter" else None
    if change == "updates":
        model.sid_index.remove_items(model.sid_index.item_ids[::4])
        taken = set(map(tuple, model.sid_index.codes.tolist()))
        free = [sid for sid in np.ndindex(*CODEBOOK_SIZES) if sid not in taken][::9]
        model.sid_index.add_items([f"new-{number}" for number in range(len(free))], np.array(free))
    input_ids, mask = random_prompts(4, seed=2)
    found = model.sample_sids(input_ids, mask, 12, seeds=[5, 6, 7, 8], item_filter=own)
    known, _ = model.search_sids(input_ids, mask, 200, own)
    allowed = {tuple(sid) for sid in known[0].tolist()}
    for row in found.codes.tolist():
        sids = [tuple(sid) for sid in row]
        assert len(set(sids)) == 12 and set(sids) <= allowed
    levels = model.score_sids(input_ids, found.codes, mask, own)
    torch.testing.assert_close(found.level_scores, levels, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.scores, levels.sum(-1), atol=2e-5, rtol=0)


def test_a_sample_depends_on_its_seed_and_not_on_its_batch():
    model = tiny_model(CODEBOOK_SIZES, CODES)
    input_ids, mask = random_prompts(5, seed=3)
    together = model.sample_sids(input_ids, mask, 6, seeds=range(10, 15))
    alone = model.sample_sids(input_ids[3:4], mask[3:4], 6, seeds=[13])
    assert alone.codes[0].tolist() == together.codes[3].tolist()
    other = model.sample_sids(input_ids[3:4], mask[3:4], 6, seeds=[14])
    assert other.codes[0].tolist() != alone.codes[0].tolist()


def test_a_catalogue_with_fewer_sids_gives_all_of_them_with_certainty():
    model = tiny_model((4, 4, 4), SMALL)
    input_ids, mask = random_prompts(2, seed=3)
    found = model.sample_sids(input_ids, mask, 9)
    assert found.codes.shape == (2, 6, 3) and {tuple(sid) for sid in found.codes[0].tolist()} == set(map(tuple, SMALL.tolist()))
    assert not found.log_inclusion.any()
    torch.testing.assert_close(found.scores.exp().sum(1), torch.ones(2), atol=1e-5, rtol=0)


def test_temperature_flattens_the_distribution_and_a_low_one_finds_the_best():
    model = tiny_model(CODEBOOK_SIZES, CODES)
    input_ids, mask = random_prompts(3, seed=2)
    best, _ = model.search_sids(input_ids, mask, 90)
    cold = model.sample_sids(input_ids, mask, 1, temperature=1e-4)
    greedy = []  # at temperature 0 each level takes its most likely code
    for row in range(3):
        levels = model.score_sids(input_ids[row : row + 1], best[row : row + 1], mask[row : row + 1])[0]
        greedy.append(max(range(len(levels)), key=lambda sid: levels[sid].tolist()))
    assert [best[row, place].tolist() for row, place in enumerate(greedy)] == cold.codes[:, 0].tolist()
    hot = model.sample_sids(input_ids, mask, 90, temperature=1e4)
    assert float(hot.level_scores[..., 0].std()) < 1e-2  # all first codes are alike
    for value, text in ((0.0, "temperature=0.0 must be above 0"), (-1.0, "temperature=-1.0")):
        with pytest.raises(ValueError, match=text):
            model.sample_sids(input_ids, mask, 2, temperature=value)
    with pytest.raises(ValueError, match="num_samples=0"):
        model.sample_sids(input_ids, mask, 0)
    with pytest.raises(ValueError, match="2 seeds for 3 prompts"):
        model.sample_sids(input_ids, mask, 2, seeds=[1, 2])
