"""Triton's configurations of one served model, as protobuf messages.

A served model ``NAME`` is four of Triton's: ``NAME`` takes picture files and gives detections or classes. It is an
ensemble of ``NAME_picture`` (decode, resize, pad), ``NAME_graph`` (the exported graph, as it is) and ``NAME_answer``.
Dynamic batching never gets a queue policy: with one instance Triton's batcher then sleeps half a second at times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.convention import InputConvention
from backbones.errors import InputError
from deploy.serving.stages import BEST
from detection.settings import DetectorSettings

CONFIG = "config.pbtxt"
STAGES = ("picture", "graph", "answer")

Dims = tuple[int, ...]
Tensors = dict[str, tuple[str, Dims]]
"""Name -> (type, shape without the batch)."""

_DETECTOR_OUTPUTS: Tensors = {
    "boxes": ("FP32", (-1, 4)), "scores": ("FP32", (-1,)), "labels": ("INT64", (-1,)), "exact": ("BOOL", (1,)),
    "masks": ("FP32", (-1, -1, -1)),
}  # fmt: skip


@dataclass(frozen=True)
class Service:
    """How a model is served.

    Attributes:
        max_batch_size: pictures in one batch at most.
        instances: copies of the graph that run at once.
        threads: processor threads of each; 0 for all.
        hint: how OpenVINO divides them, as ``load_runtime`` takes it.
        queue_delay: microseconds that a request waits for others to share its batch.
        max_pixels: larger pictures are refused.
        native: a ``.plan`` runs in Triton's own TensorRT backend, not in our runtime.
        profiles: how many optimization profiles a native plan has.
    """

    max_batch_size: int = 8
    instances: int = 1
    threads: int = 0
    hint: str = "latency"
    queue_delay: int = 0
    max_pixels: int = 50_000_000
    native: bool = False
    profiles: int = 0


def configure(name: str, metadata: Mapping[str, Any], service: Service) -> dict[str, protobuf.ModelConfig]:
    """The configurations of one served model, by the name of their folder.

    Args:
        name: of the served model.
        metadata: of the exported model.
        service: how to serve it.

    Raises:
        InputError: a model of this task cannot be served.
    """
    if metadata["task"] == "classification":
        graph_inputs, graph_outputs = _classifier_graph(metadata)
        answer = _classifier_answer(metadata)
        extra: Tensors = {}
    elif metadata["task"] == "detection":
        graph_inputs, graph_outputs = _detector_graph(metadata)
        answer = _detector_answer(metadata)
        extra = {"size": ("INT64", (2,))}
    else:
        raise InputError(f"{name}: a model for {metadata['task']} cannot be served yet; classifiers and detectors can")
    file: Tensors = {"image": ("UINT8", (-1,))}
    from_picture = graph_inputs | extra
    needed = {"logits": graph_outputs["logits"]} if "logits" in graph_outputs else _without(graph_outputs, "exact")
    to_answer = needed | _without(from_picture, "images")
    picture = _step(f"{name}_picture", "picture", file, from_picture, service, max_pixels=service.max_pixels)
    picture.input[0].allow_ragged_batch = True  # files differ in length
    ensemble = _ensemble(name, file, answer | extra, (from_picture, graph_inputs, needed, to_answer), service)
    for key in ("task", "classes"):  # for clients: Triton's own way to names is a text file that none can ask for
        ensemble.parameters[key].string_value = json.dumps(metadata[key])
    return {
        picture.name: picture,
        f"{name}_graph": _graph(f"{name}_graph", graph_inputs, graph_outputs, service),
        f"{name}_answer": _step(f"{name}_answer", "answer", to_answer, answer, service),
        name: ensemble,
    }


def as_text(config: protobuf.ModelConfig) -> str:
    """A configuration as the text of ``config.pbtxt``."""
    text: str = text_format.MessageToString(config)
    return text


def from_text(text: str, path: object) -> protobuf.ModelConfig:
    """A configuration from the text of ``config.pbtxt``.

    Raises:
        InputError: it is none; the message says line and column.
    """
    try:
        return text_format.Parse(text, protobuf.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def datatype(kind: int) -> str:
    """The protocol's name for protobuf's number of a type."""
    name: str = protobuf.DataType.Name(kind)
    return name.removeprefix("TYPE_")


def _classifier_graph(metadata: Mapping[str, Any]) -> tuple[Tensors, Tensors]:
    size = InputConvention.from_dict(metadata["input"]).size or (-1, -1)
    known: Tensors = {"logits": ("FP32", (len(metadata["classes"]),)), "activation_map": ("FP32", (-1, -1))}
    listed = metadata.get("outputs", ("logits",))
    return {"images": ("UINT8", (*size, 3))}, {name: known[name] for name in listed}


def _detector_graph(metadata: Mapping[str, Any]) -> tuple[Tensors, Tensors]:
    settings = DetectorSettings.from_dict(metadata["architecture"])
    default = [name for name in _DETECTOR_OUTPUTS if name != "masks" or settings.masks is not None]
    listed = metadata.get("outputs", default)
    inputs: Tensors = {"images": ("UINT8", (-1, -1, 3)), "sizes": ("INT64", (2,))}
    return inputs, {name: _DETECTOR_OUTPUTS[name] for name in listed}


def _classifier_answer(metadata: Mapping[str, Any]) -> Tensors:
    classes = len(metadata["classes"])
    best = min(BEST, classes)
    return {
        "probabilities": ("FP32", (classes,)),
        "scores": ("FP32", (best,)),
        "labels": ("INT64", (best,)),
    }


def _detector_answer(metadata: Mapping[str, Any]) -> Tensors:
    masks = DetectorSettings.from_dict(metadata["architecture"]).masks
    answer: Tensors = {
        "boxes": ("FP32", (-1, 4)), "scores": ("FP32", (-1,)), "labels": ("INT64", (-1,)),
    }  # fmt: skip
    return answer | ({"masks": ("UINT8", (-1, -1))} if masks is not None else {})


def _graph(name: str, inputs: Tensors, outputs: Tensors, service: Service) -> protobuf.ModelConfig:
    if not service.native:
        config = _step(name, "graph", inputs, outputs, service, threads=service.threads, hint=service.hint)
        config.instance_group[0].count = service.instances
        for tensor in config.input:
            tensor.allow_ragged_batch = tensor.name == "images"
        return config
    config = _base(name, inputs, outputs, service)
    config.platform = "tensorrt_plan"
    config.default_model_filename = "model.plan"
    for tensor in config.output:
        if tensor.name == "exact":  # the graph gives one value for each picture, and Triton's dims are never empty
            tensor.reshape.SetInParent()
    group = config.instance_group.add(count=service.instances, kind=protobuf.ModelInstanceGroup.KIND_GPU)
    group.profile.extend(str(number) for number in range(service.profiles))
    _batch_dynamically(config, service)
    return config


def _step(
    name: str, stage: str, inputs: Tensors, outputs: Tensors, service: Service, **parameters: object
) -> protobuf.ModelConfig:
    """A model that our Python runs."""
    config = _base(name, inputs, outputs, service)
    config.backend = "python"
    config.instance_group.add(count=1, kind=protobuf.ModelInstanceGroup.KIND_CPU)
    for key, value in {"stage": stage, **parameters}.items():
        config.parameters[key].string_value = str(value)
    _batch_dynamically(config, service if stage == "graph" else Service())
    return config


def _ensemble(
    name: str, inputs: Tensors, outputs: Tensors, flow: tuple[Tensors, Tensors, Tensors, Tensors], service: Service
) -> protobuf.ModelConfig:
    """Tensors keep their names from step to step, with the step's before them: answers reuse the graph's names."""
    from_picture, graph_inputs, needed, to_answer = flow
    config = _base(name, inputs, outputs, service)
    config.platform = "ensemble"
    own = "size" if "size" in from_picture else ""  # the one answer that the first step already knows
    inner = {key: key if key == own else f"picture_{key}" for key in from_picture}
    picture, graph, answer = (
        config.ensemble_scheduling.step.add(model_name=f"{name}_{stage}", model_version=-1) for stage in STAGES
    )
    picture.input_map["image"] = "image"
    for key, value in inner.items():
        picture.output_map[key] = value
    for key in graph_inputs:
        graph.input_map[key] = inner[key]
    for key in needed:
        graph.output_map[key] = f"graph_{key}"
    for key in to_answer:
        answer.input_map[key] = f"graph_{key}" if key in needed else inner[key]
    for key in _without(outputs, own):
        answer.output_map[key] = key
    return config


def _base(name: str, inputs: Tensors, outputs: Tensors, service: Service) -> protobuf.ModelConfig:
    config = protobuf.ModelConfig(name=name, max_batch_size=service.max_batch_size)
    for tensors, place in ((inputs, config.input), (outputs, config.output)):
        for key, (kind, dims) in tensors.items():
            number = protobuf.DataType.Value(f"TYPE_{kind}")
            place.add(name=key, data_type=number, dims=dims)
    return config


def _batch_dynamically(config: protobuf.ModelConfig, service: Service) -> None:
    config.dynamic_batching.SetInParent()
    if service.queue_delay:
        config.dynamic_batching.max_queue_delay_microseconds = service.queue_delay


def _without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}
