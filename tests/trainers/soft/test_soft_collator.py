"""Batches with the lists of sessions' requests, with those that examples hold, and with both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onesearch.tokenization_sid.ragged import Ragged
from onesearch.trainers.soft.lists import NO_LIST, TeacherLists
from onesearch.trainers.soft.soft_collator import SoftCollator

SIDS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
LISTS = TeacherLists(
    np.array([5, 6]),
    np.array([5, 7]),
    Ragged(np.array([2, 0]), np.array([0, 1, 2])),
    Ragged(np.zeros(2, np.float32), np.array([0, 1, 2])),
)


def example(request=NO_LIST, items=(), scores=()):
    """Lists as arrays, as `ArrowRows` gives them."""
    return {"request": request, "teacher_items": np.array(items, np.int32), "teacher_scores": np.array(scores, np.float32)}


def collator(lists=LISTS, temperature=1.0):
    return SoftCollator(lambda examples: {"input_ids": torch.zeros(len(examples), 1)}, lists, SIDS, temperature)


def test_an_example_s_own_list_stands_where_it_has_no_number():
    batch = collator()([example(1), example(items=[3, 1], scores=[np.log(3), 0.0]), example(), example(0)])
    assert batch["soft_masses"].numpy() == pytest.approx(np.array([[1, 0], [0.75, 0.25], [0, 0], [1, 0]]))
    assert batch["soft_sids"][1].tolist() == [[1, 1], [0, 1]] and batch["soft_sids"][0, 0].tolist() == [0, 0]
    assert batch["soft_alone"].tolist() == [True, False, False, False]  # the second list's query is another session's


def test_examples_hold_all_lists():
    batch = collator(None, 2.0)([example(items=[3, 1], scores=[2 * np.log(3), 0.0]), example()])
    assert batch["soft_masses"].numpy() == pytest.approx(np.array([[0.75, 0.25], [0, 0]]))
    assert not batch["soft_alone"].any()


def test_numbers_alone():
    batch = collator()([{"request": 0}, {"request": NO_LIST}])
    assert batch["soft_masses"].tolist() == [[1.0], [0.0]] and batch["soft_sids"][0, 0].tolist() == [1, 0]
