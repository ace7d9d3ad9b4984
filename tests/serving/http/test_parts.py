"""The parts of the server: batcher, keys, pictures."""

from __future__ import annotations

import asyncio
import threading

import pytest

from onesearch.data.market import Market
from onesearch.files import RunFolder
from onesearch.serving.http.batcher import BusyError, MicroBatcher
from onesearch.serving.http.details import ItemDetails
from onesearch.serving.http.keys import ApiKeys
from onesearch.serving.http.metrics import ServerMetrics
from onesearch.serving.http.server_config import ServerConfig


def batches_of(jobs, **limits):
    """Submit jobs (name, key, size) while the first runs; return the batches and the answers."""
    ran, release = [], threading.Event()

    def run(batch):
        ran.append(list(batch))
        release.wait(10)
        return [ValueError(job) if job == "bad" else job.upper() for job in batch]

    async def main():
        batcher = MicroBatcher(run, ServerConfig(**limits), ServerMetrics())
        batcher.start()
        first = asyncio.create_task(batcher.submit("first", "k", 1))
        while not ran:
            await asyncio.sleep(0.001)
        tasks = [asyncio.create_task(batcher.submit(*job)) for job in jobs]
        await asyncio.sleep(0.01)
        release.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await first
        await batcher.close()
        with pytest.raises(BusyError, match="stopping"):
            await batcher.submit("late", "k", 1)
        return answers

    answers = asyncio.run(main())
    return ran[1:], answers


def test_batches_have_one_key_and_similar_lengths_and_the_oldest_job_goes_first():
    jobs = [("a", 1, 40), ("b", 2, 40), ("c", 1, 9), ("d", 1, 33), ("e", 1, 17), ("f", 1, 60)]
    ran, answers = batches_of(jobs, batch_size=3)
    assert ran == [["a", "d", "f"], ["b"], ["c", "e"]]  # 40, 33 and 60 share a bucket; 9 and 17 lie in neighbouring ones
    assert answers == ["A", "B", "C", "D", "E", "F"]


def test_an_error_is_the_answer_of_its_own_job():
    ran, answers = batches_of([("a", 1, 1), ("bad", 1, 1), ("c", 1, 1)])
    assert ran == [["a", "bad", "c"]] and answers[::2] == ["A", "C"] and isinstance(answers[1], ValueError)


def test_the_queue_is_bounded():
    _, answers = batches_of([("a", 1, 1), ("b", 1, 1), ("c", 1, 1)], queue_size=2)
    assert answers[:2] == ["A", "B"] and answers[2].reason == "queue_full" and answers[2].retry_after == 1


def test_keys_come_from_a_file_and_from_the_environment(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# staging\nfirst-key-of-many-letters\n\n")
    keys = ApiKeys.load(path, {"ONESEARCH_API_KEYS": "second-key-of-many-letters, third-key-of-many-letters"})
    assert len(keys) == 3 and all(keys.accepts(f"{name}-key-of-many-letters") for name in ("first", "second", "third"))
    assert not keys.accepts("") and not keys.accepts("first-key-of-many-letter") and not keys.accepts("\ud800")
    with pytest.raises(ValueError, match="fewer than 16 characters"):
        ApiKeys(["short"])


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("timeout", 0.0), ("batch_wait", -1.0), ("grace", float("nan"))]
)
def test_limits_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        ServerConfig(**{name: value})


def test_pictures_are_files_of_the_market_or_addresses(tmp_path):
    images = {"a": "pictures/a.png", "b": "https://shop.example/b.jpg", "c": "../secret.png", "d": "market.json", "e": None}
    items = [{"item_id": item, "title": item, "image": image} for item, image in images.items()]
    run = RunFolder(tmp_path)
    Market.from_rows(items=items, info={"name": "m", "split": {"method": "none"}}).save(run.market)
    (run.market / "pictures").mkdir()
    (run.market / "pictures" / "a.png").write_bytes(b"png")
    (tmp_path / "secret.png").write_bytes(b"png")
    details = ItemDetails(run, Market.load(run.market))
    assert [detail["image"] for detail in details.of(["a", "b", "e"])] == ["pictures/a", images["b"], None]
    assert details.picture("a") == run.market.resolve() / "pictures" / "a.png"
    assert [details.picture(item) for item in ("b", "c", "d", "e", "unknown")] == [None] * 5
