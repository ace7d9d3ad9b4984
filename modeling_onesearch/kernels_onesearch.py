"""One step of the beam search on a processor, compiled by numba where it is installed (`pip install onesearch[fast]`).

Optional: without numba the search runs on torch operations, with the same results. Compiled once per machine, at the first search; numba
keeps the machine code beside this file or in its cache folder.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from math import factorial

import numpy as np

try:
    from numba import njit
except ImportError:
    njit = None

AVAILABLE = njit is not None


def _compiled(function):  # noqa: ANN001, ANN202
    return function if njit is None else njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function)


@_compiled
def _gather(children, count, inner_starts, leaf_starts, codes, inner, state, inner_alive, leaf_alive):  # noqa: ANN001, ANN202
    """Append the living children of `state` to columns 0 (code) and 1 (state) of `children`; returns how many there are then."""
    if state >= 0:
        for place in range(inner_starts[state], inner_starts[state + 1]):
            if len(inner_alive) == 0 or inner_alive[place]:
                children[0, count], children[1, count] = codes[place], place
                count += 1
        for leaf in range(leaf_starts[state], leaf_starts[state + 1]):
            if len(leaf_alive) == 0 or leaf_alive[leaf]:
                children[0, count], children[1, count] = codes[inner + leaf], -2 - leaf
                count += 1
    elif state <= -2:
        children[0, count], children[1, count] = codes[inner - 2 - state], state
        count += 1
    return count


@_compiled
def _merge(children, count, stop, place_of_code):  # noqa: ANN001, ANN202
    """Fold the children `count` … `stop`, which the added SIDs gave, into those before them; returns how many are left."""
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
def _log_total(logits, row, children, count, values, powers, scales, scales_as_floats):  # noqa: ANN001, ANN202
    """Collect the children's logits in `values`; returns the log of their summed exponentials.

    e^x is 2^n times a polynomial on [-1/2, 1/2], n written into the exponent bits of a float: loops that a compiler turns into vector
    instructions. The relative error is below 2e-7.
    """
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
def _sink(scores, entries, size):  # noqa: ANN001, ANN202
    """Restore the heap (smallest score first) after its root was replaced."""
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
def _rise(scores, entries, place):  # noqa: ANN001, ANN202
    """Restore the heap after an entry was put at its end."""
    score, entry = scores[place], entries[place]
    while place > 0:
        parent = (place - 1) // 2
        if scores[parent] <= score:
            break
        scores[place], entries[place] = scores[parent], entries[parent]
        place = parent
    scores[place], entries[place] = score, entry


@_compiled
def _push(heap, entries, size, beams, score):  # noqa: ANN001, ANN202
    """Put a score on the heap of the best `beams`, in place of the worst one if it is full; returns its entry, or -1 if it is too low."""
    if size < beams:
        heap[size], entries[size] = score, size
        _rise(heap, entries, size)
        return size
    if score <= heap[0]:
        return -1
    entry = entries[0]
    heap[0] = score
    _sink(heap, entries, size)
    return entry


@_compiled
def _keep_rested(heap, entries, found, scores, states, live, count, query):  # noqa: ANN001, ANN202
    """Put the beams that are not among the `count` live ones on the heap; returns its size."""
    size, at = 0, 0
    beams = scores.shape[1]
    for place in range(beams):
        if at < count and live[query, at] == place:
            at += 1
        elif scores[query, place] > -np.inf:
            entry = _push(heap, entries, size, beams, scores[query, place])
            found[0, entry], found[1, entry], found[2, entry] = place, -1, 0
            found[3, entry], found[4, entry] = states[0, query, place], states[1, query, place]
            size += 1
    return size


@_compiled
def _grow(heap, entries, found, size, place, row, rest, children, count, values):  # noqa: ANN001, ANN202
    """Put the children of one beam on the heap, each with `rest` plus its value as score; returns the heap's size."""
    beams = len(heap)
    for child in range(count):
        value = rest + values[child]
        if size == beams and value <= heap[0]:
            continue
        entry = _push(heap, entries, size, beams, value)
        size = min(size + 1, beams)
        found[0, entry], found[1, entry], found[2, entry] = place, row, children[0, child]
        found[3, entry], found[4, entry] = children[1, child], children[2, child]
    return size


