"""The built-in server: where no Triton is, the same repository answers the same protocol from this process.

Files are decoded by threads as they come; pictures of several requests that are padded alike and wait at the same time
go through the graph together.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from deploy.serving.configuration import texts_of
from deploy.serving.protocol import HEADER_LENGTH, Reply, datatype, read_request, write_reply
from deploy.serving.repository_files import check_repository, latest_version
from deploy.serving.service import READERS, Answer, Service, open_service, tensors_of, whole

logger = logging.getLogger("shortcut")

_PATH = re.compile(
    r"/v2/models/(?P<model>[\w.-]+?)(?:/versions/(?P<version>\d+))?(?:/(?P<verb>infer|ready|config|stats))?"
)
_METRICS = {
    "nv_inference_request_success": "successes", "nv_inference_request_failure": "failures",
    "nv_inference_count": "inferences", "nv_inference_exec_count": "executions",
    "nv_inference_queue_duration_us": "queue_seconds", "nv_inference_compute_infer_duration_us": "compute_seconds",
}  # fmt: skip
"""Triton's names of what ``Statistics`` counts."""
_EARLY = 1e-3
"""Seconds that a timer may come too early."""


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
    picture: Any
    found: asyncio.Future[tuple[Any, int]]
    since: float


class Batcher:
    """Puts pictures that wait at the same time through the graph together, if they are padded alike.

    Args:
        look: the graph, on pictures that are padded alike.
        max_batch: pictures in one batch at most.
        delay: seconds that a picture waits for others.
        instances: batches that run at once.
    """

    def __init__(self, look: Callable[[list[Any]], Any], max_batch: int, delay: float, instances: int) -> None:
        self.look, self.max_batch, self.delay = look, max_batch, delay
        self.statistics = Statistics()
        self._waiting: dict[Hashable, list[_Waiting]] = {}
        self._free = instances
        self._running: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(instances)

    async def infer(self, picture: Any) -> tuple[Any, int]:
        """What the graph finds in the batch of a framed picture, and the picture's place in it.

        Raises:
            InputError: the graph takes no such batch.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(picture, loop.create_future(), loop.time())
        self._waiting.setdefault(picture.padded, []).append(waiting)
        self._start()
        if self.delay:
            loop.call_later(self.delay, self._start)
        return await waiting.found

    async def close(self) -> None:
        """Stop. Requests that wait fail, so wait for them before."""
        await asyncio.to_thread(self._pool.shutdown)

    def _start(self) -> None:
        while self._free and (batch := self._next()):
            self._free -= 1
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next(self) -> list[_Waiting]:
        """A full batch, or the one whose first picture has waited longest, if that is long enough."""
        groups = sorted(self._waiting.items(), key=lambda item: (len(item[1]) < self.max_batch, item[1][0].since))
        for padded, group in groups[:1]:
            until = group[0].since + self.delay - _EARLY
            if len(group) >= self.max_batch or until <= asyncio.get_running_loop().time():
                self._waiting[padded] = group[self.max_batch :]
                if not self._waiting[padded]:
                    del self._waiting[padded]
                return group[: self.max_batch]
        return []

    async def _run(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            found = await loop.run_in_executor(self._pool, self.look, [one.picture for one in batch])
        except Exception as error:  # whatever the engine raises belongs to these pictures, and to no others
            for one in batch:
                if not one.found.done():
                    one.found.set_exception(error)
        else:
            self.statistics.executions += 1
            self.statistics.inferences += len(batch)
            self.statistics.queue_seconds += sum(begun - one.since for one in batch)
            self.statistics.compute_seconds += loop.time() - begun
            for row, one in enumerate(batch):
                if not one.found.done():  # who asked may have gone
                    one.found.set_result((found, row))
        self._free += 1
        self._start()


@dataclass(frozen=True)
class _Model:
    """A loaded model."""

    config: protobuf.ModelConfig
    version: str
    service: Service
    batcher: Batcher


class BuiltinEngine:
    """Answers from this process.

    Args:
        repository: a folder that ``check_repository`` admits.
    """

    name = "the built-in server"

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.models: dict[str, _Model] = {}
        self._threads = ThreadPoolExecutor(READERS)

    async def open(self) -> None:
        """Load every model.

        Raises:
            InputError: one cannot be loaded.
        """
        for name in check_repository(self.repository):
            await self._load(name)

    async def close(self) -> None:
        """Stop the batchers."""
        for name in list(self.models):
            await self._unload(name)
        self._threads.shutdown()

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request of the protocol."""
        return await _explained(path, self._answer(path, headers, body))

    async def predict(self, name: str, file: bytes, reply: Callable[[Any], Reply]) -> Reply:
        """One picture, without the protocol."""
        model = self.models.get(name)
        if model is None:
            return Reply.error(404, f"Request for unknown model: {name!r} is not found")
        return await _explained(name, self._infer(model, [file], lambda answers: reply(answers[0].found)))

    async def metrics(self) -> str:
        """Counters under the names that Triton gives them."""
        lines = []
        for metric, attribute in _METRICS.items():
            lines.append(f"# TYPE {metric} counter")
            for name, model in self.models.items():
                value = getattr(model.batcher.statistics, attribute)
                value = round(value * 1e6) if metric.endswith("_us") else value
                lines.append(f'{metric}{{model="{name}",version="{model.version}"}} {value}')
        return "\n".join(lines) + "\n"

    async def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if path == "/v2":
            extensions = ["binary_tensor_data", "statistics"]
            return Reply.of(200, {"name": "shortcut", "version": "1", "extensions": extensions})
        if path.startswith("/v2/health/"):
            return Reply(200, b"")
        if path.startswith("/v2/repository/"):
            return await self._manage(path)
        found = _PATH.fullmatch(path)
        model = self.models.get(found["model"]) if found else None
        if found is None or model is None or found["version"] not in (None, model.version):
            return Reply.error(404, f"Request for unknown model: {path!r} is not found")
        if found["verb"] == "infer":
            request = read_request(model.config, body, headers.get(HEADER_LENGTH))

            def reply(answers: list[Answer]) -> Reply:
                return write_reply(model.config.name, model.version, tensors_of(answers, request.outputs), request)

            return await self._infer(model, request.files, reply)
        if found["verb"] == "ready":
            return Reply(200, b"")
        if found["verb"] == "config":
            return Reply.of(200, json_format.MessageToDict(model.config, preserving_proto_field_name=True))
        return Reply.of(200, _statistics(model) if found["verb"] == "stats" else _described(model))

    async def _infer(self, model: _Model, files: Sequence[bytes], reply: Callable[[list[Answer]], Reply]) -> Reply:
        """Files to pictures in threads, pictures through the graph, and what is found to a reply in a thread again."""
        loop, counts = asyncio.get_running_loop(), model.batcher.statistics

        async def look(file: bytes) -> tuple[Any, Any, int]:
            picture = await loop.run_in_executor(self._threads, model.service.read, file)
            return picture, *await model.batcher.infer(picture)

        try:
            looked = await asyncio.gather(*map(look, files), return_exceptions=True)

            def finish() -> Reply:
                result = model.service.result
                return reply(whole([one if isinstance(one, BaseException) else result(*one) for one in looked]))

            answered = await loop.run_in_executor(self._threads, finish)
        except Exception:
            counts.failures += 1
            raise
        counts.successes += 1
        return answered

    async def _load(self, name: str) -> None:
        configs = check_repository(self.repository)
        if name not in configs:
            raise InputError(f"failed to load '{name}', no such model in the repository")
        config = configs[name]
        folder = latest_version(self.repository / name)
        service = await asyncio.to_thread(open_service, folder, texts_of(config))
        delay = config.dynamic_batching.max_queue_delay_microseconds / 1e6
        batcher = Batcher(service.runtime.look, config.max_batch_size, delay, config.instance_group[0].count)
        await self._unload(name)
        self.models[name] = _Model(config, folder.name, service, batcher)

    async def _unload(self, name: str) -> None:
        model = self.models.pop(name, None)
        if model is not None:
            await model.batcher.close()

    async def _manage(self, path: str) -> Reply:
        *_, name, verb = path.split("/")
        if verb == "load":
            await self._load(name)
            return Reply(200, b"")
        if verb == "unload":
            await self._unload(name)
            return Reply(200, b"")
        states = [
            {"name": known, "state": "READY" if known in self.models else "UNAVAILABLE"}
            for known in check_repository(self.repository)
        ]
        return Reply.of(200, states)


async def _explained(what: str, question: Awaitable[Reply]) -> Reply:
    """A reply, or why there is none."""
    try:
        return await question
    except InputError as error:
        return Reply.error(400, str(error))
    except Exception as error:  # the last line of defence: one request fails, the server stays
        logger.error("%s: %s: %s", what, type(error).__name__, error)
        return Reply.error(500, f"{type(error).__name__}: {error}")


def _described(model: _Model) -> dict[str, Any]:
    config = model.config
    return {
        "name": config.name,
        "versions": [model.version],
        "platform": config.platform or config.backend,
        "inputs": [_tensor(tensor) for tensor in config.input],
        "outputs": [_tensor(tensor) for tensor in config.output],
    }


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": datatype(tensor.data_type), "shape": [-1, *tensor.dims]}


def _statistics(model: _Model) -> dict[str, Any]:
    done = model.batcher.statistics
    entry = {
        "name": model.config.name, "version": model.version, "inference_count": done.inferences,
        "execution_count": done.executions,
    }  # fmt: skip
    return {"model_stats": [entry]}
