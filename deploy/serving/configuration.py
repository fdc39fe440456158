"""Triton's configuration of a served model, as a protobuf message.

``NAME`` takes picture files and gives what is found in them: Triton's Python backend runs it. Only of a plan that
Triton's own TensorRT backend runs there is a second model, ``NAME_graph``, which ``NAME`` asks. Dynamic batching never
gets a queue policy: with one instance Triton's batcher then sleeps half a second at times.
"""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.serving.options import ServiceOptions
from deploy.serving.service import BEST, About
from detection.settings import DetectorSettings

CONFIG = "config.pbtxt"

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (type, shape without the batch)."""

_SIZE: Tensors = {"size": ("INT64", (2,))}
_FOUND: Tensors = {"boxes": ("FP32", (-1, 4)), "scores": ("FP32", (-1,)), "labels": ("INT64", (-1,))}
_SEGMENTED: Tensors = {"labels": ("UINT8", (-1, -1)), "scores": ("FP32", (-1, -1))}
_FILE: Tensors = {"image": ("UINT8", (-1,))}


PARAMETERS = ("threads", "hint", "engine", "max_pixels")
"""What of the options the model itself needs, beside what stands in Triton's own fields."""


def configure(name: str, metadata: ModelMetadata, options: ServiceOptions) -> protobuf.ModelConfig:
    """The configuration of a served model.

    Args:
        name: of the served model.
        metadata: of the exported model.
        options: how to serve it.
    """
    about = About.of(metadata)
    config = _base(name, _FILE, _outputs(about, metadata), options)
    config.input[0].allow_ragged_batch = True  # files differ in length
    config.backend = "python"
    config.instance_group.add(count=options.instances, kind=protobuf.ModelInstanceGroup.KIND_CPU)
    for key in PARAMETERS:
        if getattr(options, key) is not None:
            config.parameters[key].string_value = str(getattr(options, key))
    for key, text in about.to_texts().items():  # for clients: Triton's own way to names is a file that none can ask for
        config.parameters[key].string_value = text
    return config


def configure_graph(name: str, metadata: ModelMetadata, options: ServiceOptions, profiles: int) -> protobuf.ModelConfig:
    """The configuration of a plan that Triton's TensorRT backend runs for ``NAME``; inputs and outputs are the graph's.

    Args:
        name, metadata, options: as ``configure`` takes them.
        profiles: how many optimization profiles the plan has.

    Raises:
        InputError: the graph takes each picture at several sizes.
    """
    assert metadata.exported is not None
    if metadata.exported.views:
        raise InputError(f"{name}: takes pictures at several sizes, which our runtime frames; give --plans python")
    config = _base(f"{name}_graph", *_graph(metadata), options)
    config.platform = "tensorrt_plan"
    config.default_model_filename = "model.plan"
    for tensor in config.output:
        if tensor.name == "exact":  # the graph gives one value for each picture, and Triton's dims are never empty
            tensor.reshape.SetInParent()
    group = config.instance_group.add(count=options.instances, kind=protobuf.ModelInstanceGroup.KIND_GPU)
    group.profile.extend(str(number) for number in range(profiles))
    return config


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


def texts_of(config: protobuf.ModelConfig) -> dict[str, str]:
    """The parameters of a configuration."""
    return {key: value.string_value for key, value in config.parameters.items()}


def _outputs(about: About, metadata: ModelMetadata) -> Tensors:
    if about.task == "classification":
        classes, best = len(about.classes), min(BEST, len(about.classes))
        return {"probabilities": ("FP32", (classes,)), "scores": ("FP32", (best,)), "labels": ("INT64", (best,))}
    if about.task == "segmentation":
        return _SEGMENTED | _SIZE
    masks = DetectorSettings.of(metadata).masks is not None
    return _FOUND | ({"masks": ("UINT8", (-1, -1))} if masks else {}) | _SIZE


def _graph(metadata: ModelMetadata) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of the exported graph."""
    logits: Tensors = {"logits": ("FP32", (len(metadata.classes),)), "activation_map": ("FP32", (-1, -1))}
    detected: Tensors = _FOUND | {"exact": ("BOOL", (1,)), "masks": ("FP32", (-1, -1, -1))}
    known = {"classification": logits, "detection": detected, "segmentation": _SEGMENTED}[metadata.task]
    inputs: Tensors = {"images": ("UINT8", (-1, -1, 3)), "sizes": ("INT64", (2,))}
    if metadata.task == "classification":
        size = (metadata.input and metadata.input.size) or (-1, -1)
        inputs = {"images": ("UINT8", (*size, 3))}
    assert metadata.exported is not None
    return inputs, {name: known[name] for name in metadata.exported.outputs}


def _base(name: str, inputs: Tensors, outputs: Tensors, options: ServiceOptions) -> protobuf.ModelConfig:
    config = protobuf.ModelConfig(name=name, max_batch_size=options.max_batch_size)
    for tensors, place in ((inputs, config.input), (outputs, config.output)):
        for key, (kind, dims) in tensors.items():
            place.add(name=key, data_type=protobuf.DataType.Value(f"TYPE_{kind}"), dims=dims)
    config.dynamic_batching.SetInParent()
    if options.queue_delay:
        config.dynamic_batching.max_queue_delay_microseconds = options.queue_delay
    return config
