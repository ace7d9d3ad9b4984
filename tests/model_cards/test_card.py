"""The card of a checkpoint shows what the diagnostics found."""

from __future__ import annotations

import json

import pytest

from onesearch.files import read_json
from onesearch.model_cards.card import write_card


def test_the_card_shows_the_codes_and_their_page(shared_run):
    text = (shared_run.checkpoint / "README.md").read_text(encoding="utf-8")
    report = read_json(shared_run.sids / "diagnostics.json")
    assert "](diagnostics.png)" in text
    assert (shared_run.checkpoint / "diagnostics.png").read_bytes() == (shared_run.sids / "diagnostics.png").read_bytes()
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {level} |" for level in range(5)))]
    assert len(rows) == len(report["codebook_sizes"])
    assert f"{report['items']['used_per_level'][0]} of 16" in rows[0]
    assert f"{100 * report['items']['icr_sids']:.1f} % of the SIDs belong to one item" in text
    assert "by chance" in text and "category purity" in text


def test_a_run_without_a_page_category_or_sessions_has_a_card_without_them(run):
    path = run.sids / "diagnostics.json"
    report = {**read_json(path), "page": [], "purity": {"coarse": None, "fine": None}}
    report["agreement"] = {"split": "validation", "click": None, "purchase": None}
    path.write_text(json.dumps(report))
    text = write_card(run, "tiny").read_text(encoding="utf-8")
    assert "diagnostics.png" not in text and "by chance" not in text and "category purity" not in text
    assert "| 4 | " in text


def test_diagnostics_of_another_schema_are_refused(run):
    path = run.sids / "diagnostics.json"
    path.write_text(json.dumps({**read_json(path), "schema": 1}))
    with pytest.raises(ValueError, match="diagnostics.json has schema 1, expected 2; build the SIDs again"):
        write_card(run, "tiny")
