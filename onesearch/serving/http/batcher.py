"""Micro-batching: requests that wait at the same time are searched together, and the queue in which they wait is bounded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .metrics import ServerMetrics
from .server_config import ServerConfig

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class BusyError(Exception):
    """The server cannot answer a request now.

    Args:
        reason: ``queue_full``, ``timeout`` or ``stopping``.
        message: the reason in a sentence.
        retry_after: seconds after which the client may ask again.
    """

    def __init__(self, reason: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.reason, self.retry_after = reason, retry_after


@dataclass(eq=False)
class Waiting(Generic[Job, Answer]):
    """A job in the queue.

    Args:
        job: the job.
        key: only jobs with equal keys may run in one batch.
        bucket: number of the job's length bucket.
        future: receives the answer.
    """

    job: Job
    key: Hashable
    bucket: int
    future: asyncio.Future[Answer]


def bucket_of(size: int) -> int:
    """Return the length bucket of a prompt, 0, 1, 2–3, 4–7, 8–15, …, so that lengths within a bucket differ by a factor below 2."""
    return size.bit_length()


class MicroBatcher(Generic[Job, Answer]):
    """Collects jobs and runs them in batches, one batch at a time, in a thread of its own.

    The next batch is chosen when the model is free:

    1. Take the oldest waiting job, so that no job waits for ever.
    2. Join waiting jobs with its key, those of its length bucket first, then those of the buckets beside it.

    Args:
        run: runs a batch and returns an answer, or an exception, for each job. It is called in the thread.
        config: limits.
        metrics: counts queue and batches.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], Sequence[Answer | Exception]], config: ServerConfig, metrics: ServerMetrics
    ) -> None:
        self.run, self.config, self.metrics = run, config, metrics
        self.queue: list[Waiting[Job, Answer]] = []
        self.running = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "search")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._seconds_per_job = 0.01

    def start(self) -> None:
        """Begin to run batches; an event loop must be running."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Refuse new jobs, answer those that wait, and end the thread."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def submit(self, job: Job, key: Hashable, size: int) -> Answer:
        """Wait for the answer of a job.

        Args:
            job: the job.
            key: only jobs with equal keys run in one batch.
            size: estimated length of the prompt in tokens.

        Raises:
            BusyError: the queue is full, the job took longer than the time-out, or the server is stopping.
        """
        if self._closing:
            raise BusyError("stopping", "the server is stopping; ask another one", 1)
        if len(self.queue) >= self.config.queue_size:
            raise BusyError(
                "queue_full", f"{len(self.queue)} requests are waiting already; ask again later", self._retry_after()
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.queue.append(Waiting(job, key, bucket_of(size), future))
        self.metrics.queue.set(len(self.queue))
        self._arrived.set()
        try:
            return await asyncio.wait_for(future, self.config.timeout)
        except TimeoutError as error:
            message = f"no hits within {self.config.timeout:g} seconds; ask again later"
            raise BusyError("timeout", message, self._retry_after()) from error

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function between two batches, in their thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _retry_after(self) -> int:
        """Seconds until the jobs that wait now have run, at least 1."""
        return max(math.ceil(len(self.queue) * self._seconds_per_job), 1)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self.config.batch_wait and len(self.queue) < self.config.batch_size and not self._closing:
                await asyncio.sleep(self.config.batch_wait)
            batch = self._next_batch()
            if batch:
                await self._run_batch(batch)
            elif self._closing:
                return
            else:
                self._arrived.clear()

    def _next_batch(self) -> list[Waiting[Job, Answer]]:
        """Take the next jobs out of the queue. Those that nobody waits for any more are dropped."""
        self.queue = [waiting for waiting in self.queue if not waiting.future.done()]
        if not self.queue:
            return []
        first = self.queue[0]
        fitting = [
            waiting for waiting in self.queue if waiting.key == first.key and abs(waiting.bucket - first.bucket) <= 1
        ]  # oldest first
        fitting.sort(key=lambda waiting: (waiting is not first, waiting.bucket != first.bucket))  # a stable sort
        batch = fitting[: self.config.batch_size]
        taken = set(map(id, batch))
        self.queue = [waiting for waiting in self.queue if id(waiting) not in taken]
        self.metrics.queue.set(len(self.queue))
        return batch

    async def _run_batch(self, batch: list[Waiting[Job, Answer]]) -> None:
        began, self.running = time.perf_counter(), len(batch)
        answers: Sequence[Answer | Exception]
        try:
            answers = await self.call(self.run, [waiting.job for waiting in batch])
        except Exception as error:  # noqa: BLE001 - every job of the batch must get an answer, and the next batch must run
            answers = [error] * len(batch)
        seconds, self.running = time.perf_counter() - began, 0
        self._seconds_per_job += 0.2 * (seconds / len(batch) - self._seconds_per_job)
        self.metrics.batch_size.observe(len(batch))
        self.metrics.batch_seconds.observe(seconds)
        for waiting, answer in zip(batch, answers):
            if waiting.future.done():
                continue
            if isinstance(answer, Exception):
                waiting.future.set_exception(answer)
            else:
                waiting.future.set_result(answer)


__all__ = ["BusyError", "MicroBatcher", "bucket_of"]
