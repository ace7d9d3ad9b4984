"""One level of the beam search on the CPU, compiled by numba where it is installed (`pip install onesearch[fast]`).

Without numba the search runs on torch operations, with the same results. The functions are compiled once per machine, at the first search;
numba keeps the machine code beside this file or in its cache folder.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import factorial
from typing import TypeVar, cast

import numpy as np

from .kernel_arrays_onesearch import BeamArrays, Buffers, Heap, LevelTables, Marks, Step

try:
    from numba import njit

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function, cache: bool = False) -> Function:
    """Compile a function with numba; leave it as plain Python without numba.

    Args:
        function: the function.
        cache: keep its machine code on disk. The code of `advance` contains that of the functions that it calls.
    """
    if not AVAILABLE:
        return function
    compiled = njit(cache=cache, nogil=True, fastmath={"reassoc", "contract"})(function)
    return cast(Function, compiled)


@_compiled
def _gather(children: np.ndarray, count: int, tables: LevelTables, state: int, marks: Marks) -> int:
    """Append the active children of `state` to rows 0 (code) and 1 (state) of `children`; return how many children there are then."""
    if state >= 0:
        for place in range(tables.inner_starts[state], tables.inner_starts[state + 1]):
            if len(marks.inner) == 0 or marks.inner[place]:
                children[0, count], children[1, count] = tables.codes[place], place
                count += 1
        for leaf in range(tables.leaf_starts[state], tables.leaf_starts[state + 1]):
            if len(marks.leaves) == 0 or marks.leaves[leaf]:
                children[0, count], children[1, count] = tables.codes[tables.inner + leaf], -2 - leaf
                count += 1
    elif state <= -2:
        children[0, count], children[1, count] = tables.codes[tables.inner - 2 - state], state
        count += 1
    return count


@_compiled
def _merge(children: np.ndarray, count: int, stop: int, place_of_code: np.ndarray) -> int:
    """Merge the children `count` … `stop` of the added trie into those of the base trie before them; return how many are left.

    Invariant: `place_of_code` is -1 throughout before and after.
    """
    for place in range(count):
        place_of_code[children[0, place]] = place
    kept = count
    for place in range(count, stop):
        code, state = children[0, place], children[1, place]
        same = place_of_code[code]
        if same < 0:
            children[0, kept], children[1, kept], children[2, kept] = code, -1, state
            kept += 1
        else:
            children[2, same] = state
    for place in range(count):
        place_of_code[children[0, place]] = -1
    return kept


@_compiled
def _log_total(logits: np.ndarray, row: int, count: int, buffers: Buffers) -> float:
    """Copy the logits of the first `count` children into `buffers.values`; return the log of their summed exponentials.

    1. e^x = 2^(n + r) with n whole and r in [-1/2, 1/2].
    2. 2^r is its Taylor polynomial of degree 6; the relative error is below 2e-7.
    3. 2^n is written as bits into the exponent of a float.

    All loops are free of calls and branches, so that the compiler turns them into vector instructions.

    Args:
        logits: (rows, codes) float32.
        row: the row of the beam.
        count: number of children, at least 1.
        buffers: `children` holds the codes; `values`, `powers` and `scales` are overwritten.
    """
    children, values, powers, scales = buffers.children, buffers.values, buffers.powers, buffers.scales
    scales_as_floats = buffers.scales_as_floats
    top = logits[row, children[0, 0]]
    for place in range(count):
        values[place] = logits[row, children[0, place]]
        top = max(top, values[place])
    for place in range(count):
        power = max((values[place] - top) * LOG2_E, LEAST_POWER)
        whole = np.floor(power + HALF)
        rest = power - whole
        powers[place] = ONE + rest * (E1 + rest * (E2 + rest * (E3 + rest * (E4 + rest * (E5 + rest * E6)))))
        scales[place] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    total = np.float32(0)
    for place in range(count):
        total += powers[place] * scales_as_floats[place]
    return top + np.log(total)


HALF, ONE, LOG2_E, LEAST_POWER = np.float32(0.5), np.float32(1), np.float32(np.log2(np.e)), np.float32(-126)
E1, E2, E3, E4, E5, E6 = (np.float32(np.log(2.0) ** n / factorial(n)) for n in range(1, 7))
"""Taylor coefficients of 2^x."""


@_compiled
def _sink(scores: np.ndarray, entries: np.ndarray, size: int) -> None:
    """Restore the heap of `size` scores, smallest first, after its root was replaced."""
    place = 0
    score, entry = scores[0], entries[0]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and scores[child + 1] < scores[child]:
            child += 1
        if scores[child] >= score:
            break
        scores[place], entries[place] = scores[child], entries[child]
        place = child
    scores[place], entries[place] = score, entry


@_compiled
def _rise(scores: np.ndarray, entries: np.ndarray, place: int) -> None:
    """Restore the heap after a score was put at its end, `place`."""
    score, entry = scores[place], entries[place]
    while place > 0:
        parent = (place - 1) // 2
        if scores[parent] <= score:
            break
        scores[place], entries[place] = scores[parent], entries[parent]
        place = parent
    scores[place], entries[place] = score, entry


@_compiled
def _push(scores: np.ndarray, entries: np.ndarray, size: int, score: float) -> int:
    """Put a score on the heap of `size` scores; if the heap is full it replaces the worst one. Return its entry, -1 if it is too low."""
    if size < len(scores):
        scores[size], entries[size] = score, size
        _rise(scores, entries, size)
        return size
    if score <= scores[0]:
        return -1
    entry = entries[0]
    scores[0] = score
    _sink(scores, entries, size)
    return entry


@_compiled
def _push_finished(heap: Heap, beams: BeamArrays, query: int) -> int:
    """Put the finished beams of a query on the empty heap; return the heap's size."""
    size, at = 0, 0
    for place in range(beams.scores.shape[1]):
        if at < beams.counts[query] and beams.active[query, at] == place:
            at += 1
        elif beams.scores[query, place] > -np.inf:
            entry = _push(heap.scores, heap.entries, size, beams.scores[query, place])
            heap.found[0, entry], heap.found[1, entry], heap.found[2, entry] = place, -1, 0
            heap.found[3, entry], heap.found[4, entry] = beams.states[0, query, place], beams.states[1, query, place]
            size += 1
    return size


