"""The quantizer: nearest codes, what its losses move, and two gradients of a quantised vector."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import gradients, tiny_unisearch

from onesearch.modeling_onesearch.sim_vq_unisearch import rotated, straight_through


def quantizer(**changes):
    return tiny_unisearch(**changes).model.quantizer


@pytest.mark.parametrize("kind", ["sim-vq", "vq"])
def test_each_vector_gets_its_nearest_code(kind):
    books, vectors = quantizer(sid_quantizer=kind, sid_input="own"), torch.randn(9, 3, 16)
    found = books(vectors)
    assert torch.equal(found.inputs, vectors)
    for level, book in enumerate(books.level_vectors()):
        assert torch.equal(found.codes[:, level], torch.cdist(vectors[:, level], book).argmin(1))
        torch.testing.assert_close(found.vectors[:, level], book[found.codes[:, level]])
    torch.testing.assert_close(found.codebook_loss, (found.vectors - vectors).square().sum(-1))
    torch.testing.assert_close(found.commitment_loss, found.codebook_loss)


@pytest.mark.parametrize(
    ("given", "bound"), [("whole", "sphere"), ("whole", "ball"), ("partial", "sphere"), ("partial", "ball")]
)
def test_a_level_quantises_what_the_codes_before_it_left_of_the_sum(given, bound):
    books, vectors = quantizer(sid_input=given, vector_bound=bound), torch.randn(6, 3, 16, requires_grad=True)
    found, coded = books(vectors), torch.zeros(6, 16)
    for level, book in enumerate(books.level_vectors()):
        total = vectors.detach()[:, : level + 1 if given == "partial" else 3].sum(1)
        left = (F.normalize(total, dim=-1) if bound == "sphere" else total) - coded
        torch.testing.assert_close(found.inputs[:, level].detach(), left)
        assert torch.equal(found.codes[:, level], torch.cdist(left, book).argmin(1))
        coded = coded + book[found.codes[:, level]].detach()
    (gradient,) = torch.autograd.grad(found.inputs[:, 1].sum(), vectors)
    moved = gradient.abs().sum((0, 2)) > 0  # of a partial sum only the last vector learns, as in the contrast
    assert moved.tolist() == ([True] * 3 if given == "whole" else [False, True, False])


@pytest.mark.parametrize(("kind", "moved"), [("sim-vq", ("map.weight", "map.bias")), ("vq", ("codebook",))])
def test_the_codebook_loss_moves_the_map_of_sim_vq_and_the_codes_of_plain_vq(kind, moved):
    books = quantizer(sid_quantizer=kind)
    vectors = torch.randn(5, 3, 16, requires_grad=True)
    found = books(vectors)
    found.codebook_loss.sum().backward()
    assert set(gradients(books)) == {f"levels.{level}.{name}" for level in range(3) for name in moved} and vectors.grad is None
    books.zero_grad()
    found = books(vectors)
    found.commitment_loss.sum().backward()
    assert vectors.grad is not None and not gradients(books)


def test_a_step_of_sim_vq_moves_codes_that_no_item_uses():
    books = quantizer(sid_quantizer="sim-vq")
    before = books.level_vectors()[0].detach().clone()
    found = books(torch.randn(1, 3, 16).expand(4, -1, -1))  # one code in use
    found.codebook_loss.sum().backward()
    with torch.no_grad():
        books.levels[0].map.weight -= 0.1 * books.levels[0].map.weight.grad
    moved = (books.level_vectors()[0] - before).abs().amax(1)
    assert (moved > 1e-5).sum() > 1


def test_code_vectors_can_start_from_data():
    level, data = quantizer().levels[0], torch.randn(8, 16)
    level.start_from(data)
    torch.testing.assert_close(level.vectors(), data)


def test_both_gradients_give_the_code_vector_forward():
    vectors, chosen = torch.randn(7, 16, requires_grad=True), torch.randn(7, 16)
    for estimate in (straight_through, rotated):
        torch.testing.assert_close(estimate(vectors, chosen), chosen, atol=1e-5, rtol=1e-5)
    weights = torch.randn(7, 16)
    (straight_through(vectors, chosen) * weights).sum().backward()
    torch.testing.assert_close(vectors.grad, weights)


def test_the_rotation_keeps_the_angle_between_gradient_and_code_vector():
    """The rotation trick's property: the gradient stands to d as it stood to c, scaled by ‖c‖ / ‖d‖."""
    vectors, chosen, weights = torch.randn(7, 16, requires_grad=True), torch.randn(7, 16), torch.randn(7, 16)
    (rotated(vectors, chosen) * weights).sum().backward()
    torch.testing.assert_close(
        F.cosine_similarity(vectors.grad, vectors.detach()), F.cosine_similarity(weights, chosen), atol=1e-4, rtol=1e-4
    )
    scale = chosen.norm(dim=-1) / vectors.detach().norm(dim=-1)
    torch.testing.assert_close(vectors.grad.norm(dim=-1), scale * weights.norm(dim=-1), atol=1e-4, rtol=1e-4)
