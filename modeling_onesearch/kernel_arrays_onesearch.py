"""The arrays that the compiled beam search works on, by name and shape.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LevelTables(NamedTuple):
    """The tables of one level of a trie as numpy arrays; see `TrieLevel`.

    Args:
        inner_starts: (parents + 1,) int32, where the run of inner children of each node begins.
        leaf_starts: (parents + 1,) int32, where the run of leaves of each node begins.
        codes: (inner + leaves,) int16 or int32, the codes of the inner nodes, then those of the leaves.
        inner: number of inner nodes.
    """

    inner_starts: np.ndarray
    leaf_starts: np.ndarray
    codes: np.ndarray
    inner: int


class Marks(NamedTuple):
    """Which children may be found; an empty array marks all. See `ActiveSids`.

    Args:
        inner: (inner nodes,) bool, the level's inner nodes.
        leaves: (SIDs,) bool, all leaves.
    """

    inner: np.ndarray
    leaves: np.ndarray


class BeamArrays(NamedTuple):
    """The beams of all queries. There are as many slots as the query with the most active beams needs.

    Args:
        scores: (queries, beams) float32, best first, -inf where there is no beam.
        states: (2, queries, beams) int64, the states in the base trie and in the added one.
        history: (queries, beams, levels) float32, the score of each beam after each level.
        active: (queries, slots) int64, the places of the active beams, ascending; places behind the first `counts` of a row are not read.
        counts: (queries,) int64, number of active beams.
    """

    scores: np.ndarray
    states: np.ndarray
    history: np.ndarray
    active: np.ndarray
    counts: np.ndarray


class Step(NamedTuple):
    """What `advance` returns.

    Args:
        beams: the beams after the level.
        codes: (queries, slots) int64, the last code of each active beam; 0 where a query has fewer.
        parents: (queries · slots,) int64, the row of the logits that each active beam extends; 0 where a query has fewer.
    """

    beams: BeamArrays
    codes: np.ndarray
    parents: np.ndarray


class Buffers(NamedTuple):
    """Memory for the children of one beam, used again for every beam.

    Args:
        children: (3, 2 · codes) int64: code, state in the base trie, state in the added trie. Twice as wide as the level has codes, since
            the children of both tries stand one after the other until they are merged.
        place_of_code: (codes,) int64, the place of each code among the children, -1 for a code that is not there.
        values: (codes,) float32, the logit of each child.
        powers: (codes,) float32, 2 to the fraction of each exponent.
        scales: (codes,) int32, the bits of the float 2 to the whole part of each exponent.
        scales_as_floats: (codes,) float32, the same memory.
    """

    children: np.ndarray
    place_of_code: np.ndarray
    values: np.ndarray
    powers: np.ndarray
    scales: np.ndarray
    scales_as_floats: np.ndarray


class Heap(NamedTuple):
    """The best candidates of one query so far, smallest score at the root.

    Args:
        scores: (beams,) float32, in heap order.
        entries: (beams,) int64, the entry of each score.
        found: (5, beams) int64, by entry: place of the parent beam, row of the logits (-1 for a finished beam), code, state in the base
            trie, state in the added trie.
    """

    scores: np.ndarray
    entries: np.ndarray
    found: np.ndarray


__all__ = ["BeamArrays", "Buffers", "Heap", "LevelTables", "Marks", "Step"]
