"""Work on blocks: every row once, errors come out, the limits are as before afterwards."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from onesearch.tokenization_sid.parallel.threads import Workers, _threads
from onesearch.tokenization_sid.quantizers.nearest import nearest


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 10, 11])
def test_every_row_is_worked_on_once_by_as_many_threads_as_allowed(threads, count):
    seen, names = np.zeros(count, dtype=int), set()

    def work(rows):
        names.add(threading.current_thread().name)
        seen[rows] += 1
        assert _threads() == 1 or count <= 5

    with threadpool_limits(threads):
        before = _threads()
        with Workers(5) as workers:
            workers.run(count, work)
            workers.run(count, work)
        assert _threads() == before
    assert (seen == 2).all() and len(names) <= threads


def test_an_error_comes_out_and_leaves_the_limits_as_they_were():
    def work(rows):
        raise ValueError(f"row {rows.start}")

    with threadpool_limits(2):
        before = _threads()
        with pytest.raises(ValueError, match="row 0"), Workers(5) as workers:
            workers.run(20, work)
        assert _threads() == before


def test_threads_that_search_at_once_do_not_share_memory():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(6000, 8)).astype(np.float32)
    books = [random.normal(size=(size, 8)).astype(np.float32) for size in (3, 50, 200)]
    found = {}
    threads = [threading.Thread(target=lambda row=row: found.update({row: nearest(vectors, books[row])})) for row in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row, book in enumerate(books):
        assert np.array_equal(found[row], ((vectors[:, None] - book) ** 2).sum(axis=2).argmin(axis=1))
