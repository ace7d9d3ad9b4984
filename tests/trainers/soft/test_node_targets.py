"""The teacher's masses at the nodes of the trie, by hand and by the chain rule."""

from __future__ import annotations

import pytest
import torch

from onesearch.trainers.soft.node_targets import code_distribution, divergence, node_weights

SIDS = torch.tensor([[[0, 1], [0, 2], [3, 1], [0, 2]]])
MASSES = torch.tensor([[0.4, 0.1, 0.3, 0.2]])
"""Four items, two of which share a Semantic ID."""


def distributions(path):
    weights = node_weights(SIDS, MASSES, torch.tensor([[path]]))[:, 0]
    return [code_distribution(weights[:, level], SIDS[..., level], 4)[0] for level in range(2)]


def test_a_child_has_the_mass_under_it():
    first, second = distributions([0, 1])
    torch.testing.assert_close(first, torch.tensor([0.7, 0.0, 0.0, 0.3]))
    torch.testing.assert_close(second, torch.tensor([0.0, 4 / 7, 3 / 7, 0.0]))
    _, second = distributions([3, 0])
    torch.testing.assert_close(second, torch.tensor([0.0, 1.0, 0.0, 0.0]))


def test_a_node_without_an_item_expects_nothing():
    first, second = distributions([2, 1])
    torch.testing.assert_close(first, torch.tensor([0.7, 0.0, 0.0, 0.3]))
    assert not second.any()
    assert float(divergence(second[None], torch.randn(1, 4).log_softmax(-1))) == 0.0


def test_a_row_without_a_list_expects_nothing():
    assert not node_weights(SIDS, torch.zeros(1, 4), torch.tensor([[[0, 1]]])).any()


def test_the_divergences_along_paths_add_up_to_that_of_the_items():
    """The expectation over the teacher's own paths, exactly: every item once, by its mass."""
    torch.manual_seed(0)
    levels, size = 3, 4
    sids = torch.cartesian_prod(*[torch.arange(size)] * levels)[torch.randperm(size**levels)[:12]][None]
    masses = torch.rand(1, 12)
    masses /= masses.sum()
    conditional = {}  # log-probabilities of a model after every prefix

    def log_p(prefix):
        return conditional.setdefault(prefix, torch.randn(size, dtype=torch.float64).log_softmax(-1))

    weights = node_weights(sids.expand(1, -1, -1), masses, sids)  # (1, paths, levels, items)
    along = 0.0
    for place, sid in enumerate(sids[0].tolist()):
        for level in range(levels):
            expected = code_distribution(weights[0, place, level][None], sids[..., level], size)
            along += float(masses[0, place] * divergence(expected.double(), log_p(tuple(sid[:level]))[None]))
    whole = 0.0
    for place, sid in enumerate(sids[0].tolist()):
        log_model = sum(float(log_p(tuple(sid[:level]))[sid[level]]) for level in range(levels))
        whole += float(masses[0, place]) * (float(masses[0, place].log()) - log_model)
    assert along == pytest.approx(whole, rel=1e-5)


def test_the_divergence_takes_a_gradient_and_counts_barred_codes_as_nothing():
    logits = torch.tensor([[1.0, 2.0, torch.finfo(torch.float32).min]], requires_grad=True)
    expected = torch.tensor([[0.5, 0.5, 0.0]])
    found = divergence(expected, logits.log_softmax(-1))
    found.sum().backward()
    p = torch.tensor([1.0, 2.0]).softmax(0)
    assert float(found) == pytest.approx(float((0.5 * (0.5 / p).log()).sum()), rel=1e-5)
    torch.testing.assert_close(logits.grad[0, :2], p - 0.5)
