"""Requests and answers of the Open Inference Protocol over HTTP: JSON, with tensors in it or as bytes behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from deploy.serving.configuration import datatype
from deploy.serving.tensors import DTYPES, from_bytes, from_json

HEADER_LENGTH = "Inference-Header-Content-Length"
"""How many bytes are JSON, where tensors follow as bytes; 0 where the body is one tensor and nothing else."""


def read_request(
    config: protobuf.ModelConfig, body: bytes, header_length: str | None
) -> tuple[dict[str, NDArray[Any]], dict[str, bool], str]:
    """The tensors of a request, checked against the model's configuration.

    Returns:
        The inputs; the outputs that are asked for, and whether as bytes; the request's own name.

    Raises:
        InputError: it is malformed, or has other tensors than the model takes.
    """
    known = {tensor.name: tensor for tensor in config.input}
    every = [tensor.name for tensor in config.output]
    if header_length == "0":
        tensor = config.input[0]
        if len(known) > 1 or list(tensor.dims) != [-1] or datatype(tensor.data_type) != "UINT8":
            raise InputError(f"{config.name}: takes no raw bytes; its input has names and shapes")
        values = from_bytes(memoryview(body), datatype(tensor.data_type), [1, len(body)])
        return {tensor.name: _checked(values, tensor, config)}, dict.fromkeys(every, True), ""
    head, rest = _split(body, header_length)
    inputs: dict[str, NDArray[Any]] = {}
    for entry in _entries(head, "inputs"):
        name = entry["name"]
        if name not in known:
            raise InputError(f"unexpected inference input '{name}' for model '{config.name}'")
        values, rest = _read_tensor(entry, datatype(known[name].data_type), rest)
        inputs[name] = _checked(values, known[name], config)
    if missing := [name for name in known if name not in inputs]:
        raise InputError(f"model '{config.name}' also needs the inputs {', '.join(missing)}")
    if len({len(values) for values in inputs.values()}) > 1:
        raise InputError("the inputs are of different numbers of pictures")
    return inputs, _wanted(head, every, config.name), str(head.get("id", ""))


def write_reply(
    model: str, version: str, outputs: Mapping[str, NDArray[Any]], wanted: Mapping[str, bool], request_id: str
) -> tuple[bytes, int | None]:
    """An answer as bytes, and how many of them are JSON (None: all)."""
    head: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": []}
    if request_id:
        head["id"] = request_id
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    chunks = []
    for name, binary in wanted.items():
        array = outputs[name]
        entry: dict[str, Any] = {"name": name, "datatype": names[array.dtype], "shape": list(array.shape)}
        if binary:
            chunks.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        head["outputs"].append(entry)
    text = json.dumps(head).encode()
    return b"".join((text, *chunks)), len(text) if chunks else None


def read_reply(body: bytes, header_length: str | None) -> dict[str, NDArray[Any]]:
    """The tensors of an answer."""
    head, rest = _split(body, header_length)
    outputs = {}
    for entry in head["outputs"]:
        outputs[entry["name"]], rest = _read_tensor(entry, entry["datatype"], rest)
    return outputs


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


def _read_tensor(entry: dict[str, Any], expected: str, rest: memoryview) -> tuple[NDArray[Any], memoryview]:
    name, shape = entry["name"], entry.get("shape")
    if entry.get("datatype") != expected:
        raise InputError(f"input '{name}' is {entry.get('datatype')}, but the model expects {expected}")
    if not isinstance(shape, list):
        raise InputError(f"input '{name}' has no shape")
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    try:
        if size is None:
            return from_json(entry.get("data"), expected, shape), rest
        if type(size) is not int or not 0 <= size <= len(rest):
            raise InputError(f"binary_data_size {size} is more than there is")
        return from_bytes(rest[:size], expected, shape), rest[size:]
    except InputError as error:
        raise InputError(f"input '{name}': {error}") from error


def _checked(values: NDArray[Any], tensor: protobuf.ModelInput, config: protobuf.ModelConfig) -> NDArray[Any]:
    expected = [-1, *tensor.dims]
    fits = values.ndim == len(expected) and all(
        side in (-1, own) and own > 0 for side, own in zip(expected, values.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"unexpected shape for input '{tensor.name}' for model '{config.name}'. "
            f"Expected {expected}, got {list(values.shape)}"
        )
    if len(values) > config.max_batch_size:
        raise InputError(f"inference request batch-size must be <= {config.max_batch_size} for '{config.name}'")
    return values


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
