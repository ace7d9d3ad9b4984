"""Diagnostics, counted by hand and against definitions spelled out."""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.sids.diagnostics import agreement, diagnose, gini, measures, purity
from onesearch.tokenization_sid.sids.prefixes import prefix_ids
from onesearch.tokenization_sid.sids.reconstruction import Reconstruction

CODES = np.array([[0, 0], [0, 0], [0, 1], [2, 1], [2, 1], [2, 1], [1, 0]])
CODEBOOK_SIZES = (4, 2)


def test_every_number_by_hand():
    report = measures(CODES, CODEBOOK_SIZES)
    entropy = -(6 / 7 * math.log2(3 / 7) + 1 / 7 * math.log2(1 / 7))
    assert report.pop("entropy_per_level") == pytest.approx([entropy, -(3 / 7 * math.log2(3 / 7) + 4 / 7 * math.log2(4 / 7))])
    assert report.pop("perplexity_per_level")[0] == pytest.approx(2**entropy)
    assert report.pop("gini_per_level") == pytest.approx(
        [(2 * (2 * 1 + 3 * 3 + 4 * 3) / 7 - 5) / 4, (2 * (3 + 2 * 4) / 7 - 3) / 2]
    )
    assert report == {
        "count": 7,
        "distinct_sids": 4,
        "cur_per_prefix": [3 / 4, 4 / 8],
        "cur_per_level": [3 / 4, 2 / 2],
        "used_per_level": [3, 2],
        "icr_items": 2 / 7,  # the items at (0, 1) and (1, 0)
        "icr_sids": 2 / 4,
        "icr_items_per_prefix": [1 / 7, 2 / 7],
        "icr_sids_per_prefix": [1 / 3, 2 / 4],
        "largest_bucket": 3,
        "buckets": [
            {"from": 1, "to": 1, "sids": 2, "rows": 2},
            {"from": 2, "to": 2, "sids": 1, "rows": 2},
            {"from": 3, "to": 4, "sids": 1, "rows": 3},
        ],
    }


LEVELS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@st.composite
def coded(draw):
    codebook_sizes = draw(LEVELS)
    rows = st.tuples(*(st.integers(0, size - 1) for size in codebook_sizes))
    return np.array(draw(st.lists(rows, min_size=1, max_size=20))).reshape(-1, len(codebook_sizes)), codebook_sizes


@given(coded())
def test_measures_are_those_of_the_definitions(sids):
    codes, codebook_sizes = sids
    report = measures(codes, codebook_sizes)
    buckets = Counter(map(tuple, codes.tolist()))
    owned = [sid for sid, count in buckets.items() if count == 1]
    assert report["icr_items"] == len(owned) / len(codes) and report["icr_sids"] == len(owned) / len(buckets)
    assert report["largest_bucket"] == max(buckets.values()) and report["distinct_sids"] == len(buckets)
    for level in range(len(codebook_sizes)):
        prefixes = {tuple(row[: level + 1]) for row in codes.tolist()}
        first = Counter(tuple(row[: level + 1]) for row in codes.tolist())
        alone = sum(count == 1 for count in first.values())
        assert report["icr_items_per_prefix"][level] == alone / len(codes)
        assert report["icr_sids_per_prefix"][level] == alone / len(first)
        assert report["cur_per_prefix"][level] == pytest.approx(len(prefixes) / math.prod(codebook_sizes[: level + 1]))
        use = [int((codes[:, level] == code).sum()) for code in range(codebook_sizes[level])]
        shares = [count / len(codes) for count in use if count]
        assert report["entropy_per_level"][level] == pytest.approx(-sum(share * math.log2(share) for share in shares))
        pairs = sum(abs(one - two) for one in use for two in use)
        assert report["gini_per_level"][level] == pytest.approx(pairs / (2 * len(use) * sum(use)))  # mean absolute difference
    for part in report["buckets"]:
        inside = [count for count in buckets.values() if part["from"] <= count <= part["to"]]
        assert (part["sids"], part["rows"]) == (len(inside), sum(inside))
    assert sum(part["rows"] for part in report["buckets"]) == len(codes)


@given(coded())
def test_prefix_ids_are_dense_and_in_order(sids):
    codes, codebook_sizes = sids
    for level, ids in enumerate(prefix_ids(codes, codebook_sizes)):
        prefixes = [tuple(row[: level + 1]) for row in codes.tolist()]
        place = {prefix: number for number, prefix in enumerate(sorted(set(prefixes)))}
        assert ids.tolist() == [place[prefix] for prefix in prefixes]


def test_gini_at_its_ends():
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx(3 / 4)


