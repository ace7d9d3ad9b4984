"""Lists of a teacher: their masses, the file, and lists of other programs."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.tokenization_sid.ragged import Ragged
from onesearch.trainers.soft.best_items import BestItems
from onesearch.trainers.soft.lists import TeacherLists, given_lists


def lists():
    items, scores = (
        Ragged.of([[5, 3], [], [7]]),
        Ragged(np.log(np.array([3.0, 1.0, 2.0], dtype=np.float32)), np.array([0, 2, 2, 3])),
    )
    return TeacherLists(np.array([2, 4, 6]), np.array([2, 4, 9]), items, scores)


def test_masses_are_the_softmax_of_the_scores():
    found = lists().masses(np.array([2, -1, 0, 1]), 1.0)
    assert found.items.tolist() == [[7, -1], [-1, -1], [5, 3], [-1, -1]]
    np.testing.assert_allclose(found.scores, [[1, 0], [0, 0], [0.75, 0.25], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(lists().masses(np.array([0]), 0.5).scores, [[0.9, 0.1]], atol=1e-6)


def test_a_session_has_the_list_of_its_own_request():
    """An empty list counts as none, and so does that of a request that nobody made."""
    assert lists().number_of(10).tolist() == [-1, -1, 0, -1, -1, -1, -1, -1, -1, -1]
    assert lists().observed.tolist() == [True, True, False]


def test_the_file_holds_what_was_saved_and_where_it_comes_from(tmp_path):
    path = tmp_path / "lists.parquet"
    lists().save(path, "abc", {"teacher": "reward"})
    found = TeacherLists.load(path, "abc")
    for name in ("sessions", "asked"):
        assert vars(found)[name].tolist() == vars(lists())[name].tolist()
    assert found.items.tolist() == lists().items.tolist() and found.scores.tolist() == lists().scores.tolist()
    assert json.loads(pq.read_schema(path).metadata[b"provenance"]) == {"teacher": "reward"}
    with pytest.raises(ValueError, match=r"belongs to .*remove the file"):
        TeacherLists.load(path, "other")
    path.write_bytes(path.read_bytes()[:-20] + b"x" + path.read_bytes()[-19:])
    with pytest.raises(ValueError, match="damaged"):
        TeacherLists.load(path, "abc")


def test_the_best_items_come_first():
    found = BestItems.of(np.array([[4, -1, 6, 8]]), np.array([[1.0, 9.0, 3.0, 3.0]]), 3)
    assert found.items.tolist() == [[6, 8, 4]] and found.scores.tolist() == [[3.0, 3.0, 1.0]]
    assert BestItems.of(np.array([[-1]]), np.array([[1.0]]), 3).items.tolist() == [[-1]]


def given(tmp_path, **columns):
    path = tmp_path / "given.parquet"
    known = {
        "session_id": ["b", "x", "a"],
        "item_ids": [["p", "?", "q"], ["p"], ["q"]],
        "scores": [[1.0, 5.0, 2.0], [0.0], [0.5]],
    }
    pq.write_table(pa.table({name: column for name, column in {**known, **columns}.items() if column is not None}), path)
    return str(path)


def test_lists_of_another_program_are_sorted_and_cut(tmp_path):
    """Items and sessions that the market lacks are passed over."""
    found = given_lists(given(tmp_path), ["a", "b"], ["p", "q"], 5)
    assert found.sessions.tolist() == found.asked.tolist() == [1, 0]
    assert found.items.tolist() == [[1, 0], [1]] and found.scores.tolist() == [[2.0, 1.0], [0.5]]
    assert given_lists(given(tmp_path), ["a", "b"], ["p", "q"], 1).items.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"scores": None}, r"lacks scores; it needs the columns"),
        ({"scores": [[1.0], [0.0], [0.5]]}, r"session 'b' has 3 items"),
        ({"scores": [[1.0, float("nan"), 2.0], [0.0], [0.5]]}, r"session 'b'.*finite"),
        ({"session_id": ["u", "v", "w"]}, r"no list of a session of the market.*'u', 'v', 'w'"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, columns, words):
    with pytest.raises(ValueError, match=words):
        given_lists(given(tmp_path, **columns), ["a", "b"], ["p", "q"], 5)
