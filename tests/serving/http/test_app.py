"""The endpoints: their answers are the offline hits, and what does not fit is refused with a reason."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time

import numpy as np
import pytest

from onesearch.data.requests import UserContext, build_requests
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.serving.http.events import EventLog

KEY = {"X-API-Key": "0123456789abcdef-key"}


def same_hits(answer, hits):
    """The hits of an answer and those of a search, up to the rounding of a batch."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["hits"]
    assert [one["score"] for one in found] == pytest.approx([hit.score for hit in hits], abs=1e-4)
    for one in found:
        near = [hit.item_id for hit in hits if abs(hit.score - one["score"]) < 1e-4]
        assert one["item_id"] in near
    return True


def context_of(body):
    history = body.get("history", ())
    return UserContext(body.get("queries", ()), history, body.get("purchased", ()), profile=tuple(body.get("profile", ())))


@pytest.fixture(scope="module")
def bodies(market):
    """Searches of all kinds, of users with and without a past."""
    requests = build_requests(market, "test")[:12]
    names = sorted({name for path in market.items["categories"] for name in path})
    made = []
    for place, request in enumerate(requests):
        body = {"query": request.query, "top_k": 3 + place % 3, "explain": place % 2 == 0}
        if place % 3:
            past = {"history": request.history[-9:], "purchased": request.context.purchased[-3:]}
            body |= {name: list(items) for name, items in past.items()}
            body |= {"queries": list(request.context.queries[-2:]), "profile": list(request.context.profile)}
        if place % 4 == 3:
            body |= {"categories": names[:5], "exclude": list(market.items["item_id"][:30])}
        made.append(body)
    return made


def offline(searcher, body, **settings):
    given = {name: body[name] for name in ("exclude", "categories", "explain") if name in body}
    return searcher.search(body["query"], body.get("history", ()), body["top_k"], context=context_of(body), **given, **settings)


def test_answers_are_the_offline_hits(served, ask, bodies, market):
    async def talk(client):
        found = await asyncio.gather(*(client.post("/search", json=body) for body in bodies * 2))
        beams = await asyncio.gather(*(client.post("/search", json={**body, "ranking": "beam"}) for body in bodies))
        return found, beams, (await client.get("/metrics")).text

    found, beams, metrics = ask(served, talk)
    for answer, beam, body in zip(found[len(bodies) :], beams, bodies):
        assert same_hits(answer, offline(served.searcher, body))
        assert same_hits(beam, offline(served.searcher, body, rerank=False, candidates="beam"))
        first, hit = answer.json()["hits"][0], offline(served.searcher, body)[0]
        assert (first["towers"] is not None) == (first["level_scores"] is not None) == body["explain"]
        if first["item_id"] == hit.item_id:
            row = list(market.items["item_id"]).index(hit.item_id)
            assert (first["rank"], first["sid"], first["title"]) == (1, list(hit.sid), market.items["title"][row])
            assert first["price"] == pytest.approx(market.items["price"][row])
    batches, jobs = (float(re.search(rf"onesearch_batch_size_{name} (\S+)", metrics)[1]) for name in ("count", "sum"))
    assert jobs == 36 and batches < 20  # they were searched together
    assert f'onesearch_requests_total{{endpoint="/search",status="200"}} {36.0}' in metrics


def test_bm25_stands_beside_the_hits(served, ask):
    async def talk(client):
        return await client.post("/search", json={"query": "shoe jacket", "ranking": "text", "top_k": 4})

    found = [(hit["item_id"], hit["score"]) for hit in ask(served, talk).json()["hits"]]
    assert found == [(item, pytest.approx(score)) for item, score in served.text_index.ranked("shoe jacket", 4)]


