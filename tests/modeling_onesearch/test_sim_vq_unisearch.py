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
    books, vectors = quantizer(sid_quantizer=kind), torch.randn(9, 3, 16)
    found = books(vectors)
    for level, book in enumerate(books.level_vectors()):
        assert torch.equal(found.codes[:, level], torch.cdist(vectors[:, level], book).argmin(1))
        torch.testing.assert_close(found.vectors[:, level], book[found.codes[:, level]])
    torch.testing.assert_close(found.codebook_loss, (found.vectors - vectors).square().sum(-1))
    torch.testing.assert_close(found.commitment_loss, found.codebook_loss)


def test_residual_levels_quantise_what_is_left_of_the_sum():
    books, vectors = quantizer(sid_quantizer="residual"), torch.randn(6, 3, 16)
    found = books(vectors)
    left = vectors.sum(1)
    for level, book in enumerate(books.level_vectors()):
        code = torch.cdist(left, book).argmin(1)
        assert torch.equal(found.codes[:, level], code)
        left = left - book[code]


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


def test_a_level_quantises_what_the_codes_before_it_lost():
    books, vectors = quantizer(sid_carry=True), torch.randn(6, 3, 16, requires_grad=True)
    found = books(vectors)
    lost = torch.zeros(6, 16)
    for level, book in enumerate(books.level_vectors()):
        wanted = vectors[:, level].detach() + lost
        torch.testing.assert_close(found.inputs[:, level].detach(), wanted)
        assert torch.equal(found.codes[:, level], torch.cdist(wanted, book).argmin(1))
        lost = (wanted - book[found.codes[:, level]]).detach()
    total = (vectors.sum(1) - found.vectors.sum(1)).detach()
    torch.testing.assert_close(total, lost)  # what all codes together lose is what the last one loses
    (gradient,) = torch.autograd.grad(found.inputs[:, 2].sum(), vectors)
    assert gradient[:, :2].abs().sum() == 0 and gradient[:, 2].abs().sum() > 0
    assert torch.equal(quantizer()(vectors).inputs, vectors)


def test_single_codes_can_move():
    for kind in ("sim-vq", "vq"):
        level, wanted = quantizer(sid_quantizer=kind).levels[0], torch.randn(2, 16)
        if level.map is not None:
            torch.nn.init.normal_(level.map.weight)
            torch.nn.init.normal_(level.map.bias)
        before = level.vectors().detach()
        level.move_codes(torch.tensor([1, 5]), wanted)
        torch.testing.assert_close(level.vectors()[[1, 5]], wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(level.vectors()[[0, 2, 3, 4, 6, 7]], before[[0, 2, 3, 4, 6, 7]])


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