@_compiled
def _take_out(heap, entries, found, size, query, level, settle, history, after, codes, rows):  # noqa: ANN001, ANN202
    """Write the heap into the frontier `after`, best first, with the code and row of its live beams, those first and in order."""
    scores, states, own_history, live, counts = after
    for place in range(size - 1, -1, -1):
        entry = entries[0]
        scores[query, place] = heap[0]
        states[0, query, place], states[1, query, place] = found[3, entry], found[4, entry]
        for past in range(level):
            own_history[query, place, past] = history[query, found[0, entry], past]
        own_history[query, place, level] = heap[0]
        codes[query, place], rows[query, place] = found[2, entry], found[1, entry]
        heap[0], entries[0] = heap[place], entries[place]
        _sink(heap, entries, place)
    kept = 0
    for place in range(size):
        inner, more = states[0, query, place], states[1, query, place]
        if not settle or inner >= 0 or more >= 0 or (inner <= -2 and more <= -2):
            live[query, kept] = place
            codes[query, kept], rows[query, kept] = codes[query, place], rows[query, place]
            kept += 1
    for place in range(kept, size):
        codes[query, place], rows[query, place] = 0, 0
    counts[query] = kept


@_compiled
def _advance(base, alive, added, settle, level, before, after, logits, totals, scratch, codes, rows):  # noqa: ANN001, ANN202
    """See `advance`; fills `after`, `codes` and `rows`."""
    scores, states, history, live, counts = before
    children, place_of_code, values, powers, scales, scales_as_floats, heap, entries, found, everything = scratch
    for query in range(scores.shape[0]):
        size = _keep_rested(heap, entries, found, scores, states, live, counts[query], query)
        for slot in range(counts[query]):
            place = live[query, slot]
            score = scores[query, place]
            if size == len(heap) and score <= heap[0]:  # a log-probability is at most 0: no child of it can enter
                continue
            row = query * live.shape[1] + slot
            count = _gather(children, 0, base[0], base[1], base[2], base[3], states[0, query, place], alive[0], alive[1])
            for child in range(count):
                children[2, child] = -1
            own = states[1, query, place]
            if own != -1:
                stop = _gather(children, count, added[0], added[1], added[2], added[3], own, everything, everything)
                count = _merge(children, count, stop, place_of_code)
            if count:
                total = _log_total(logits, row, children, count, values, powers, scales, scales_as_floats)
                if len(totals):
                    total = totals[row]
                size = _grow(heap, entries, found, size, place, row, score - total, children, count, values)
        _take_out(heap, entries, found, size, query, level, settle, history, after, codes, rows)


def advance(base, alive, added, settle, level, frontier, logits, totals):  # noqa: ANN001, ANN201
    """One level: the best beams of each query among the children of its live beams and the beams at rest.

    Args:
        base, added: (inner_starts, leaf_starts, codes, inner count) of the level; see `SidTrie`.
        alive: (marks of the level's inner nodes, marks of all leaves) of `base`; empty arrays where all count.
        settle: whether beams with a single SID left rest.
        frontier: (scores (queries, beams), states (2, queries, beams) in `base` and in `added`, history (queries, beams, levels), live
            (queries, width) places of the beams that the model ran for, counts (queries,) of them). A score of -inf marks no beam.
        logits: (queries * width, codes) of the level.
        totals: (queries * width,) log-normaliser of each row, or empty: the log-sum over the allowed children.

    Returns:
        the next frontier, with the code (queries, beams) and the row among `logits` (queries, beams) of each of its live beams.
    """
    queries, beams = frontier[0].shape
    width = logits.shape[1]
    after = (
        np.full((queries, beams), -np.inf, dtype=np.float32),
        np.full((2, queries, beams), -1, dtype=np.int64),
        np.zeros_like(frontier[2]),
        np.zeros((queries, beams), dtype=np.int64),
        np.zeros(queries, dtype=np.int64),
    )
    codes, rows = np.zeros((queries, beams), dtype=np.int64), np.zeros((queries, beams), dtype=np.int64)
    scales = np.empty(width, dtype=np.int32)
    scratch = (
        np.empty(
            (3, 2 * width), dtype=np.int64
        ),  # children: code, state in `base`, state in `added`; of both tries until merged
        np.full(width, -1, dtype=np.int64),  # place of each code among the children
        np.empty(width, dtype=np.float32),
        np.empty(width, dtype=np.float32),
        scales,
        scales.view(np.float32),
        np.empty(beams, dtype=np.float32),  # heap of scores
        np.empty(beams, dtype=np.int64),  # its entries
        np.empty((5, beams), dtype=np.int64),  # by entry: place in the frontier, row, code, state in `base`, state in `added`
        np.empty(0, dtype=np.bool_),
    )
    _advance(base, alive, added, settle, level, frontier, after, logits, totals, scratch, codes, rows)
    return after, codes, rows
