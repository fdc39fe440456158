"""Dynamic batching: requests that wait at the same time go through the graph together."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backbones.errors import InputError
from deploy.serving.stages import Answer, Request, Stage


@dataclass
class Statistics:
    """What a model has done, in Triton's terms."""

    inferences: int = 0
    executions: int = 0
    successes: int = 0
    failures: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True)
class _Waiting:
    request: Request
    answer: asyncio.Future[Answer]
    since: float

    @property
    def pictures(self) -> int:
        return len(next(iter(self.request.values())))


class Batcher:
    """Runs one stage for many requests.

    Args:
        stage: takes several requests at once.
        max_batch: pictures in one batch at most.
        delay: seconds that a request waits for others.
        workers: batches that run at once.
    """

    def __init__(self, stage: Stage, max_batch: int, delay: float = 0.0, workers: int = 1) -> None:
        self.stage, self.max_batch, self.delay = stage, max_batch, delay
        self.statistics = Statistics()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._held: list[_Waiting] = []
        self._pool = ThreadPoolExecutor(workers)
        self._forming = asyncio.Lock()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    async def infer(self, request: Request) -> Answer:
        """One request's answer.

        Raises:
            InputError: the stage refuses it.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future(), time.monotonic())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def close(self) -> None:
        """Stop. Requests that wait are dropped, so wait for them before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._forming:
                batch = await self._form()
            begun = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._pool, self.stage.run, [one.request for one in batch])
            except Exception as error:  # whatever the engine raises belongs to these requests, and to no others
                failed = RuntimeError(f"{type(error).__name__}: {error}")
                for one in batch:
                    self._fail(one, failed)
                continue
            self._count(batch, begun)
            for one, answer in zip(batch, answers, strict=True):
                if isinstance(answer, InputError):
                    self._fail(one, answer)
                elif not one.answer.done():
                    self.statistics.successes += 1
                    one.answer.set_result(answer)

    async def _form(self) -> list[_Waiting]:
        first = self._held.pop() if self._held else await self._queue.get()
        batch, pictures = [first], first.pictures
        until = first.since + self.delay
        while pictures < self.max_batch:
            try:
                if self._queue.empty() and (left := until - time.monotonic()) > 0:
                    following = await asyncio.wait_for(self._queue.get(), left)
                else:
                    following = self._queue.get_nowait()
            except (asyncio.QueueEmpty, TimeoutError):
                break
            if pictures + following.pictures > self.max_batch:
                self._held.append(following)
                break
            batch.append(following)
            pictures += following.pictures
        return batch

    def _count(self, batch: list[_Waiting], begun: float) -> None:
        self.statistics.executions += 1
        self.statistics.inferences += sum(one.pictures for one in batch)
        self.statistics.queue_seconds += sum(begun - one.since for one in batch)
        self.statistics.compute_seconds += time.monotonic() - begun

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        self.statistics.failures += 1
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
