"""The search page in a real browser. Screenshots are kept in the folder that SCREENSHOTS names."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
AXE = Path(os.environ.get("AXE_CORE", "/usr/local/share/axe-core/axe.min.js"))
"""axe-core, which checks a page for faults that keep people out; `npm pack axe-core` brings it."""

playwright = pytest.importorskip("playwright.sync_api", reason="the extra test brings playwright")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve brings uvicorn")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def address(served):
    """Address of a server of the tiny run, in a thread of this process."""
    from onesearch.serving.http.app import make_app
    from onesearch.serving.http.server_config import ServerConfig
    from onesearch.serving.http.service import SearchService

    service = SearchService(served, ServerConfig())
    service.warm_up()
    server = uvicorn.Server(uvicorn.Config(make_app(service, shoppers=5), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The loaded page; a message of the browser about a fault fails the test."""
    faults = []
    page = browser.new_page(viewport={"width": 1360, "height": 900}, locale="en-GB")
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.faults = faults
    page.goto(address)
    page.wait_for_selector("#blank:visible")
    page.wait_for_selector("#shopper option:nth-child(2)", state="attached")
    yield page
    page.close()
    assert not faults


def titles(page):
    return page.eval_on_selector_all(".hit .title", "found => found.map(one => one.textContent)")


def keep(page, name):
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(os.environ["SCREENSHOTS"]) / f"{name}.png"))


def test_a_query_gets_the_hits_of_a_search_and_other_rankings(page, served):
    assert page.inner_text("#blank-text") == "Type a query, or choose one above."
    page.type("#query", "shoe", delay=5)
    page.wait_for_selector(".list:nth-child(2)")
    expected = [hit.item_id for hit in served.searcher.search("shoe", top_k=10)]
    assert page.eval_on_selector_all(".hit", "found => found.map(one => one.dataset.item)") == expected
    assert page.eval_on_selector_all(".list", "found => found.map(one => one.dataset.ranking)") == ["beam", "text"]
    assert page.inner_text("#status").startswith("10 hits in ") and "q=shoe" in page.url
    assert page.is_hidden("#changed") and page.is_hidden("#blank")
    keep(page, "search")


def test_a_click_joins_the_history_and_changes_the_hits(page):
    page.fill("#query", "shoe")
    page.wait_for_selector(".hit")
    page.wait_for_selector(".list")
    before, clicked = titles(page), page.inner_text(".hit:nth-child(2) .title")
    page.click(".hit:nth-child(2) .title")
    page.wait_for_selector("#changed:visible")
    assert page.inner_text(".history li span") == clicked and page.inner_text("#history-count") == "1"
    assert page.inner_text("#changed").startswith("What the user changes:")
    changed = titles(page)
    badges = page.locator(".hit .badge").count()
    assert (changed != before) == (badges > 0)
    page.click(".history button")
    page.wait_for_selector("#changed", state="hidden")
    page.wait_for_selector("#history-hint:visible")
    page.wait_for_function("wanted => document.querySelector('.hit .title').textContent === wanted", arg=before[0])
    assert titles(page) == before


def test_a_user_of_the_market_searches_with_a_past(page):
    value = page.get_attribute("#shopper option:nth-child(2)", "value")
    page.select_option("#shopper", value)
    page.click("#their")
    page.wait_for_selector("#changed:visible")
    assert int(page.inner_text("#history-count")) >= 2 and page.locator("#profile .tag").count() >= 1
    assert page.input_value("#query") in page.inner_text("#their")
    page.check("#unseen")
    page.wait_for_selector("#hits[aria-busy=false]")
    keep(page, "user")


def test_an_explanation_opens_and_closes(page):
    page.fill("#query", "shoe")
    page.wait_for_selector(".list")
    page.click(".hit:first-child .why-button")
    page.wait_for_selector(".why")
    assert page.locator(".step").count() == 5 and page.inner_text(".step:first-child .code span").startswith("<a_")
    assert page.locator(".why .bars").count() == 2  # towers and ranks
    assert "#1" in page.inner_text(".why .bars >> nth=1") and page.get_attribute(".why-button", "aria-expanded") == "true"
    keep(page, "explanation")
    page.click(".hit:first-child .why-button")
    page.wait_for_selector(".why", state="detached")


