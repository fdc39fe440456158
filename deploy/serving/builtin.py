"""The built-in server: where no Triton is, the same repository answers the same protocol from this process."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from deploy.serving.admission import check_repository
from deploy.serving.batching import Batcher, Statistics
from deploy.serving.configuration import datatype
from deploy.serving.front import Reply
from deploy.serving.opening import open_stage
from deploy.serving.wire import HEADER_LENGTH, read_request, write_reply

logger = logging.getLogger("shortcut")

_PATH = re.compile(
    r"/v2/models/(?P<model>[\w.-]+?)(?:/versions/(?P<version>\d+))?(?:/(?P<verb>infer|ready|config|stats))?"
)


@dataclass(frozen=True)
class _Model:
    """A loaded model; ensembles have no batcher of their own."""

    config: protobuf.ModelConfig
    version: str
    batcher: Batcher | None


class BuiltinEngine:
    """Answers from this process.

    Args:
        repository: a folder that ``check_repository`` admits.
    """

    name = "the built-in server"

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.models: dict[str, _Model] = {}

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

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request of the protocol."""
        try:
            return await self._answer(path, headers, body)
        except InputError as error:
            return Reply.error(400, str(error))
        except Exception as error:  # the last line of defence: one request fails, the server stays
            logger.error("%s: %s: %s", path, type(error).__name__, error)
            return Reply.error(500, f"{type(error).__name__}: {error}")

    async def metrics(self) -> str:
        """Counters under the names that Triton gives them."""
        rows: dict[str, str] = {
            "nv_inference_request_success": "successes", "nv_inference_request_failure": "failures",
            "nv_inference_count": "inferences", "nv_inference_exec_count": "executions",
            "nv_inference_queue_duration_us": "queue_seconds",
            "nv_inference_compute_infer_duration_us": "compute_seconds",
        }  # fmt: skip
        lines = []
        for metric, attribute in rows.items():
            lines.append(f"# TYPE {metric} counter")
            for name, model in self.models.items():
                if model.batcher is not None:
                    value = getattr(model.batcher.statistics, attribute)
                    value = round(value * 1e6) if metric.endswith("_us") else value
                    lines.append(f'{metric}{{model="{name}",version="{model.version}"}} {value}')
        return "\n".join(lines) + "\n"

    async def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if path == "/v2":
            return Reply.of(
                200, {"name": "shortcut", "version": "1", "extensions": ["binary_tensor_data", "statistics"]}
            )
        if path.startswith("/v2/health/"):
            return Reply(200, b"")
        if path.startswith("/v2/repository/"):
            return await self._manage(path)
        found = _PATH.fullmatch(path)
        model = self.models.get(found["model"]) if found else None
        if found is None or model is None or found["version"] not in (None, model.version):
            return Reply.error(404, f"Request for unknown model: {path!r} is not found")
        if found["verb"] == "infer":
            return await self._infer(model, headers.get(HEADER_LENGTH), body)
        if found["verb"] == "ready":
            return Reply(200, b"")
        if found["verb"] == "config":
            return Reply.of(200, json_format.MessageToDict(model.config, preserving_proto_field_name=True))
        return Reply.of(200, _statistics(model) if found["verb"] == "stats" else _described(model))

    async def _infer(self, model: _Model, header_length: str | None, body: bytes) -> Reply:
        inputs, wanted, request_id = read_request(model.config, body, header_length)
        outputs = await self._run(model, inputs)
        name = model.config.name
        data, length = write_reply(name, model.version, outputs, wanted, request_id)
        if length is None:
            return Reply(200, data, {"Content-Type": "application/json"})
        return Reply(200, data, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)})

    async def _run(self, model: _Model, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if model.batcher is not None:
            return await model.batcher.infer(inputs)
        tensors = dict(inputs)
        for step in model.config.ensemble_scheduling.step:
            inner = self.models.get(step.model_name)
            if inner is None:
                raise InputError(f"in ensemble '{model.config.name}', {step.model_name} is not loaded")
            try:
                found = await self._run(inner, {key: tensors[value] for key, value in step.input_map.items()})
            except InputError as error:
                raise InputError(f"in ensemble '{model.config.name}', {error}") from error
            tensors |= {value: found[key] for key, value in step.output_map.items()}
        return {tensor.name: tensors[tensor.name] for tensor in model.config.output}

    async def _load(self, name: str) -> None:
        configs = check_repository(self.repository)
        if name not in configs:
            raise InputError(f"failed to load '{name}', no such model in the repository")
        config = configs[name]
        folder = max((self.repository / name).glob("[0-9]*"), key=lambda path: int(path.name))
        batcher = None
        if config.platform != "ensemble":
            if config.platform:
                raise InputError(
                    f"{name}: only Triton runs {config.platform}; write the repository with --plans python"
                )
            parameters = {key: value.string_value for key, value in config.parameters.items()}
            outputs = {tensor.name: datatype(tensor.data_type) for tensor in config.output}
            stage = await asyncio.to_thread(open_stage, folder, parameters, outputs)
            workers = config.instance_group[0].count if parameters["stage"] == "graph" else os.cpu_count() or 1
            single = parameters["stage"] != "graph"  # steps before and after gain nothing from batches, only wait
            batcher = Batcher(
                stage, 1 if single else config.max_batch_size,
                config.dynamic_batching.max_queue_delay_microseconds / 1e6, workers,
            )  # fmt: skip
        await self._unload(name)
        self.models[name] = _Model(config, folder.name, batcher)

    async def _unload(self, name: str) -> None:
        model = self.models.pop(name, None)
        if model is not None and model.batcher is not None:
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
    done = model.batcher.statistics if model.batcher is not None else Statistics()
    entry = {
        "name": model.config.name, "version": model.version, "inference_count": done.inferences,
        "execution_count": done.executions,
    }  # fmt: skip
    return {"model_stats": [entry]}
