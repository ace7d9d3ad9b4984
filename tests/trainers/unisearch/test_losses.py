"""Losses of UniSearch against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_unisearch

from onesearch.modeling_onesearch.item_encoder_unisearch import partial_sums
from onesearch.trainers.unisearch.losses import (
    Negatives,
    codebook_loss,
    contrastive_loss,
    info_nce,
    similarities,
    token_loss,
)


def test_only_the_last_vector_of_a_sum_learns():
    """sg[Σ_{m<n} d⁽ᵐ⁾] + d⁽ⁿ⁾."""
    vectors = torch.randn(4, 3, 8, requires_grad=True)
    sums = partial_sums(vectors, vectors, bound="ball")
    torch.testing.assert_close(sums, vectors.cumsum(1))
    for level in range(3):
        (gradient,) = torch.autograd.grad(sums[:, level].sum(), vectors, retain_graph=True)
        touched = gradient.abs().sum((0, 2)) > 0
        assert touched.tolist() == [place == level for place in range(3)]
    assert partial_sums(vectors, None, bound="sphere") is vectors


def test_the_similarity_is_one_minus_the_squared_distance():
    queries, vectors = torch.randn(3, 8), torch.randn(5, 8)
    torch.testing.assert_close(similarities(queries, vectors), 1 - torch.cdist(queries, vectors) ** 2, atol=1e-4, rtol=1e-4)
    queries, vectors = F.normalize(queries, dim=-1), F.normalize(vectors, dim=-1)
    torch.testing.assert_close(similarities(queries, vectors), 2 * queries @ vectors.T - 1, atol=1e-5, rtol=1e-5)


def test_info_nce_is_the_cross_entropy_of_the_own_item():
    queries, vectors = torch.randn(4, 8), torch.randn(4, 8)
    positives = torch.arange(4)
    is_same = torch.eye(4).bool()
    found = info_nce(queries, vectors, positives, is_same, 0.5)
    logits = (1 - torch.cdist(queries, vectors) ** 2) / 0.5
    torch.testing.assert_close(found, F.cross_entropy(logits, positives, reduction="none"), atol=1e-4, rtol=1e-4)


def test_the_same_item_again_and_absent_negatives_do_not_count():
    queries, vectors = torch.randn(3, 8), torch.randn(3, 8)
    vectors[2] = vectors[0]
    positives = torch.arange(3)
    is_same = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()
    found = info_nce(queries, vectors, positives, is_same, 1.0)
    alone = info_nce(queries[:1], vectors[:2], positives[:1], is_same[:1, :2], 1.0)
    torch.testing.assert_close(found[0], alone[0])
    absent = Negatives(torch.randn(3, 2, 8), torch.zeros(3, 2).bool())
    torch.testing.assert_close(info_nce(queries, vectors, positives, is_same, 1.0, absent), found)
    there = Negatives(vectors[None, :1].expand(3, 1, 8), torch.tensor([[True], [True], [True]]))
    assert (info_nce(queries, vectors, positives, is_same, 1.0, there) > found).all()


def test_the_contrastive_loss_sums_over_the_levels():
    queries, sums = torch.randn(4, 8), torch.randn(4, 3, 8)
    shared = torch.arange(4), torch.eye(4).bool(), 0.2
    levels = [info_nce(queries, sums[:, n], *shared).mean() for n in range(3)]
    torch.testing.assert_close(contrastive_loss(queries, sums, *shared), sum(levels))


def test_codebook_and_commitment_losses_and_the_weighted_token_loss():
    quantised = tiny_unisearch().model.quantizer(torch.randn(5, 3, 16))
    squared = quantised.codebook_loss.sum(1).mean()
    torch.testing.assert_close(codebook_loss(quantised, 0.25), 1.25 * squared)
    log_probs, weights = torch.full((2, 3), -math.log(2)), torch.tensor([0.5, 1.5])
    assert float(token_loss(log_probs, weights)) == pytest.approx(math.log(2))
    uneven = torch.tensor([[-1.0, -1.0], [-3.0, -3.0]])
    assert float(token_loss(uneven, weights)) == pytest.approx((0.5 * 1 + 1.5 * 3) / 2)
