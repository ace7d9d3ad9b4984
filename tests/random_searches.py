"""Random searches on small catalogues, and the hits that each must have: all items scored one by one, in float64, without a trie.

`Searches` counts them. One search is one query; the queries of a batch share catalogue, filter and settings, and have logits of their own.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from oracles import PATHS, CatalogueOracle
from tiny import TEXT_TOKENS, random_prompts

from onesearch import SidIndex
from onesearch.modeling_onesearch.generation_onesearch import beam_search
from onesearch.modeling_onesearch.kernels_onesearch import AVAILABLE

NAMES = sorted({name for path in PATHS for name in path})
"""Names of categories; `categories` of a filter draws from them."""

CLOSE = 1e-4
"""Scores that differ by less may be in another order in float32."""


class Settings(NamedTuple):
    """Settings of a batch of searches."""

    beams: int
    top_k: int
    items_per_sid: int
    normalize: str
    rank_by: str
    compiled: bool

    @classmethod
    def draw(cls, random):
        """Draw settings; beams are often fewer than the catalogue has SIDs, and sometimes more."""
        beams = int(random.choice([1, 2, 3, 5, 10, 100]))
        top_k, items_per_sid = int(random.choice([1, 3, 10, 100])), int(random.choice([1, 2, 5, 100]))
        normalize, rank_by = str(random.choice(["children", "level"])), str(random.choice(["sid", "item"]))
        return cls(beams, top_k, items_per_sid, normalize, rank_by, AVAILABLE and bool(random.integers(2)))


class Expected(NamedTuple):
    """Hits that a batch of searches must have.

    Args:
        rows: (queries, items) rows of the catalogue, best first; the first `counts[query]` of them are hits.
        scores: (queries, items) their scores, -inf where there is no hit.
        counts: (queries,) number of hits.
        is_close: (queries,) whether a decision was as close as `CLOSE`, so that float32 may decide it in another way.
    """

    rows: np.ndarray
    scores: np.ndarray
    counts: np.ndarray
    is_close: np.ndarray


# The oracle


def passing(catalogue, items=None, exclude=None, categories=None):
    """Whether each item passes a filter: (items,) bool."""
    passes = np.ones(len(catalogue.ids), dtype=bool)
    if items is not None:
        passes &= np.isin(catalogue.ids, items)
    if exclude is not None:
        passes &= ~np.isin(catalogue.ids, exclude)
    if categories is not None:
        passes &= [bool(set(path) & set(categories)) for path in catalogue.paths]
    return passes


def sid_scores(sids, sizes, tables, beams, normalize):
    """Scores of the SIDs (n, levels), sorted, by beam search over all prefixes: (queries, n), -inf for those outside the beam.

    `tables` holds for each level the logits (queries, prefixes, codes); prefixes are counted as numbers with the codes as digits. The
    second result is whether a decision was close: (queries,).
    """
    scores, parents = np.zeros((len(tables[0]), 1)), np.zeros(1, dtype=np.int64)
    is_close, place = np.zeros(len(scores), dtype=bool), np.zeros(len(sids), dtype=np.int64)
    for level, size in enumerate(sizes):
        above = parents[place] * size + sids[:, level]
        prefixes, first, below = np.unique(above, return_index=True, return_inverse=True)
        parent_place = place[first]
        logits = tables[level][:, prefixes // size, prefixes % size].astype(np.float64)
        if normalize == "children":
            starts = np.flatnonzero(np.r_[True, np.diff(parent_place) > 0])
            totals = np.logaddexp.reduceat(logits, starts, axis=1)[:, parent_place]
        else:
            totals = np.logaddexp.reduce(tables[level].astype(np.float64), axis=2)[:, parents][:, parent_place]
        scores = scores[:, parent_place] + logits - totals
        if scores.shape[1] > beams:
            ordered = -np.sort(-scores, axis=1)
            last, next_one = ordered[:, [beams - 1]], ordered[:, [beams]]
            is_close |= ((next_one > -np.inf) & (last - next_one < CLOSE))[:, 0]
            scores = np.where(scores >= last, scores, -np.inf)
        parents, place = prefixes, below.reshape(-1)
    return scores, is_close


@np.errstate(invalid="ignore")  # the gap between two items that are no hits
def expected_hits(catalogue, passes, tables, settings):
    """Score every item that passes, and sort: by score, then popularity, then place in the catalogue."""
    rows = np.flatnonzero(passes)
    sids, sid_of = np.unique(np.array(catalogue.codes)[rows], axis=0, return_inverse=True)
    by_sid, is_close = sid_scores(sids, catalogue.codebook_sizes, tables, settings.beams, settings.normalize)
    popularity, sid_of = np.array(catalogue.popularity, dtype=np.float64)[rows], sid_of.reshape(-1)
    order = np.lexsort((rows, -popularity, sid_of))
    rows, popularity, sid_of = rows[order], popularity[order], sid_of[order]
    rank = np.arange(len(rows)) - np.searchsorted(sid_of, sid_of)
    scores = by_sid[:, sid_of]
    if settings.rank_by == "item":
        weights = np.maximum(popularity, 0) + 1
        scores = scores + np.log(weights / np.bincount(sid_of, weights)[sid_of])
    scores[:, rank >= settings.items_per_sid] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, best, axis=1)
    near = (scores[:, :-1] - scores[:, 1:] < CLOSE) & (sid_of[best][:, :-1] != sid_of[best][:, 1:])
    last = scores[:, [min(settings.top_k, scores.shape[1]) - 1]]
    is_close = is_close | (near & (scores[:, :-1] >= last - CLOSE)).any(axis=1)
    counts = np.minimum((scores > -np.inf).sum(axis=1), settings.top_k)
    return Expected(rows[best], scores, counts, is_close)


# Searches


class TableLogits:
    """A step function that looks logits up by query and prefix in the tables of `sid_scores`."""

    def __init__(self, tables, normalize):
        self.tables, self.normalize = [torch.from_numpy(table) for table in tables], normalize
        self.queries, self.prefixes = torch.arange(len(tables[0])), torch.zeros(len(tables[0]), dtype=torch.long)

    def __call__(self, codes, parents, level):
        table = self.tables[level]
        if level:
            self.prefixes = self.prefixes[parents] * self.tables[level - 1].shape[2] + codes.flatten()
            self.queries = self.queries[parents]
        logits = table[self.queries, self.prefixes]
        return logits, None if self.normalize == "children" else logits.logsumexp(-1)


def random_tables(random, sizes, queries, is_whole):
    """Random logits of every query and prefix. Whole numbers, `is_whole`, make many SIDs equally good."""
    prefixes = np.cumprod([1, *sizes[:-1]])
    tables = [random.normal(0, 2, (queries, prefix, size)).astype(np.float32) for prefix, size in zip(prefixes, sizes)]
    return [np.rint(table / 2) for table in tables] if is_whole else tables


def random_catalogue(random, large=0.15):
    """A catalogue of 1 … 60 items, in a share `large` of cases of 200 … 400, in small codebooks.

    It has SIDs with several items, prefixes with one SID, and items of equal popularity.
    """
    sizes = tuple(random.integers(1, 7, random.integers(1, 5)).tolist())
    items = int(random.integers(200, 401) if random.random() < large else random.integers(1, 61))
    codes = np.stack([random.integers(0, size, items) for size in sizes], axis=1)
    paths = [PATHS[place] for place in random.integers(0, len(PATHS), items)]
    return CatalogueOracle(sizes, codes, random.integers(-1, 4, items).astype(np.float32).tolist(), paths)


def random_conditions(random, ids, known):
    """Conditions of a filter, of a few items, many or almost all; empty for no filter. `known` are the categories of the index."""
    conditions = {}
    few, many = min(3, len(ids)), int(len(ids) * random.random())
    if random.random() < 0.3:
        conditions["items"] = random.choice(ids, random.choice([few, max(1, many)]), replace=False).tolist()
    if random.random() < 0.4:
        conditions["exclude"] = [*random.choice(ids, random.choice([few, many]), replace=False).tolist(), "no-item"]
    if known and random.random() < 0.3:
        conditions["categories"] = random.choice(known, random.integers(1, len(known) + 1), replace=False).tolist()
    return conditions


@dataclass
class Changes:
    """Random updates of an index and of its oracle.

    Args:
        removed: removed items (id, codes, popularity, path), some of which come back, also with another SID.
        added: number of items that were added so far.
    """

    removed: list = field(default_factory=list)
    added: int = 0

    def draw(self, random, catalogue):
        """Draw an update: the oracle of the catalogue after it, and a function that updates an index."""
        after = copy(catalogue)
        for name in ("ids", "codes", "popularity", "paths"):
            setattr(after, name, list(getattr(catalogue, name)))
        if random.random() < 0.5 and len(catalogue.ids) > 1:
            gone = random.choice(catalogue.ids, random.integers(1, min(8, len(catalogue.ids))), replace=False).tolist()
            after.remove(gone)
            self.removed += gone
            return after, lambda index: index.remove_items(gone)
        count, sizes = int(random.integers(1, 6)), catalogue.codebook_sizes
        back = [item_id for item_id in dict.fromkeys(self.removed) if item_id not in catalogue.ids][: random.integers(3)]
        ids = [*back, *(f"new-{self.added + place}" for place in range(count))]
        self.added += count
        codes = np.stack([random.integers(0, size, len(ids)) for size in sizes], axis=1)
        popularity = random.integers(0, 4, len(ids)).astype(np.float32)
        paths = [PATHS[place] for place in random.integers(0, len(PATHS), len(ids))]
        after.add(ids, codes, popularity, paths)
        return after, lambda index: index.add_items(ids, codes, popularity, paths)


@dataclass
class Searches:
    """Runs batches of random searches and counts them.

    Args:
        counts: number of searches by kind.
    """

    counts: Counter = field(default_factory=Counter)

    def check(self, index, catalogue, item_filter, passes, tables, settings, is_whole=False):
        """Search a batch by the machinery below the network, and compare every hit."""
        trie = index.trie if item_filter is None else item_filter.trie
        step = TableLogits(tables, settings.normalize)
        found = beam_search(
            step, trie, len(tables[0]), settings.beams, settings.normalize == "children", compiled=settings.compiled
        )
        assert (found.leaves[found.scores > -np.inf] >= 0).all(), "a beam is no SID of the catalogue"
        hits = index.hits(
            found.leaves, found.scores, settings.top_k, settings.items_per_sid, item_filter, rank_by=settings.rank_by
        )
        self.compare(hits, catalogue, passes, tables, settings, is_whole)
        self.counts["compiled" if settings.compiled else "torch"] += len(hits)

    def compare(self, hits, catalogue, passes, tables, settings, is_whole=False):
        """Compare the hits of a batch with those of the oracle."""
        expected = expected_hits(catalogue, passes, tables, settings)
        is_exhaustive = settings.beams >= len(catalogue.ids)
        allowed = {item_id: tuple(code) for item_id, code, one in zip(catalogue.ids, catalogue.codes, passes) if one}
        ids, counts = np.array(catalogue.ids), expected.counts.tolist()
        for query, found in enumerate(hits):
            names = [hit.item_id for hit in found]
            scores = np.array([hit.score for hit in found])
            assert all(allowed.get(hit.item_id) == hit.sid for hit in found), "an item that does not pass, or another SID"
            assert len(set(names)) == len(names), "an item twice"
            assert (scores[1:] <= scores[:-1]).all(), "not in the order of the scores"
            assert len(names) == counts[query] or (expected.is_close[query] and not is_exhaustive)
            wanted = ids[expected.rows[query, : counts[query]]].tolist()
            if names == wanted or not expected.is_close[query]:
                assert names == wanted, f"query {query}: {names} instead of {wanted}"
            else:
                self.counts["close"] += not is_whole
                self.check_sids_in_order(found, catalogue)
            if names == wanted or is_exhaustive:
                assert np.abs(scores - expected.scores[query, : len(scores)]).max(initial=0) < CLOSE
        self.counts["searches"] += len(hits)
        self.counts["hits"] += sum(map(len, hits))

    @staticmethod
    def check_sids_in_order(hits, catalogue):
        """Items of one SID come by popularity, then by their place in the catalogue."""
        keys = [(hit.sid, -catalogue.popularity[row], row) for hit in hits for row in [catalogue.ids.index(hit.item_id)]]
        for sid in {key[0] for key in keys}:
            own = [key for key in keys if key[0] == sid]
            assert own == sorted(own), "items of one SID are not in the order of their popularity"

    def run(self, seed, count, path, queries):
        """Run at least `count` searches; each catalogue is updated between its batches, and between filter and search.

        Every fifth catalogue is written to the file `path` and read again after updates, merged or beside it.
        """
        random, stop = np.random.default_rng(seed), self.counts["searches"] + count
        while self.counts["searches"] < stop:
            catalogue, changes = random_catalogue(random), Changes()
            index, is_written = catalogue.index(), random.random() < 0.2
            if is_written:
                index.save(path)
            for _ in range(int(random.integers(1, 9))):
                settings, is_whole = Settings.draw(random), random.random() < 0.1
                if is_whole:  # beams of equal scores compete, and any of them may be kept
                    settings = settings._replace(beams=1000)
                conditions = random_conditions(random, catalogue.ids, index.categories)
                passes = passing(catalogue, **conditions)
                item_filter = index.filter(**conditions) if conditions and passes.any() else None
                snapshot, before = index.snapshot(), catalogue
                for _ in range(int(random.integers(3))):
                    catalogue, change = changes.draw(random, catalogue)
                    change(index)
                    self.counts["updates"] += 1
                if item_filter is None:
                    passes = np.ones(len(before.ids), dtype=bool)
                else:  # also through the index that was updated since
                    self.counts["filtered"] += queries
                    snapshot = index if random.random() < 0.5 else snapshot
                tables = random_tables(random, catalogue.codebook_sizes, queries, is_whole)
                self.check(snapshot, before, item_filter, passes, tables, settings, is_whole)
                if is_written:
                    (index.save if random.random() < 0.5 else index.save_updates)(path)
                    index = SidIndex.load(path)

    def run_beside_updates(self, seed, count, queries, threads=3):
        """Run at least `count` searches in threads, while another thread updates the index all the time."""
        turn, stop = 0, self.counts["searches"] + count
        while self.counts["searches"] < stop:
            turn += 1
            random = np.random.default_rng([seed, turn])
            catalogue = random_catalogue(random)
            known, index, done = {_key(catalogue.index()): catalogue}, catalogue.index(), threading.Event()
            with ThreadPoolExecutor(threads + 1) as pool:
                updating = pool.submit(self._update, random, index, catalogue, known, done)
                parts = [Searches() for _ in range(threads)]
                running = [
                    pool.submit(part._search_beside, [seed, turn, place], index, known, queries)
                    for place, part in enumerate(parts)
                ]
                try:
                    for one in running:
                        one.result()
                finally:
                    done.set()
            self.counts["updates"] += updating.result()
            for part in parts:
                self.counts.update(part.counts)

    @staticmethod
    def _update(random, index, catalogue, known, done):
        """Update the index until the searches are done, and note each catalogue before it can be seen; returns how often."""
        changes = Changes()
        for number in range(400):
            catalogue, change = changes.draw(random, catalogue)
            known[_key(catalogue.index())] = catalogue
            change(index)
            if done.wait(0.001):
                return number + 1
        return 400

    def _search_beside(self, seed, index, known, queries, batches=40):
        """Search an index that another thread updates; whatever a search sees must be one of the `known` catalogues."""
        random = np.random.default_rng(seed)
        for _ in range(batches):
            settings, snapshot, item_filter = Settings.draw(random), index.snapshot(), None
            conditions = random_conditions(random, snapshot.item_ids, snapshot.categories)
            if random.random() < 0.5:  # the items of a filter of the index itself may be gone meanwhile
                conditions.pop("items", None)
                snapshot = index
            try:
                item_filter = snapshot.filter(**conditions) if conditions else None
            except ValueError as error:
                assert "keeps no item" in str(error)
                conditions = {}
            if item_filter is None:
                snapshot = snapshot.snapshot()
            catalogue = known[_key(snapshot if item_filter is None else SidIndex(item_filter.state))]
            tables = random_tables(random, catalogue.codebook_sizes, queries, False)
            self.check(snapshot, catalogue, item_filter, passing(catalogue, **conditions), tables, settings)
            self.counts["beside updates"] += queries


def _key(index):
    """Everything that decides hits, to recognise a state of the catalogue by."""
    return tuple(index.item_ids), index.codes.tobytes(), index.popularity.tobytes()


# Through a model


@torch.no_grad()
def forced_tables(model, catalogue, input_ids, attention_mask):
    """Tables of logits of an encoder-decoder by teacher forcing, for all prefixes of the catalogue's SIDs; NaN for all others."""
    sids, sizes = np.unique(np.array(catalogue.codes), axis=0), catalogue.codebook_sizes
    starts = np.cumsum([TEXT_TOKENS, *sizes])
    decoder = torch.full((len(sids), len(sizes)), model.config.decoder_start_token_id)
    decoder[:, 1:] = torch.from_numpy((sids + starts[:-1])[:, :-1])
    queries = len(input_ids)
    logits = model(
        input_ids=input_ids.repeat_interleave(len(sids), 0),
        attention_mask=attention_mask.repeat_interleave(len(sids), 0),
        decoder_input_ids=decoder.repeat(queries, 1),
    ).logits.view(queries, len(sids), len(sizes), -1)
    tables, prefixes = [], np.zeros(len(sids), dtype=np.int64)
    for level, size in enumerate(sizes):
        table = np.full((queries, int(np.prod(sizes[:level])), size), np.nan, dtype=np.float32)
        table[:, prefixes] = logits[:, :, level, starts[level] : starts[level + 1]].numpy()
        tables.append(table)
        prefixes = prefixes * size + sids[:, level]
    return tables


