"""Ray Data and Ray Serve on a cluster of two workers: the codes and hits of one process."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from onesearch import Searcher, SidIndex
from onesearch.data.arrow_tables import conform
from onesearch.data.requests import UserContext, build_requests
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.serving.fleet.ray_data import (
    ItemEncoder,
    QuerySearcher,
    balance,
    encode_catalogue,
    index_of,
    search_queries,
)
from onesearch.tokenization_sid.sids.appending import (
    encode_table,
    is_balanced_inside_parents,
    parents_of,
    rebalanced,
)
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder


def catalogue(market, copies):
    """The items of a market several times, with ids of their own."""
    items = market.items.data.table.combine_chunks()
    tables = []
    for copy in range(copies):
        ids = pa.array([f"{item}-{copy}" for item in items.column("item_id").to_pylist()])
        tables.append(items.set_column(0, "item_id", ids))
    return pa.concat_tables(tables)


def test_the_codes_of_a_part_do_not_depend_on_the_other_parts(shared_run, market):
    encoder, items = SidEncoder.load(shared_run), conform("items", catalogue(market, 1), origin="a test").combine_chunks()
    whole = encode_table(shared_run, encoder, items)
    parts = [encode_table(shared_run, encoder, items.slice(start, 70)).coded.codes for start in range(0, len(items), 70)]
    assert np.concatenate(parts).tolist() == whole.coded.codes.tolist()
    assert whole.coded.codes.tolist() == SidIndex.load(shared_run.sids / SID_INDEX_NAME).codes.tolist()


def test_parents_are_balanced_in_parts_and_in_any_order_as_at_once(shared_run, market):
    encoder, items = SidEncoder.load(shared_run), conform("items", catalogue(market, 2), origin="a test").combine_chunks()
    coded, vectors, _ = encode_table(shared_run, encoder, items)
    assert is_balanced_inside_parents(encoder)
    ids, parents = np.array(coded.item_ids), parents_of(encoder, coded.codes)
    whole = rebalanced(encoder, coded.item_ids, vectors)
    assert (whole[:, :2] == coded.codes[:, :2]).all() and (whole != coded.codes).any()
    draw = np.random.default_rng(0)
    for group in range(3):
        rows = draw.permutation(np.flatnonzero(parents % 3 == group))
        assert (rebalanced(encoder, ids[rows].tolist(), vectors[rows]) == whole[rows]).all()
    size = encoder.quantizer.config.residual_sizes[-1]
    for parent in np.unique(parents):
        counts = np.bincount(whole[parents == parent, 2])
        assert counts.max() <= -(-counts.sum() // size)  # at most ⌈n / codes⌉ of a parent's n items


def test_the_work_of_the_actors_is_that_of_one_process(shared_run, market, tmp_path):
    """What Ray does is done here in turn: batches to encoders, groups to the balancer, files to the index."""
    items = catalogue(market, 2)
    worker, root = ItemEncoder(str(shared_run.root)), str(shared_run.root)
    encoded = pa.concat_tables([worker(items.slice(start, 200)) for start in range(0, len(items), 200)])
    groups = encoded.column("group").unique().to_pylist()
    (tmp_path / "coded").mkdir()
    for place, group in enumerate(reversed(groups)):
        rows = encoded.filter(pa.compute.equal(encoded.column("group"), group))
        pq.write_table(balance(rows, root), tmp_path / "coded" / f"{place}.parquet")
    index = index_of(shared_run, tmp_path / "coded")
    encoder = SidEncoder.load(shared_run)
    alone = encode_table(shared_run, encoder, conform("items", items, origin="a test").combine_chunks())
    order = np.argsort(np.array(alone.coded.item_ids))
    assert index.item_ids == [alone.coded.item_ids[row] for row in order]
    assert index.codes.tolist() == rebalanced(encoder, alone.coded.item_ids, alone.vectors)[order].tolist()
    assert index.fingerprint == SidIndex.load(shared_run.sids / SID_INDEX_NAME).fingerprint


def test_an_actor_searches_as_one_process_does(shared_run, market):
    requests = build_requests(market, "test")[:5]
    queries = [request.query for request in requests]
    table = pa.table({"query": queries, "history": [None, *[list(request.history[-4:]) for request in requests[1:]]]})
    found = QuerySearcher(str(shared_run.checkpoint), 4, {"num_beams": 8})(table).to_pylist()
    searcher = Searcher.from_pretrained(shared_run.checkpoint, num_beams=8)
    for row in found:
        hits = searcher.search(row["query"], row["history"] or [], 4)
        assert row["scores"] == pytest.approx([hit.score for hit in hits], abs=1e-4) and len(row["item_ids"]) == 4


def test_a_replica_answers_as_the_searcher_and_takes_over_a_new_catalogue(run):
    pytest.importorskip("fastapi")
    from onesearch.serving.fleet.ray_serve import SearchReplica
    from onesearch.serving.http.server_config import ServerConfig

    async def talk():
        replica = SearchReplica(str(run.checkpoint), asdict(ServerConfig(refresh_seconds=60)), {"num_beams": 8})
        await replica.reconfigure({"catalogue": 0})
        before = await replica.search({"query": "shoe", "top_k": 5})
        path = run.checkpoint / SID_INDEX_NAME
        index = SidIndex.load(path)
        index.remove_items([before["hits"][0]["item_id"]])
        index.save_updates(path)
        await replica.reconfigure({"catalogue": 1})
        after = await replica.search({"query": "shoe", "top_k": 5})
        await replica.service.close()
        return before, after

    expected = Searcher.from_pretrained(run.checkpoint, num_beams=8).search("shoe", top_k=5)
    before, after = asyncio.run(talk())
    assert [hit["score"] for hit in before["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-4)
    assert before["hits"][0]["item_id"] not in [hit["item_id"] for hit in after["hits"]] and after["revision"] == 1


# On a cluster


@pytest.fixture(scope="module")
def cluster():
    """Ray with two workers on this machine."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_raylet_start_wait_time_s"] = "300"  # a busy machine starts Ray slowly
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ray.init(
        num_cpus=4,  # two workers, and the tasks that read and sort
        include_dashboard=False,
        object_store_memory=256 << 20,
        runtime_env={"env_vars": environment},
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_two_workers_encode_and_search_as_one_process_does(cluster, shared_run, market, tmp_path):
    copies = int(os.environ.get("FLEET_ITEMS", "2250")) // len(market.items)
    items = catalogue(market, copies)
    (tmp_path / "items").mkdir()
    for number, start in enumerate(range(0, len(items), len(items) // 3 + 1)):
        pq.write_table(items.slice(start, len(items) // 3 + 1), tmp_path / "items" / f"{number}.parquet")
    began = time.perf_counter()
    encode_catalogue(shared_run, tmp_path / "items", tmp_path / "coded", workers=2, rows=500)
    seconds = time.perf_counter() - began
    index = index_of(shared_run, tmp_path / "coded")
    print(f"{len(items):,} items in {seconds:.1f} s by two workers, {1e6 * seconds / len(items) / 60:.1f} minutes per million")
    began = time.process_time()
    encoder = SidEncoder.load(shared_run)
    alone = encode_table(shared_run, encoder, conform("items", items, origin="a test").combine_chunks())
    codes, item_ids = rebalanced(encoder, alone.coded.item_ids, alone.vectors), alone.coded.item_ids
    print(f"one process: {1e6 * (time.process_time() - began) / len(items):.0f} CPU seconds per million")
    assert index.item_ids == sorted(item_ids)
    assert index.codes.tolist() == codes[np.argsort(np.array(item_ids))].tolist()

    requests = [request for request in build_requests(market, "test") if request.query][:40]
    table = pa.table(
        {
            "query_id": [f"q{place:03d}" for place in range(len(requests))],
            "query": [request.query for request in requests],
            "history": [list(request.history[-5:]) for request in requests],
        }
    )
    pq.write_table(table, tmp_path / "queries.parquet")
    search_queries(shared_run.checkpoint, tmp_path / "queries.parquet", tmp_path / "hits", top_k=5, rows=7, num_beams=8)
    found = pq.read_table(tmp_path / "hits").sort_by("query_id").to_pylist()
    searcher = Searcher.from_pretrained(shared_run.checkpoint, num_beams=8)
    assert [row["query_id"] for row in found] == sorted(table.column("query_id").to_pylist())
    for row, request in zip(found, requests):
        hits = searcher.search(request.query, request.history[-5:], 5)
        assert row["scores"] == pytest.approx([hit.score for hit in hits], abs=1e-4)
    with pytest.raises(FileExistsError, match="holds files already"):
        encode_catalogue(shared_run, tmp_path / "items", tmp_path / "coded")


@pytest.mark.slow
def test_two_replicas_answer_as_one_process_and_take_over_a_new_catalogue(cluster, run, market):
    pytest.importorskip("fastapi")
    from ray import serve

    from onesearch.serving.fleet.ray_serve import search_application

    searcher = Searcher.from_pretrained(run.checkpoint)
    requests = build_requests(market, "test")[:24]
    bodies = [{"query": request.query, "history": list(request.history[-5:]), "top_k": 5} for request in requests]
    try:
        handle = serve.run(search_application(run.checkpoint, replicas=2), name="search")

        async def ask():
            return await asyncio.gather(*(handle.search.remote(body) for body in bodies))

        for answer, request in zip(asyncio.run(ask()), requests):
            history = request.history[-5:]
            hits = searcher.search(request.query, history, 5, context=UserContext(clicked=history))
            assert [one["score"] for one in answer["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-4)
        path = RunFolder(run.root).checkpoint / SID_INDEX_NAME
        index = SidIndex.load(path)
        gone = answer["hits"][0]["item_id"]
        index.remove_items([gone])
        index.save_updates(path)
        serve.run(search_application(run.checkpoint, replicas=2, catalogue=1), name="search")
        after = [handle.search.remote(bodies[-1]).result(timeout_s=60) for _ in range(8)]  # both replicas
        assert all(gone not in [one["item_id"] for one in answer["hits"]] for answer in after)
        assert {answer["revision"] for answer in after} == {1}
    finally:
        serve.shutdown()
