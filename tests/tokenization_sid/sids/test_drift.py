"""Collisions and drift of new items, against definitions spelled out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.sids.drift import Collisions, DriftConfig, count_collisions, measure_drift

SIDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12)
PERCENTILES = np.linspace(0, 1, 101)


@given(SIDS, SIDS)
def test_collisions_are_those_of_the_definition(old, new):
    before, added = Counter(old), Counter(new)
    expected = Collisions(
        items=len(new),
        with_published=sum(sid in before for sid in new),
        among_new=sum(added[sid] > 1 for sid in new),
        distinct_sids=len(added),
        new_sids=len(set(added) - set(before)),
        largest_bucket=max((before + added)[sid] for sid in new),
    )
    assert count_collisions(np.array(old), np.array(new), (3, 2)) == expected


def drift(published, new, distances=0.5, **config):
    published, new = (np.asarray(codes)[:, None] for codes in (published, new))
    return measure_drift(published, new, np.full(len(new), distances), PERCENTILES, (64,), DriftConfig(**config))


def test_items_like_the_published_ones_raise_no_warning():
    random = np.random.default_rng(0)
    share = random.dirichlet(np.ones(64))
    found = drift(random.choice(64, 20_000, p=share), random.choice(64, 2_000, p=share))
    assert found.warnings == () and found.far_share == 0
    assert abs(found.utilisation_change) < 0.05 and found.divergence == pytest.approx(found.by_chance, abs=0.02)
    assert found.utilisation_before == found.utilisation_after


def test_each_kind_of_drift_is_named():
    random = np.random.default_rng(0)
    published = random.integers(0, 64, 20_000)
    assert "99th percentile" in drift(published, random.integers(0, 64, 500), distances=2).warnings[0]
    few = drift(published, random.integers(0, 8, 500)).warnings
    assert len(few) == 2 and "8 level-0 codes, as many published ones would use 64" in few[0] and "nats" in few[1]
    quiet = drift(published, random.integers(0, 8, 500), utilisation_change=-1, divergence=9)
    assert quiet.warnings == () and quiet.used == 8 and quiet.utilisation_change == pytest.approx(8 / quiet.expected - 1)


def test_few_items_raise_no_warning_but_unknown_words_do():
    assert drift(np.arange(64), [0] * 49, distances=2).warnings == ()
    assert len(drift(np.arange(64), [0] * 49, distances=2, min_items=49).warnings) == 3
    new, published = np.array([[1]]), np.arange(64)[:, None]
    found = measure_drift(published, new, np.zeros(1), PERCENTILES, (64,), DriftConfig(), unknown=1)
    assert "1 new items have no word" in found.warnings[0]


def test_the_expected_use_is_that_of_drawing_published_items():
    published = [0] * 90 + [1] * 10
    found = drift(published, [0, 0, 2])
    assert found.expected == pytest.approx((1 - 0.1**3) + (1 - 0.9**3))
    assert found.used == 2 and (found.utilisation_before, found.utilisation_after) == (2 / 64, 3 / 64)


def test_a_percentile_beyond_all_is_refused():
    with pytest.raises(ValueError, match="percentile=101"):
        DriftConfig(percentile=101)