def search_with(searches, make_model, seed, count, queries, large):
    """Run at least `count` searches of `model.search`, with a filter of their own for half of the queries of each batch."""
    random, stop = np.random.default_rng(seed), searches.counts["searches"] + count
    while searches.counts["searches"] < stop:
        catalogue, changes = random_catalogue(random, large), Changes()
        model = make_model(catalogue.codebook_sizes, seed=int(random.integers(1000)))
        model.set_sid_index(catalogue.index())
        for _ in range(8):
            settings = Settings.draw(random)
            conditions = random_conditions(random, catalogue.ids, model.sid_index.categories)
            passes = passing(catalogue, **conditions)
            item_filter = model.sid_index.filter(**conditions) if conditions and passes.any() else None
            passes = passes if item_filter is not None else np.ones(len(catalogue.ids), dtype=bool)
            prompts = random_prompts(queries, seed=int(random.integers(10**6)))
            tables, half = forced_tables(model, catalogue, *prompts), queries // 2
            found = model.search(
                *prompts,
                settings.beams,
                settings.top_k,
                items_per_sid=settings.items_per_sid,
                item_filter=[item_filter] * half + [None] * half,
                normalize=settings.normalize,
                rank_by=settings.rank_by,
            )
            compare = partial(searches.compare, catalogue=catalogue, settings=settings)
            compare(found[:half], passes=passes, tables=[table[:half] for table in tables])
            compare(found[half:], passes=np.ones_like(passes), tables=[table[half:] for table in tables])
            searches.counts["model"] += queries
            catalogue, change = changes.draw(random, catalogue)
            change(model.sid_index)
            searches.counts["updates"] += 1
