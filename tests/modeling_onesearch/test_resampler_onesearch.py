"""Pooling of item sequences by centroids, and the resampler."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny import long_view_tables, random_long_view

from onesearch.modeling_onesearch.configuration_onesearch import LongViewFields
from onesearch.modeling_onesearch.resampler_onesearch import CentroidPooling, LongViewResampler

CODEBOOK_SIZES = (8, 4, 4)


@pytest.fixture
def pooling():
    found = CentroidPooling(CODEBOOK_SIZES, 6, 2)
    found.set_centroids(long_view_tables(CODEBOOK_SIZES))
    return found


def test_pooling_is_the_mean_of_the_items_centroids(pooling):
    codes, tables = random_long_view(5, CODEBOOK_SIZES, seed=2), long_view_tables(CODEBOOK_SIZES)
    means, held = pooling(codes)
    for row in range(5):
        for sequence in range(2):
            items = [item for item in codes[row, sequence].tolist() if item[0] >= 0]
            assert held[row, sequence] == bool(items)
            for level, table in enumerate(tables):
                expected = sum((table[item[level]] for item in items), np.zeros(6)) / max(len(items), 1)
                np.testing.assert_allclose(means[row, sequence, level], expected, atol=1e-6)


def test_neither_order_nor_padding_changes_a_bit(pooling):
    codes = random_long_view(4, CODEBOOK_SIZES, items=50)
    shuffled = codes[:, :, torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    spread = torch.full((4, 2, 130, 3), -1)
    spread[:, :, 60:110] = codes
    strided = codes.permute(3, 2, 0, 1).contiguous().permute(2, 3, 1, 0)
    for other in (shuffled, spread, codes.int(), codes.to(torch.int8), codes.flip(2), strided):
        assert all(torch.equal(one, two) for one, two in zip(pooling(codes), pooling(other)))


def test_half_precision_counts_exactly(pooling):
    """bfloat16 has no 257."""
    codes = torch.zeros(1, 2, 1000, 3, dtype=torch.long)
    codes[:, :, :3] = 1
    expected = pooling(codes)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pooling(codes)[0], expected)
    half = copy.deepcopy(pooling).bfloat16()
    means, _ = half(codes)
    torch.testing.assert_close(means, expected, rtol=0.01, atol=0.005)


def test_the_width_must_be_divisible_by_the_heads():
    with pytest.raises(ValueError, match="width 16 must be divisible by its 3 heads"):
        LongViewResampler(LongViewFields(), width=16, heads=3, dropout=0.0, scale=1.0)