@_compiled
def _push_children(heap: Heap, size: int, place: int, row: int, rest: float, count: int, buffers: Buffers) -> int:
    """Put the children of one beam on the heap, each with the score `rest` + value; return the heap's size.

    Args:
        heap: the candidates so far.
        size: number of candidates so far.
        place: place of the parent beam.
        row: row of its logits.
        rest: score of the parent minus the log-normaliser.
        count: number of children.
        buffers: `children` and `values` of the children.
    """
    for child in range(count):
        value = rest + buffers.values[child]
        if size == len(heap.scores) and value <= heap.scores[0]:
            continue
        entry = _push(heap.scores, heap.entries, size, value)
        size = min(size + 1, len(heap.scores))
        heap.found[0, entry], heap.found[1, entry], heap.found[2, entry] = place, row, buffers.children[0, child]
        heap.found[3, entry], heap.found[4, entry] = buffers.children[1, child], buffers.children[2, child]
    return size


@_compiled
def _pop_all(
    heap: Heap,
    size: int,
    query: int,
    level: int,
    finish_early: bool,
    before: BeamArrays,
    after: BeamArrays,
    codes: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Empty the heap into the beams `after`, best first, and write code and row of the active beams into the first places.

    Args:
        heap: the candidates of the query.
        size: number of candidates.
        query: the query.
        level: the level that was scored.
        finish_early: whether a prefix that only one SID has is finished.
        before: the beams before the level, for their history.
        after: the beams to fill.
        codes: (queries, beams) the codes to fill.
        rows: (queries, beams) the rows of the logits to fill.
    """
    for place in range(size - 1, -1, -1):
        entry = heap.entries[0]
        after.scores[query, place] = heap.scores[0]
        after.states[0, query, place], after.states[1, query, place] = heap.found[3, entry], heap.found[4, entry]
        for past in range(level):
            after.history[query, place, past] = before.history[query, heap.found[0, entry], past]
        after.history[query, place, level] = heap.scores[0]
        codes[query, place], rows[query, place] = heap.found[2, entry], heap.found[1, entry]
        heap.scores[0], heap.entries[0] = heap.scores[place], heap.entries[place]
        _sink(heap.scores, heap.entries, place)
    kept = 0
    for place in range(size):
        base, added = after.states[0, query, place], after.states[1, query, place]
        if not finish_early or base >= 0 or added >= 0 or (base <= -2 and added <= -2):
            after.active[query, kept] = place
            codes[query, kept], rows[query, kept] = codes[query, place], rows[query, place]
            kept += 1
    for place in range(kept, size):
        codes[query, place], rows[query, place] = 0, 0
    after.counts[query] = kept


@_compiled
def _no_beams(queries: int, beams: int, levels: int) -> BeamArrays:
    """Return arrays that hold no beam yet."""
    return BeamArrays(
        np.full((queries, beams), -np.inf, dtype=np.float32),
        np.full((2, queries, beams), -1, dtype=np.int64),
        np.zeros((queries, beams, levels), dtype=np.float32),
        np.zeros((queries, beams), dtype=np.int64),
        np.zeros(queries, dtype=np.int64),
    )


@_compiled
def _new_buffers(size: int) -> Buffers:
    """Return memory for the children of one beam on a level with `size` codes."""
    scales = np.empty(size, dtype=np.int32)
    return Buffers(
        np.empty((3, 2 * size), dtype=np.int64),
        np.full(size, -1, dtype=np.int64),
        np.empty(size, dtype=np.float32),
        np.empty(size, dtype=np.float32),
        scales,
        scales.view(np.float32),
    )


@partial(_compiled, cache=True)
def advance(
    base: LevelTables,
    marks: Marks,
    added: LevelTables,
    finish_early: bool,
    level: int,
    before: BeamArrays,
    logits: np.ndarray,
    totals: np.ndarray,
) -> Step:
    """Extend the beams of all queries by one level.

    For each query:

    1. Put the finished beams on a heap of the best scores, one place per beam.
    2. For each active beam, best first: gather its active children in the base trie and those in the added trie, merged by code.
       Normalise their logits, and put the children on the heap. A beam whose score is no better than the worst of a full heap is
       skipped without a look at its children, since a log-probability is at most 0.
    3. Empty the heap, best first, and list the beams that are still active.

    Invariant: after each beam the heap holds the best candidates seen so far. `before` is not changed.

    Args:
        base: the tables of the base trie for this level.
        marks: which of its inner nodes and leaves may be found.
        added: the tables of the added trie for this level; not read where a beam's state in the added trie is -1.
        finish_early: whether a prefix that only one SID has is finished.
        level: the level to score.
        before: the beams before the level.
        logits: (queries · slots, codes) float32, a row for each slot of `before.active`.
        totals: (queries · slots,) float32, the log-normaliser of each row; empty for the log-sum over the beam's children.
    """
    queries, beams = before.scores.shape
    after = _no_beams(queries, beams, before.history.shape[2])
    codes, rows = np.zeros((queries, beams), dtype=np.int64), np.zeros((queries, beams), dtype=np.int64)
    buffers = _new_buffers(logits.shape[1])
    heap = Heap(np.empty(beams, dtype=np.float32), np.empty(beams, dtype=np.int64), np.empty((5, beams), dtype=np.int64))
    all_marked = Marks(np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.bool_))
    children = buffers.children
    for query in range(queries):
        size = _push_finished(heap, before, query)
        for slot in range(before.counts[query]):
            place = before.active[query, slot]
            score = before.scores[query, place]
            if size == beams and score <= heap.scores[0]:
                continue
            row = query * before.active.shape[1] + slot
            count = _gather(children, 0, base, before.states[0, query, place], marks)
            for child in range(count):
                children[2, child] = -1
            state_in_added = before.states[1, query, place]
            if state_in_added != -1:
                stop = _gather(children, count, added, state_in_added, all_marked)
                count = _merge(children, count, stop, buffers.place_of_code)
            if count:
                total = _log_total(logits, row, count, buffers)
                if len(totals):
                    total = totals[row]
                size = _push_children(heap, size, place, row, score - total, count, buffers)
        _pop_all(heap, size, query, level, finish_early, before, after, codes, rows)
    slots = after.counts.max()
    active = np.ascontiguousarray(after.active[:, :slots])
    trimmed = BeamArrays(after.scores, after.states, after.history, active, after.counts)
    return Step(trimmed, np.ascontiguousarray(codes[:, :slots]), np.ascontiguousarray(rows[:, :slots]).reshape(-1))


@partial(_compiled, cache=True)
def follow(nodes: np.ndarray, tables: LevelTables, marks: Marks) -> None:
    """Replace each inner node by its only active child.

    Args:
        nodes: (n,) int64 states of prefixes. Inner nodes become the state of their child, or -1 if several children are active; other
            states stay.
        tables: the tables of the level of the children.
        marks: which of its inner nodes and leaves may be found.
    """
    for at in range(len(nodes)):
        node, count, only = nodes[at], 0, -1
        if node < 0:
            continue
        for place in range(tables.inner_starts[node], tables.inner_starts[node + 1]):
            if len(marks.inner) == 0 or marks.inner[place]:
                count += 1
                only = place
                if count > 1:
                    break
        if count < 2:
            for leaf in range(tables.leaf_starts[node], tables.leaf_starts[node + 1]):
                if len(marks.leaves) == 0 or marks.leaves[leaf]:
                    count += 1
                    only = -2 - leaf
                    if count > 1:
                        break
        nodes[at] = only if count == 1 else -1


@partial(_compiled, cache=True)
def attend(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    places: np.ndarray,
    head_size: int,
    scaling: float,
    mixed: np.ndarray,
) -> None:
    """Attention of each beam to its own codes.

    Args:
        query: (rows, width) float32.
        keys: (codes of all beams, width) float32.
        values: as `keys`.
        places: (rows, codes) int64, the rows of `keys` that hold the codes of each beam.
        head_size: width of a head.
        scaling: factor of the products.
        mixed: (rows, width) float32, to fill.
    """
    rows, codes = places.shape
    weights = np.empty(codes, dtype=np.float32)
    factor = np.float32(scaling)
    for row in range(rows):
        for begin in range(0, query.shape[1], head_size):
            top = np.float32(-np.inf)
            for code in range(codes):
                place, total = places[row, code], np.float32(0)
                for column in range(begin, begin + head_size):
                    total += query[row, column] * keys[place, column]
                weights[code] = total * factor
                top = max(top, weights[code])
            total = np.float32(0)
            for code in range(codes):
                weights[code] = np.exp(weights[code] - top)
                total += weights[code]
            for column in range(begin, begin + head_size):
                mixed[row, column] = 0
            for code in range(codes):
                place, share = places[row, code], weights[code] / total
                for column in range(begin, begin + head_size):
                    mixed[row, column] += share * values[place, column]


__all__ = ["AVAILABLE", "advance", "attend", "follow"]