def test_an_item_is_explained(served, ask, bodies):
    body = {**bodies[1], "explain": True}
    hits = served.searcher.search(body["query"], body["history"], 50, context=context_of(body), explain=True)
    plain = served.searcher.search(body["query"], (), 50, context=UserContext())
    beam = served.searcher.search(body["query"], body["history"], 50, context=context_of(body), rerank=False)

    async def talk(client):
        told = await client.post("/explain", json={**body, "item_id": hits[2].item_id})
        return told, await client.post("/explain", json={**body, "item_id": "nothing"})

    answer, unknown = ask(served, talk)
    told = answer.json()
    assert unknown.status_code == 404
    assert [code["code"] for code in told["codes"]] == told["sid"] == list(hits[2].sid)
    assert [code["log_probability"] for code in told["codes"]] == pytest.approx(hits[2].level_scores, abs=1e-4)
    assert told["towers"] == pytest.approx(hits[2].towers, abs=1e-5)
    for name, ranking in {"served": hits, "beam": beam, "without_user": plain}.items():
        items = [hit.item_id for hit in ranking]
        expected = items.index(hits[2].item_id) + 1 if hits[2].item_id in items else None
        assert told["ranks"][name] == expected
    sizes = [code["items"] for code in told["codes"]]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] >= 1 and len(sizes) == 5
    assert all(code["titles"] for code in told["codes"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": " "}, "query: Value error, the text is empty"),
        ({}, "query: Field required"),
        ({"query": "shoe", "topk": 3}, "topk: Extra inputs are not permitted"),
        ({"query": "shoe", "top_k": 0}, "top_k: Input should be greater than or equal to 1"),
        ({"query": "shoe", "num_beams": 600}, "num_beams=600 is more than this server allows; at most 512"),
        ({"query": "shoe", "history": ["x9"]}, "the first is 'x9'; leave them out, or set unknown_items to skip"),
        ({"query": "shoe", "categories": ["Nowhere"]}, "Nowhere"),
        ({"query": "shoe", "categories": []}, "no item"),
        ({"query": "\ud800"}, "query: Input should be a valid string"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(served, ask, body, message):
    async def talk(client):
        headers = {"content-type": "application/json"}
        return await client.post("/search", content=json.dumps(body), headers=headers)

    answer = ask(served, talk)
    error = answer.json()["error"]
    fields = "; ".join(f"{field['where']}: {field['message']}" for field in error["fields"])
    assert answer.status_code == 422 and message in f"{error['message']}; {fields}"


def test_a_bad_request_harms_nobody_in_its_batch(served, ask):
    async def talk(client):
        good = [client.post("/search", json={"query": "shoe", "exclude": ["x"]}) for _ in range(3)]
        bad = [client.post("/search", json={"query": "shoe", "categories": ["Nowhere"]}) for _ in range(3)]
        skipped = client.post("/search", json={"query": "shoe", "history": ["x9"], "unknown_items": "skip"})
        return await asyncio.gather(*good, *bad, skipped)

    *answers, skipped = ask(served, talk)
    assert [answer.status_code for answer in answers] == [200] * 3 + [422] * 3
    assert skipped.json()["skipped"] == ["x9"]


def test_bodies_are_limited(served, ask):
    async def chunks():
        for _ in range(40):
            yield b"x" * 100

    async def talk(client):
        headers = {"content-type": "application/json"}
        large = await client.post("/search", content=b"x" * 3000, headers=headers)
        streamed = await client.post("/search", content=chunks(), headers=headers)
        return large, streamed, await client.post("/search", content=b"[" * 1500, headers=headers)

    large, streamed, deep = ask(served, talk, max_body=2000)
    assert large.status_code == streamed.status_code == 413 and "larger than 2,000 bytes" in large.text
    assert deep.status_code in (400, 422)


def test_a_full_queue_and_a_slow_search_are_answered_with_503(served, ask):
    release = threading.Event()

    async def talk(client):
        run = client.service.batcher.run

        def slow(jobs):
            release.wait(20)
            return run(jobs)

        client.service.batcher.run = slow
        late = await asyncio.gather(*(client.post("/search", json={"query": f"shoe {n}"}) for n in range(12)))
        release.set()
        for _ in range(20):
            again = await client.post("/search", json={"query": "shoe"})
            if again.status_code == 200:
                break
        return late, again, (await client.get("/metrics")).text

    answers, again, metrics = ask(served, talk, batch_size=2, queue_size=4, timeout=1.5)
    refused, late = (
        float(re.search(rf'onesearch_refused_total{{reason="{reason}"}} (\S+)', metrics)[1])
        for reason in ("queue_full", "timeout")
    )
    assert refused >= 6 and again.status_code == 200  # two are searched and four wait at most
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    assert late >= 12 - refused


def test_changes_need_a_key(served, ask):
    async def talk(client):
        add, session = {"items": [{"item_id": "n", "title": "t"}]}, {"sessions": [{"user_id": "u"}]}
        for headers in ({}, {"X-API-Key": "wrong"}):
            answers = [
                await client.post("/items", json=add, headers=headers),
                await client.delete("/items", params={"item_id": "n"}, headers=headers),
                await client.post("/events", json=session, headers=headers),
            ]
            assert [answer.status_code for answer in answers] == [401] * 3
        client.app.state.keys = type(client.app.state.keys)()
        assert (await client.post("/events", json=session, headers=KEY)).status_code == 403

    ask(served, talk)
    assert not (served.run.root / "events").exists()


def test_items_come_and_go_without_a_restart(own_served, ask):
    first = own_served.searcher.index.item_ids[0]
    title = "zanzibar crimson lantern"
    new = {"item_id": "new-1", "title": title, "brand": "Zanzi", "categories": ["Home"], "price": 3.5}

    async def talk(client):
        items = len(client.service.index)
        added = await client.post("/items", json={"items": [new]}, headers=KEY)
        assert added.json() == {"items": items + 1, "revision": 1}, added.text
        body = {"query": title, "top_k": 50, "num_beams": 60, "ranking": "beam", "explain": True}
        found = {hit["item_id"]: hit for hit in (await client.post("/search", json=body)).json()["hits"]}
        text = (await client.post("/search", json={**body, "ranking": "text"})).json()["hits"]
        told = (await client.post("/explain", json={"query": title, "item_id": "new-1"})).json()
        twice = await client.post("/items", json={"items": [new]}, headers=KEY)
        again = await client.post("/items", json={"items": [new], "known": "skip"}, headers=KEY)
        removed = await client.delete("/items", params={"item_id": ["new-1", first]}, headers=KEY)
        unknown = await client.delete("/items", params={"item_id": "new-1"}, headers=KEY)
        gone = (await client.post("/search", json=body)).json()["hits"]
        text_gone = (await client.post("/search", json={**body, "ranking": "text"})).json()["hits"]
        return found, text, told, (twice, again, removed, unknown), gone + text_gone, items

    found, text, told, (twice, again, removed, unknown), gone, items = ask(own_served, talk)
    assert text[0]["item_id"] == "new-1" and told["title"] == title
    assert found.get("new-1", {"title": title})["title"] == title and told["categories"] == ["Home"]
    assert twice.status_code == 422 and "published already" in twice.text and again.status_code == 200
    assert removed.json() == {"items": items - 1, "revision": 2} and unknown.status_code == 422
    assert not {"new-1", first} & {hit["item_id"] for hit in gone}


def test_items_with_codes_and_changes_of_other_processes(own_served, ask):
    path = own_served.checkpoint / SID_INDEX_NAME
    coded = {"item_id": "coded", "title": "a lamp", "codes": [0] * 5}

    async def talk(client):
        mixed = await client.post("/items", json={"items": [coded, {"item_id": "b", "title": "b"}]}, headers=KEY)
        assert mixed.status_code == 422 and "1 of 2 items have codes" in mixed.text
        assert (await client.post("/items", json={"items": [coded]}, headers=KEY)).status_code == 200
        other = SidIndex.load(path)
        other.add_items(["theirs"], [[1] * 5])
        other.save_updates(path)
        deadline = time.monotonic() + 20
        while client.service.unknown_items(["theirs"]) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return client.service.unknown_items(["coded", "theirs"])

    assert ask(own_served, talk, refresh_seconds=0.05) == []


def test_events_are_on_the_disk_when_the_answer_comes(own_served, ask):
    log = EventLog(own_served.run.root / "events")
    sessions = [{"user_id": "u1", "query": "shoe", "clicked": ["a"], "purchased": ["a"], "time": 7}, {"user_id": "u2"}]

    async def talk(client):
        assert (await client.post("/events", json={"sessions": sessions}, headers=KEY)).json() == {"recorded": 2}
        first = list(log.read())
        with open(log.path, "ab") as file:
            file.write(b'{"half": ')  # a killed writer
        assert list(log.read()) == first
        await client.post("/events", json={"sessions": sessions[:1]}, headers=KEY)
        return first, list(log.read())

    first, all_of_them = ask(own_served, talk)
    assert all_of_them[:2] == first and [session["user_id"] for session in all_of_them] == ["u1", "u2", "u1"]
    assert first[0]["time"] == 7 and first[1]["time"] > 1e9 and first[1]["session_id"].startswith("live-")
    assert first[0]["clicked"] == first[0]["purchased"] == ["a"] and first[0]["impressed"] == []


def test_events_are_counted_in_the_memory_of_the_running_server(own_served, ask):
    reranker = own_served.searcher.reranker
    before, item_id = reranker.parts.memory, reranker.parts.item_ids[3]
    session = {"user_id": "u1", "query": "unheard of", "impressed": [item_id], "clicked": [item_id, "unknown"], "purchased": []}
    log = EventLog(own_served.run.root / "events")
    log.append([{**session, "session_id": "earlier", "time": 5}])  # before this server was started

    def counts(memory):
        return [int(part.before(np.array([3]))[0]) for part in memory.statistics]

    async def talk(client):
        posts = [client.post("/events", json={"sessions": [session] * 2}, headers=KEY) for _ in range(5)]
        searches = [client.post("/search", json={"query": "unheard of"}) for _ in range(5)]
        answers = await asyncio.gather(*(one for pair in zip(posts, searches) for one in pair))
        at_once = reranker.parts.memory
        log.append([{**session, "session_id": "other", "time": -5}])  # by another server of the run
        await client.service.count_events()
        with open(log.path, "ab") as file:
            file.write(b"damaged\n")
        late = await client.post("/events", json={"sessions": [session]}, headers=KEY)
        return [answer.status_code for answer in [*answers, late]], at_once

    statuses, at_once = ask(own_served, talk, refresh_seconds=60)
    after = reranker.parts.memory
    assert statuses == [200] * 11
    assert counts(at_once) == [own + add for own, add in zip(counts(before), (11, 11, 0))]
    assert counts(after) == [own + add for own, add in zip(counts(before), (12, 12, 0))]
    key = after.query_numbers(["unheard of"]) * after.items + 3
    assert before.query_numbers(["unheard of"]) == [-1] and after.query_clicked.before(key).tolist() == [12]
    assert before.log_end == 0 < after.log_end < log.path.stat().st_size  # the damaged line and those after it do not count


def test_a_server_without_a_reward_model_only_logs(own_served, ask):
    own_served.searcher.reranker = None

    async def talk(client):
        return await client.post("/events", json={"sessions": [{"user_id": "u1"}]}, headers=KEY)

    assert ask(own_served, talk).json() == {"recorded": 1}


def test_the_pages_and_their_data(served, ask, market):
    async def talk(client):
        pages = {path: await client.get(path) for path in ("/", "/docs", "/static/app.js", "/openapi.json", "/health")}
        return pages, (await client.get("/catalogue")).json(), (await client.get("/shoppers")).json()["shoppers"]

    pages, catalogue, shoppers = ask(served, talk, shoppers=3)
    assert {page.status_code for page in pages.values()} == {200}
    for path in ("/", "/docs"):
        assert not re.search(r"(src|href)=\"(https?:)?//", pages[path].text)
        assert "default-src 'self'" in pages[path].headers["content-security-policy"]
    assert catalogue["rankings"] == ["served", "beam", "text"] and catalogue["items"] == len(market.items)
    assert pages["/openapi.json"].json()["paths"].keys() >= {"/search", "/explain", "/items", "/events", "/health", "/metrics"}
    assert len(shoppers) == 3 and all(len(shopper["history"]) >= 2 and shopper["wanted"] for shopper in shoppers)
    assert shoppers[0]["history"][0]["sid"] == list(served.searcher.index.sid_of(shoppers[0]["history"][0]["item_id"]))


def test_histories_are_shown_only_on_demand(served, ask):
    async def talk(client):
        return (await client.get("/shoppers")).json(), (await client.get("/catalogue")).json()["shoppers"]

    assert ask(served, talk) == ({"shoppers": []}, False)