def test_the_keyboard_is_enough(page):
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("shoe")
    page.wait_for_selector(".list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    item = page.evaluate("document.activeElement.dataset.item")
    assert item == page.get_attribute(".hit:nth-child(2)", "data-item")
    page.keyboard.press("e")
    page.wait_for_selector(".hit:nth-child(2) .why")
    page.keyboard.press("Enter")
    page.wait_for_selector(".history li")
    assert page.inner_text("#history-count") == "1"


def test_filters_narrow_the_hits_and_nothing_is_said_clearly(page):
    page.fill("#query", "shoe")
    page.wait_for_selector(".list")
    name = page.get_attribute("#category option:nth-child(3)", "value")
    page.select_option("#category", name)
    page.wait_for_function(
        "name => [...document.querySelectorAll('.hit .meta')].every(one => one.textContent.includes(name))", arg=name
    )
    page.click("#chosen button")
    page.wait_for_selector("#chosen button", state="detached")


def test_errors_are_told_and_can_be_retried(page):
    page.route(
        "**/search", lambda route: route.fulfill(status=507, json={"error": {"message": "the disk is full", "fields": []}})
    )
    page.fill("#query", "shoe")
    page.wait_for_selector("#fault:visible")
    assert "the disk is full" in page.inner_text("#fault") and page.is_hidden("#compare")
    page.unroute("**/search")
    page.route("**/search", lambda route: route.abort())
    page.click("#fault button")
    page.wait_for_function("() => document.querySelector('#fault').textContent.includes('does not answer')")
    page.unroute("**/search")
    page.click("#fault button")
    page.wait_for_selector(".hit")
    assert page.is_hidden("#fault")
    page.faults.clear()  # the browser reports the failed requests


def test_language_theme_and_a_narrow_screen(page):
    page.fill("#query", "shoe")
    page.wait_for_selector(".hit")
    page.click("#language")
    assert page.get_attribute("html", "lang") == "zh-CN" and page.inner_text("#user-head") == "用户"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing to scroll sideways
    page.wait_for_selector(".list")
    keep(page, "narrow")


def test_the_first_hit_comes_soon_after_typing_stops(page):
    """The time itself is a benchmark's matter (`tests/benchmarks`); here it is measured and shown."""
    page.fill("#query", "sho")
    page.wait_for_selector(".hit")
    page.evaluate("document.querySelector('#hits').replaceChildren()")
    began = time.perf_counter()
    page.type("#query", "e")
    page.wait_for_selector(".hit")
    print(f"first hit after {1000 * (time.perf_counter() - began):.0f} ms")


@pytest.mark.skipif(not AXE.is_file(), reason=f"axe-core is not at {AXE} (AXE_CORE)")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(page, theme):
    page.select_option("#shopper", page.get_attribute("#shopper option:nth-child(2)", "value"))
    page.click("#their")
    page.wait_for_selector(".list")
    page.click(".hit:first-child .why-button")
    page.wait_for_selector(".why")
    if page.get_attribute("html", "data-theme") != theme:
        page.click("#theme")
    page.evaluate(AXE.read_text(encoding="utf-8"))  # as a script of the tester, so that the page's own policy stays
    found = page.evaluate(
        "async () => (await axe.run()).violations.map(one => [one.impact, one.id, one.nodes.map(n => n.html).slice(0, 3)])"
    )
    assert [fault for fault in found if fault[0] in ("serious", "critical")] == []


def test_the_page_of_the_api_sends_its_examples(browser, address):
    page = browser.new_page()
    page.goto(f"{address}docs")
    page.wait_for_selector("details")
    assert page.locator("details").count() == 10
    page.click("details:has-text('/search') summary")
    page.click("details[open] .send")
    page.wait_for_selector("details[open] pre:visible")
    assert page.inner_text("details[open] pre").startswith("200") and '"hits"' in page.inner_text("details[open] pre")
    page.close()
