"""The HTTP server under 32 clients at once: no answer lost or wrong, times, and what batches are worth.

The run is that of the environment variable SERVER_RUN, for example ``runs/demo``, or the tiny run of the tests. Clients and server share
the machine, so that times hold for it alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import numpy as np
import pytest
from harness import Report, sized
from server_process import server

from onesearch import Searcher
from onesearch.data.market import Market
from onesearch.data.requests import UserContext, build_requests
from onesearch.files import RunFolder

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

CLIENTS, DISTINCT = 32, 64
SECONDS = sized(10, 60)
BATCHES = sized([1, 32], [1, 4, 8, 16, 32])


@pytest.mark.slow
def test_clients_at_once(request):
    run = RunFolder(os.environ["SERVER_RUN"]) if "SERVER_RUN" in os.environ else request.getfixturevalue("shared_run")
    searches = build_requests(Market.load(run.market), "test")[:DISTINCT]
    bodies = [{"query": one.query, "history": list(one.history[-20:]), "unknown_items": "skip"} for one in searches]
    searcher = Searcher.from_pretrained(run.checkpoint)
    expected = [offline(searcher, body) for body in bodies]
    about = f"{CLIENTS} clients for {SECONDS} s, {run.root.name}; each answer is compared with the offline hits"
    with Report("server", about) as report:
        for batch in BATCHES:
            with server(run.root, "--batch", str(batch), "--timeout", "60") as (_, address):
                seconds, outcomes = asyncio.run(load(address, bodies, expected))
                metrics = httpx.get(f"{address}/metrics").text
            sizes = [float(line.split()[1]) for line in metrics.splitlines() if line.startswith("onesearch_batch_size_sum")]
            counts = [float(line.split()[1]) for line in metrics.splitlines() if line.startswith("onesearch_batch_size_count")]
            lost, wrong = outcomes["lost"], outcomes["wrong"]
            report.add(
                batch=batch,
                mean_batch=sizes[0] / counts[0],
                per_second=len(seconds) / SECONDS,
                p50_ms=1000 * float(np.percentile(seconds, 50)),
                p99_ms=1000 * float(np.percentile(seconds, 99)),
                answers=len(seconds),
                refused=outcomes["refused"],
                lost=lost,
                wrong=wrong,
            )
            assert lost == wrong == 0


@pytest.mark.slow
def test_overload(request):
    """Far more clients than the queue holds: every request is answered, with hits or with 503."""
    run = RunFolder(os.environ["SERVER_RUN"]) if "SERVER_RUN" in os.environ else request.getfixturevalue("shared_run")
    searches = build_requests(Market.load(run.market), "test")[:DISTINCT]
    bodies = [{"query": one.query} for one in searches]
    searcher = Searcher.from_pretrained(run.checkpoint)
    expected = [offline(searcher, body) for body in bodies]
    with Report("server_overload", "128 clients, a queue of 16") as report:
        with server(run.root, "--batch", "8", "--queue", "16", "--timeout", "60") as (_, address):
            seconds, outcomes = asyncio.run(load(address, bodies, expected, clients=128))
        report.add(answers=len(seconds), **{name: outcomes[name] for name in ("refused", "lost", "wrong")})
        assert outcomes["lost"] == outcomes["wrong"] == 0 < outcomes["refused"]


def offline(searcher, body):
    history = [item for item in body.get("history", ()) if searcher.index.contains([item])[0]]
    return [hit.score for hit in searcher.search(body["query"], history, context=UserContext(clicked=history))]


async def load(address, bodies, expected, clients=CLIENTS):
    """Ask without a pause; return the seconds of the answers, and what became of the other requests."""
    outcomes, seconds = Counter(), []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=90) as client:
        until = time.perf_counter() + SECONDS

        async def ask(first):
            place = first
            while (began := time.perf_counter()) < until:
                place = (place + 7) % len(bodies)
                try:
                    answer = await client.post("/search", json=bodies[place])
                except httpx.TransportError:
                    outcomes["lost"] += 1
                    continue
                if answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1:
                    outcomes["refused"] += 1
                    await asyncio.sleep(0.05)
                elif answer.status_code != 200:
                    outcomes["lost"] += 1
                else:
                    seconds.append(time.perf_counter() - began)
                    scores = [hit["score"] for hit in answer.json()["hits"]]
                    is_right = len(scores) == len(expected[place]) and np.allclose(scores, expected[place], atol=1e-3)
                    outcomes["wrong"] += not is_right

        await asyncio.gather(*(ask(first) for first in range(clients)))
    return seconds, outcomes
