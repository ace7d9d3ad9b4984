"""The five losses against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from onesearch.tokenization_sid.embedding.alignment_losses import InBatchContrast, Weighted, rank_margin, relevance_regression

LEFT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
RIGHT = torch.tensor([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
PAIRS = torch.tensor([[0, 0], [1, 1], [2, 2]])
NONE = np.zeros((0, 2), dtype=np.int64)


def contrast(scores, masked=(), temperature=0.5):
    """Mean over both directions, one exponential at a time."""
    total = 0.0
    size = len(scores)
    for direction in (lambda i, j: (i, j), lambda i, j: (j, i)):
        for i in range(size):
            others = [direction(i, j) for j in range(size)]
            parts = [math.exp(scores[a][b] / temperature) for a, b in others if (a, b) not in masked]
            total -= math.log(math.exp(scores[i][i] / temperature) / sum(parts))
    return total / (2 * size)


def test_contrast_by_hand_and_as_in_sentence_transformers():
    loss = InBatchContrast(None, 0.5, NONE, symmetric=False).compute_loss_from_embeddings([LEFT, RIGHT], PAIRS)
    assert loss.item() == pytest.approx(contrast((LEFT @ RIGHT.T).tolist()), abs=1e-5)
    theirs = MultipleNegativesRankingLoss(
        None, scale=2.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    assert loss.item() == pytest.approx(theirs.compute_loss_from_embeddings([LEFT, RIGHT], None).item(), abs=1e-5)


def test_known_positives_are_no_negatives():
    known = np.array([[0, 0], [1, 1], [2, 2], [0, 2]])
    loss = InBatchContrast(None, 0.5, known, symmetric=False)
    expected = contrast((LEFT @ RIGHT.T).tolist(), masked={(0, 2)})
    assert loss.compute_loss_from_embeddings([LEFT, RIGHT], PAIRS).item() == pytest.approx(expected, abs=1e-5)
    assert expected < contrast((LEFT @ RIGHT.T).tolist())


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_mask_is_that_of_plain_python(symmetric):
    random = np.random.default_rng(0)
    known, labels = random.integers(0, 9, (12, 2)), random.integers(0, 9, (16, 2))
    allowed = {tuple(pair) for pair in known.tolist()}
    allowed |= {pair[::-1] for pair in allowed} if symmetric else set()
    expected = [
        [i != j and ((left, right) in allowed or symmetric and left == right) for j, (_, right) in enumerate(labels.tolist())]
        for i, (left, _) in enumerate(labels.tolist())
    ]
    mask = InBatchContrast(None, 0.5, known, symmetric).known_others(torch.from_numpy(labels))
    np.testing.assert_array_equal(mask.numpy(), expected)


def test_the_rank_margin_by_hand():
    query, bought, shown = LEFT, RIGHT, RIGHT.roll(1, dims=0)
    s, t = (query * bought).sum(dim=1).tolist(), (query * shown).sum(dim=1).tolist()
    expected = sum(max(0.0, 0.3 - u + v) for u, v in zip(s, t)) / 3
    loss = rank_margin(None, 0.3).compute_loss_from_embeddings([query, bought, shown], None)
    assert loss.item() == pytest.approx(expected, abs=1e-5) and expected > 0


def test_the_relevance_regression_by_hand():
    grades = torch.tensor([1.0, 0.0, 1 / 3])
    expected = ((0.8 - 1) ** 2 + (1.0 - 0) ** 2 + (0.6 - 1 / 3) ** 2) / 3
    loss = relevance_regression(None).compute_loss_from_embeddings([LEFT, RIGHT], grades)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_a_weight_scales_the_loss():
    class Constant(torch.nn.Module):
        def forward(self, sentence_features, labels):
            return torch.tensor(3.0)

    assert Weighted(Constant(), 0.5)([], None).item() == 1.5
