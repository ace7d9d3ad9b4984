"""The projection of a prompt's states: its loss, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.dense.projection import DenseExamples, contrast, train_projection


def test_the_loss_is_that_of_the_wanted_item_among_batch_and_beams():
    items = np.eye(3, dtype=np.float32)
    examples = DenseExamples(items[[0, 0]], np.ones((2, 1), np.float32), np.array([0, 1]), np.array([[2, -1], [0, 2]]))
    loss = contrast(examples, torch.from_numpy(items), torch.zeros(3, 1), temperature=1.0)
    # the first: wanted 1, the batch's other 0, beam 0; the second, whose query is item 0: wanted 0, other 1, beams 1 and 0
    first = -1 + np.log(np.e + 1 + 1)
    second = -0 + np.log(1 + np.e + np.e + 1)
    assert float(loss) == pytest.approx((first + second) / 2, abs=1e-6)


def test_equal_targets_of_a_batch_are_no_negatives_of_each_other():
    items = np.eye(2, dtype=np.float32)
    examples = DenseExamples(items[[0, 0]], np.ones((2, 1), np.float32), np.array([0, 0]), np.full((2, 1), -1))
    assert float(contrast(examples, torch.from_numpy(items), torch.zeros(2, 1), 1.0)) == pytest.approx(0, abs=1e-6)


def some(kind, count=400):
    """Queries that say nothing, and states that tell the wanted item (or are noise)."""
    random = np.random.default_rng(0)
    items = unit_rows(random.normal(size=(30, 8)))
    targets = random.integers(0, 30, count)
    queries = unit_rows(random.normal(size=(count, 8)))
    states = items[targets] if kind == "telling" else unit_rows(random.normal(size=(count, 8)))
    return DenseExamples(queries, states, targets, random.integers(0, 30, (count, 5))), items


def test_a_projection_learns_what_the_states_tell():
    examples, items = some("telling")
    weight = train_projection(examples, items, DenseConfig(epochs=100, learning_rate=0.03))
    h = unit_rows(examples.queries + unit_rows(examples.states) @ weight.T)
    assert (np.argmax(h @ items.T, axis=1) == examples.targets).mean() > 0.9


def test_no_projection_is_kept_that_held_out_examples_do_not_want():
    examples, items = some("noise")
    assert train_projection(examples, items, DenseConfig(epochs=2, learning_rate=0.5)) is None
    assert train_projection(examples.take(np.arange(5)), items, DenseConfig()) is None  # too few
    assert train_projection(examples, items, DenseConfig(epochs=0)) is None


@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("batch_size", 1), ("temperature", 0), ("searches", 0)])
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"dense.{name}={value} is invalid"):
        DenseConfig(**{name: value})
