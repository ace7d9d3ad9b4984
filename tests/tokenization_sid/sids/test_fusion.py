"""Whether fusion pays: vectors that keywords pull together, and vectors that they tell apart."""

from __future__ import annotations

import logging

import numpy as np

from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.tokenization_sid.sids.fusion import check_fusion, decide


def vectors(seed, rows=600):
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, 16)))


def test_keywords_that_pull_a_brand_together_do_not_pay(caplog):
    plain, brands = vectors(0), vectors(1, 200)
    fused = brands[np.arange(600) % 200]
    check = check_fusion(plain, fused, np.full(600, -1))
    assert not check.pays and check.icr_with < check.icr_without - 0.02 and check.purity_with is None
    with caplog.at_level(logging.INFO):
        assert not decide("auto", check) and decide("always", check)
    first, second = (record.getMessage() for record in caplog.records)
    numbers = f"ICR {check.icr_without:.3f} without and {check.icr_with:.3f} with fusion"
    assert first.startswith("keywords are not fused") and numbers in first
    assert second.startswith("keywords are fused") and numbers in second and "auto would leave them out" in second


def test_purity_alone_decides_as_well():
    categories = np.arange(600) % 12
    pure = unit_rows(vectors(0) + 6 * vectors(2, 12)[categories])
    mixed = vectors(3)
    check = check_fusion(pure, mixed, categories)
    assert check.purity_without > check.purity_with + 0.02 and not check.pays
    back = check_fusion(mixed, unit_rows(mixed + vectors(2, 12)[categories]), categories)
    assert back.purity_with > back.purity_without and back.pays == (back.icr_without - back.icr_with <= 0.02)


def test_equal_vectors_pay():
    plain = vectors(0)
    check = check_fusion(plain, plain, np.zeros(600, dtype=int))
    assert check.pays and check.items == 600 and check.icr_with == check.icr_without and check.purity_with == 1
