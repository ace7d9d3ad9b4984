"""The page of the diagnostics."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onesearch.tokenization_sid.sids.plots import PAGE_NAMES, draw_page, typical_rows


def drawn(folder, items=40, codebook_sizes=(3, 4), titles=None):
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size, items) for size in codebook_sizes], axis=1)
    vectors = random.normal(size=(items, 5)).astype(np.float32)
    draw_page(folder, codes, codebook_sizes, vectors, titles or [f"title {row}" for row in range(items)])
    return codes, vectors


def test_the_page_names_branches_and_their_typical_titles(tmp_path):
    codes, vectors = drawn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PAGE_NAMES)
    assert (tmp_path / PAGE_NAMES[0]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (tmp_path / PAGE_NAMES[1]).read_text(encoding="utf-8")
    for code in range(3):
        rows = np.flatnonzero(codes[:, 0] == code)
        centre = vectors[rows].mean(axis=0)
        closest = min(rows, key=lambda row: ((vectors[row] - centre) ** 2).sum())
        assert f"&lt;a_{code}&gt;  {len(rows)}  title {closest}" in page
    assert "level 1: 4 of 4 used" in page and "largest bucket" in page


@pytest.mark.parametrize(
    ("items", "codebook_sizes", "titles"),
    [(1, (2,), ["淡水珍珠项链"]), (3, (1, 1, 1), ["$5 & <b>", "", "x" * 200]), (30, (2, 1), ["same"] * 30)],
)
def test_catalogues_at_the_edge_are_drawn(tmp_path, items, codebook_sizes, titles):
    drawn(tmp_path, items, codebook_sizes, titles)
    assert titles[0][:3].replace("&", "&amp;").replace("<", "&lt;") in (tmp_path / PAGE_NAMES[1]).read_text(encoding="utf-8")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"onesearch\[plots\]"):
        drawn(tmp_path)
    assert not list(tmp_path.iterdir())


def test_typical_rows_are_the_closest_to_the_centre():
    vectors = np.array([[0.0], [10.0], [4.0], [5.0], [100.0]])
    assert typical_rows(vectors, np.array([0, 1, 2, 3]), 2).tolist() == [3, 2]
    assert typical_rows(np.ones((3, 1)), np.array([2, 0]), 5).tolist() == [2, 0]
