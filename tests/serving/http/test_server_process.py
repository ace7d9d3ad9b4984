"""`onesearch serve` as a process: its hits, its end, and a kill at any time."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import threading
import time

import pytest
from server_process import KEY, server

from onesearch import SidIndex
from onesearch.data.requests import UserContext, build_requests
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


def test_a_stopped_server_answers_what_it_has_taken(rewarded, reward_searcher, market):
    """SIGTERM while 24 requests are in flight: each gets the offline hits, and the exit code is 0."""
    requests = build_requests(market, "test")[:24]

    async def talk(address, process):
        limits = httpx.Limits(max_connections=40, max_keepalive_connections=40)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            bodies = [{"query": one.query, "history": list(one.history[-5:])} for one in requests]
            tasks = [asyncio.create_task(client.post("/search", json=body)) for body in bodies]
            taken = 0
            while taken < len(tasks):  # until the server has read all of them
                state = (await client.get("/health")).json()
                taken = state["waiting"] + state["running"] + sum(task.done() for task in tasks)
            process.send_signal(signal.SIGTERM)
            in_flight = sum(not task.done() for task in tasks)
            return await asyncio.gather(*tasks), in_flight

    with server(rewarded.root, "--batch", "2") as (process, address):
        answers, in_flight = asyncio.run(talk(address, process))
        assert process.wait(60) == 0
    assert in_flight > 0
    for answer, request in zip(answers, requests):
        history = request.history[-5:]
        hits = reward_searcher.search(request.query, history, context=UserContext(clicked=history))
        assert answer.status_code == 200
        assert [one["score"] for one in answer.json()["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-4)


def search(address, ended):
    """Search until the server is gone."""
    while not ended.is_set():
        try:
            answer = httpx.post(f"{address}/search", json={"query": "shoe", "top_k": 3}, timeout=30)
        except httpx.TransportError:
            return
        assert answer.status_code == 200


def update(address, states, prefix):
    """Add an item and remove it, again and again, until the server is gone.

    `states` grows by the items that the catalogue has after each change: the last but one is the last acknowledged state.
    """
    headers = {"X-API-Key": KEY}
    for turn in range(10_000):
        item, known = f"{prefix}-{turn}", states[-1]
        try:
            states.append(known | {item})
            body = {"items": [{"item_id": item, "title": "t", "codes": [turn % 4] * 5}]}
            answer = httpx.post(f"{address}/items", json=body, headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text
            states.append(known)
            answer = httpx.delete(f"{address}/items", params={"item_id": item}, headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text
        except httpx.TransportError:
            return


@pytest.mark.slow
def test_a_server_killed_during_updates_under_load_leaves_the_old_or_the_new_catalogue(rewarded, tmp_path):
    """20 kills. Items are added and removed one after the other while clients search."""
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "tiny"))
    path, draw, changes = run.checkpoint / SID_INDEX_NAME, random.Random(0), 0
    for kill in range(20):
        states, ended = [set(SidIndex.load(path, verify=True).item_ids)], threading.Event()
        with server(run.root) as (process, address):
            work = [(search, address, ended)] * 2 + [(update, address, states, f"k{kill}")]
            threads = [threading.Thread(target=target, args=arguments) for target, *arguments in work]
            for thread in threads:
                thread.start()
            enough = draw.randint(2, 6)
            while len(states) < enough and threads[-1].is_alive():
                time.sleep(0.002)
            time.sleep(0.2 * draw.random())  # at any moment of the next changes
            process.kill()
            ended.set()
            for thread in threads:
                thread.join()
        changes += len(states) - 1
        assert set(SidIndex.load(path, verify=True).item_ids) in states[-2:], (kill, len(states))
    print(f"{changes} changes, 20 kills")
    assert changes > 20
