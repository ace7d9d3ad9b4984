"""Hard negatives: each source gives what its name says, from the level of the schedule on."""

from __future__ import annotations

import numpy as np
import torch
from tiny import random_codes

from onesearch.modeling_onesearch.item_encoder_unisearch import partial_sums
from onesearch.trainers.unisearch.negatives import HardNegatives
from onesearch.trainers.unisearch.unisearch_config import NegativeSchedule

SIZES = (4, 4, 4)


def drawn(schedule, level, items, beams=None):
    codes = random_codes(200, SIZES)
    negatives = HardNegatives(schedule, np.arange(200) // 20)
    negatives.set_codes(codes, SIZES)
    return codes, negatives.rows(level, items, beams, np.random.default_rng(0))


def test_the_first_level_has_the_batch_alone_and_later_ones_more():
    schedule = NegativeSchedule(memory=2, category=2, prefix=3, beam=3, count=5, beam_rows=10)
    assert [schedule.sources(level) for level in range(3)] == [
        [],
        ["memory", "category"],
        ["memory", "category", "prefix", "beam"],
    ]
    assert drawn(schedule, 0, np.arange(9))[1].shape == (9, 0)
    assert drawn(schedule, 1, np.arange(9))[1].shape == (9, 10)
    assert NegativeSchedule(memory=0, category=0, prefix=0, beam=0).sources(2) == []


def test_negatives_of_a_category_and_of_a_prefix_share_it_with_the_positive():
    items = np.arange(0, 200, 7)
    _, rows = drawn(NegativeSchedule(memory=0, category=1, prefix=0, beam=0, count=30), 0, items)
    there = rows >= 0
    assert there.mean() > 0.9 and (rows // 20 == (items // 20)[:, None])[there].all() and not (rows == items[:, None]).any()
    for level in (1, 2):
        codes, rows = drawn(NegativeSchedule(memory=0, category=0, prefix=2, beam=0, count=30), level, items)
        there = rows >= 0
        assert there.any() and (codes[rows][:, :, :level] == codes[items][:, None, :level])[there].all()


def test_beams_are_taken_as_they_were_found():
    items, beams = np.array([3, 5]), np.array([[3, 9, -1], [7, 8, 1]])
    schedule = NegativeSchedule(memory=0, category=0, prefix=0, beam=1, count=2, beam_rows=1)
    assert drawn(schedule, 0, items, beams)[1].tolist() == [[-1, 9], [7, 8]]


def test_vectors_of_negatives_are_the_sums_up_to_their_level():
    bank = torch.randn(200, 3, 8)
    negatives = HardNegatives(NegativeSchedule(memory=2, category=0, prefix=0, beam=0, count=4), np.full(200, -1))
    items = np.arange(6)
    levels = negatives.draw(items, bank, None, np.random.default_rng(1), bank, "sphere")
    assert levels[0] is None
    random = np.random.default_rng(1)
    for level in (1, 2):
        rows = random.integers(0, 200, (6, 4))
        expected = partial_sums(bank, bank, "sphere")[torch.from_numpy(rows), level]
        torch.testing.assert_close(levels[level].vectors, expected)
        assert torch.equal(levels[level].is_there, torch.from_numpy(rows != items[:, None]))
