"""The search page in a real browser: time from the last key to the first hit on the page, the wait of the page itself included.

The run is that of the environment variable SERVER_RUN, for example ``runs/demo``, or the tiny run of the tests.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time

import pytest
from harness import Report, sized
from server_process import server

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder

playwright = pytest.importorskip("playwright.sync_api", reason="the extra test brings playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]


def test_first_hit_after_typing_stops(request):
    run = RunFolder(os.environ["SERVER_RUN"]) if "SERVER_RUN" in os.environ else request.getfixturevalue("shared_run")
    queries = [one.query for one in build_requests(Market.load(run.market), "test")[: sized(20, 100)] if one.query]
    with server(run.root) as (_, address), playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{address}/")
        page.wait_for_selector("#blank:visible")
        waited = []
        for query in [queries[0], *queries]:  # the first one warms up
            page.fill("#query", query[:-1])
            page.wait_for_timeout(1000)  # the search of the shorter text has ended
            page.evaluate("document.querySelector('#hits').replaceChildren()")
            page.focus("#query")
            page.keyboard.press("End")
            began = time.perf_counter()
            page.keyboard.type(query[-1])
            page.wait_for_selector(".hit")
            waited.append(1000 * (time.perf_counter() - began))
        browser.close()
    with Report("page", "ms from the last key to the first hit on the page (target: at most 300)") as report:
        cuts = statistics.quantiles(waited[1:], n=20)
        report.add(
            run=run.root.name,
            searches=len(waited) - 1,
            median=statistics.median(waited[1:]),
            p95=cuts[-1],
            most=max(waited[1:]),
        )