def test_wide_sids_do_not_overflow():
    report = measures(np.zeros((2, 8), dtype=np.int32), (4096,) * 8)
    assert 0 < report["cur_per_prefix"][-1] < 1e-20
    codes = np.full((2, 12), 4095)
    codes[1, -1] = 0
    assert measures(codes, (4096,) * 12)["distinct_sids"] == 2


def test_an_empty_catalogue_is_refused():
    with pytest.raises(ValueError, match="empty"):
        measures(np.zeros((0, 2), dtype=int), (2, 2))


def test_the_error_is_the_mean_squared_distance_and_its_share_of_the_variance(monkeypatch):
    vectors, decoded = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 1.0]])
    found = Reconstruction.of(vectors, np.arange(3)[:, None], lambda codes: decoded[codes[:, 0]]).measures()
    variance = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert found == {"mse": pytest.approx((1 + 5) / 3), "unexplained_variance": pytest.approx((1 + 5) / 3 / variance)}
    monkeypatch.setattr("onesearch.tokenization_sid.sids.reconstruction.ROWS_AT_ONCE", 2)
    assert Reconstruction.of(vectors, np.arange(3)[:, None], lambda codes: decoded[codes[:, 0]]).measures() == found
    alike = Reconstruction.of(np.ones((4, 2)), np.zeros((4, 1), dtype=int), lambda codes: np.ones((len(codes), 2)))
    assert alike.measures() == {"mse": 0, "unexplained_variance": None}


def test_items_queries_and_both_are_reported_apart():
    random = np.random.default_rng(0)
    codes, vectors = random.integers(0, 4, (30, 2)), random.normal(size=(30, 3))
    report = diagnose(codes[:20], codes[20:], (4, 4), (vectors[:20], vectors[20:]), lambda codes: np.zeros((len(codes), 3)))
    both = Reconstruction.of(vectors, codes, lambda codes: np.zeros((len(codes), 3))).measures()
    for name, part in (("items", slice(20)), ("queries", slice(20, 30)), ("both", slice(30))):
        assert {key: report[name][key] for key in measures(codes[part], (4, 4))} == measures(codes[part], (4, 4))
    assert {key: report["both"][key] for key in both} == pytest.approx(both)
    alone = diagnose(codes, codes[:0], (4, 4))
    assert alone["queries"] is None and alone["both"] is None and "mse" not in alone["items"]


def test_purity_by_hand():
    categories = np.array([0, 0, 1, 2, 2, 0, -1])
    report = purity(CODES, CODEBOOK_SIZES, categories)
    # Prefix 0 holds 0, 0, 1; prefix 2 holds 2, 2, 0; the item without a category is left out.
    assert report == {"items": 6, "categories": 3, "without_codes": 3 / 6, "per_prefix": [4 / 6, 5 / 6]}
    assert purity(CODES, CODEBOOK_SIZES, np.full(7, -1)) is None


@given(coded(), st.integers(0, 9))
def test_purity_is_that_of_the_definition(sids, seed):
    codes, codebook_sizes = sids
    categories = np.random.default_rng(seed).integers(0, 3, len(codes))
    for level, share in enumerate(purity(codes, codebook_sizes, categories)["per_prefix"]):
        under: dict[tuple, Counter] = {}
        for row, category in zip(codes.tolist(), categories.tolist()):
            under.setdefault(tuple(row[: level + 1]), Counter())[category] += 1
        assert share == pytest.approx(sum(max(counts.values()) for counts in under.values()) / len(codes))


@given(coded(), st.randoms(use_true_random=False))
def test_agreement_is_that_of_the_definition(sids, random):
    items, codebook_sizes = sids
    queries = items[random.sample(range(len(items)), len(items))]
    report = agreement(queries, items, codebook_sizes)
    for level in range(len(codebook_sizes)):
        for name, first in (("prefix", 0), ("level", level)):
            cut = slice(first, level + 1)
            equal = [(query[cut] == item[cut]).all() for query in queries for item in items]
            assert report[f"chance_per_{name}"][level] == pytest.approx(np.mean(equal))
            assert report[f"per_{name}"][level] == pytest.approx(
                np.mean([(q[cut] == i[cut]).all() for q, i in zip(queries, items)])
            )
    assert agreement(items[:0], items[:0], codebook_sizes) is None


def test_a_million_items_take_seconds():
    random = np.random.default_rng(0)
    codebook_sizes = (1024, 512, 256)
    codes = np.stack([random.integers(0, size, 1_000_000, dtype=np.int32) for size in codebook_sizes], axis=1)
    started = time.process_time()
    measures(codes, codebook_sizes)
    purity(codes, codebook_sizes, codes[:, 1].astype(np.int64))
    assert time.process_time() - started < 10  # below 1 s on one core
