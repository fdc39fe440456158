"""The Open Inference Protocol over HTTP: requests read, answers written, and read back.

A request is JSON with tensors in it or as bytes behind it. No strings: models of ours neither take nor give them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from deploy.serving.service import Tensors

HEADER_LENGTH = "Inference-Header-Content-Length"
"""How many bytes are JSON, where tensors follow as bytes; 0 where the body is one picture's file and nothing else."""
DTYPES: dict[str, Any] = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
"""The protocol's types that models of ours use."""


@dataclass(frozen=True)
class Request:
    """What a model is asked.

    Attributes:
        files: of pictures.
        outputs: those that are wanted, and whether as bytes.
        name: its own.
    """

    files: list[bytes]
    outputs: dict[str, bool]
    name: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer by the Open Inference Protocol."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, value: Any, **headers: str) -> Reply:
        """An answer in JSON."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    @classmethod
    def error(cls, status: int, text: str) -> Reply:
        """A refusal that says why."""
        headers = {"Retry-After": "1"} if status == 503 else {}
        return cls.of(status, {"error": text}, **headers)


def read_request(config: protobuf.ModelConfig, body: bytes, header_length: str | None) -> Request:
    """A request, checked against the model's configuration.

    Raises:
        InputError: it is malformed, or has other tensors than the model takes.
    """
    every = [tensor.name for tensor in config.output]
    if header_length == "0":
        return Request([body], dict.fromkeys(every, True))
    head, rest = _split(body, header_length)
    files = None
    for entry in _entries(head, "inputs"):
        if entry["name"] != "image":
            raise InputError(f"unexpected inference input '{entry['name']}' for model '{config.name}'")
        files = _read_image(entry, rest, config)
    if files is None:
        raise InputError(f"model '{config.name}' needs the input image")
    return Request([row.tobytes() for row in files], _wanted(head, every, config.name), str(head.get("id", "")))


def write_reply(model: str, version: str, tensors: Mapping[str, NDArray[Any]], request: Request) -> Reply:
    """A model's answer."""
    head: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": []}
    if request.name:
        head["id"] = request.name
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    chunks = []
    for name, binary in request.outputs.items():
        array = tensors[name]
        entry: dict[str, Any] = {"name": name, "datatype": names[array.dtype], "shape": list(array.shape)}
        if binary:
            chunks.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        head["outputs"].append(entry)
    if not chunks:
        return Reply.of(200, head)
    text = json.dumps(head).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return Reply(200, b"".join((text, *chunks)), headers)


def read_reply(reply: Reply) -> Tensors:
    """The tensors of an answer to a picture's bare file: all come as bytes."""
    head, rest = _split(reply.body, reply.headers.get(HEADER_LENGTH))
    tensors, place = {}, 0
    for entry in head["outputs"]:
        end = place + entry["parameters"]["binary_data_size"]
        tensors[entry["name"]] = np.frombuffer(rest[place:end], DTYPES[entry["datatype"]]).reshape(entry["shape"])
        place = end
    return tensors


def datatype(kind: int) -> str:
    """The protocol's name for protobuf's number of a type."""
    name: str = protobuf.DataType.Name(kind)
    return name.removeprefix("TYPE_")


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    if header_length is not None and not (header_length.isdecimal() and int(header_length) <= len(body)):
        raise InputError(f"{HEADER_LENGTH}: {header_length} is no length within the body")
    length = len(body) if header_length is None else int(header_length)
    try:
        head = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"failed to parse the request JSON: {error}") from error
    if not isinstance(head, dict):
        raise InputError("failed to parse the request JSON: expected an object")
    return head, memoryview(body)[length:]


def _entries(head: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = head.get(key)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    ):
        raise InputError(f"'{key}': expected a list of tensors, each with a name")
    return entries


def _read_image(entry: dict[str, Any], rest: memoryview, config: protobuf.ModelConfig) -> NDArray[np.uint8]:
    """The files of the input ``image``, [B, N]."""
    shape = entry.get("shape")
    if entry.get("datatype") != "UINT8":
        raise InputError(f"input 'image' is {entry.get('datatype')}, but the model expects UINT8")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        raise InputError(
            f"unexpected shape for input 'image' for model '{config.name}'. Expected [-1, -1], got {shape}"
        )
    if shape[0] > config.max_batch_size:
        raise InputError(f"inference request batch-size must be <= {config.max_batch_size} for '{config.name}'")
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        values = _numbers(entry.get("data"))
    elif type(size) is int and 0 <= size <= len(rest):
        values = np.frombuffer(rest[:size], np.uint8)
    else:
        raise InputError(f"input 'image': binary_data_size {size} is more than there is")
    if values.size != shape[0] * shape[1]:
        raise InputError(f"input 'image': got {values.size} values for the shape {shape}")
    return values.reshape(shape)


def _numbers(data: Any) -> NDArray[np.uint8]:
    """The values of a list, nested or flat."""
    try:
        values = np.array(data)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() > 255:
        raise InputError("input 'image': its data are no UINT8 numbers")
    return values.astype(np.uint8)


def _wanted(head: dict[str, Any], every: list[str], model: str) -> dict[str, bool]:
    parameters = head.get("parameters")
    default = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    if not head.get("outputs"):
        return dict.fromkeys(every, default)
    wanted = {}
    for entry in _entries(head, "outputs"):
        if entry["name"] not in every:
            raise InputError(f"unexpected inference output '{entry['name']}' for model '{model}'")
        own = entry.get("parameters")
        wanted[entry["name"]] = bool(own.get("binary_data", default)) if isinstance(own, dict) else default
    return wanted
