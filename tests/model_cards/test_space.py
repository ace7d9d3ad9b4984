"""The Space of the Hub: what it shows of a search. Gradio is installed only there."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

SPACE = Path(__file__).parents[2] / "model_cards" / "space"


@pytest.fixture(scope="module")
def shop(shared_run):
    if importlib.util.find_spec("gradio") is None:
        sys.modules["gradio"] = types.ModuleType("gradio")  # the shop itself needs nothing of it
    try:
        spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
    finally:
        if not hasattr(sys.modules["gradio"], "Blocks"):
            del sys.modules["gradio"]
    app.shop = app.Shop(str(shared_run.checkpoint), shared_run.market / "items.parquet")
    return app


def test_hits_have_titles_codes_with_meanings_and_what_the_history_changed(shop, shared_searcher, market):
    history = list(market.items["item_id"][:4])
    hits, before = shop.shop.search("shoe", history, [])
    assert [hit.item_id for hit in hits] == [hit.item_id for hit in shared_searcher.search("shoe", history, 10)]
    assert list(before)[:10] == [hit.item_id for hit in shared_searcher.search("shoe", top_k=10)]
    page = shop.shop.page(hits, before)
    title = market.items["title"][list(market.items["item_id"]).index(hits[0].item_id)]
    assert f"<b>{title}</b>" in page and page.count('class="hit"') == len(hits)
    assert page.count('class="code"') == 5 * len(hits)
    if hits[0].item_id not in before:
        assert ">new</span>" in page


def test_a_checkpoint_without_items_shows_ids(shop, shared_run):
    alone = shop.Shop(str(shared_run.checkpoint), None)
    hits, before = alone.search("shoe", [], [])
    assert hits[0].item_id in alone.page(hits, before) and "new" not in alone.page(hits, before)


def test_the_page_is_built(shop):
    pytest.importorskip("gradio", reason="the Space brings gradio")
    assert shop.build(shop.shop) is not None
