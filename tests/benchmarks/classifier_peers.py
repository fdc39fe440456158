"""ResNet-50 as a user would get it without us: the same weights in other people's networks, converters and quantisers.

Each takes pixels [B, H, W, 3] as ours do, with the normalization inside, so that all are asked for the same.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
import torchvision
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from backbones.convention import IMAGENET, InputConvention
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.normalization import Normalize
from backbones.running.precision import autocast
from deploy.benchmarking.subjects import Subject
from deploy.runtimes.openvino_runtime import _core

Run = Callable[[Picture], NDArray[Any]]
CPU = torch.device("cpu")
EXAMPLE = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)


@dataclass(frozen=True)
class Peer:
    """What ``deploy_speed`` asks of a classifier."""

    logits: Run
    precision: str
    convention: InputConvention = IMAGENET


class FromPixels(nn.Module):
    """A network behind ImageNet's normalization: [B, H, W, 3] uint8 -> [B, K]."""

    def __init__(self, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        network.load_state_dict(dict(tensors))
        self.normalize, self.network = Normalize(IMAGENET), network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalize(images.permute(0, 3, 1, 2)))
        return logits


def open_peers(
    tensors: Mapping[str, Tensor], pictures: Sequence[Picture], threads: int | None
) -> tuple[list[Subject], dict[str, str]]:
    """All that run here, and the others by name with the reason.

    Args:
        tensors: ResNet-50's by torchvision's names.
        pictures: to calibrate with.
        threads: of each engine.
    """
    converted = functools.cache(lambda: FromPixels(torchvision.models.resnet50(), tensors).eval())
    makers: list[tuple[str, str, str, Callable[[], Run]]] = [
        *(("torchvision resnet50", "openvino", precision,
           functools.partial(in_openvino, converted, precision, threads)) for precision in ("fp32", "bf16")),
        *(("timm resnet50", "torch.compile", precision,
           functools.partial(compiled_timm, tensors, precision)) for precision in ("fp32", "bf16")),
        ("torchvision resnet50, quantize_static", "onnxruntime", "int8",
         functools.partial(quantised_by_onnxruntime, converted, pictures, threads)),
    ]  # fmt: skip
    subjects, reasons = [], {}
    for title, engine, precision, make in makers:
        subject = Subject(f"{title}, {precision},", engine, None)
        try:
            run = make()
            run(EXAMPLE.numpy())
        except (ImportError, OSError, RuntimeError, ValueError) as error:  # not installed, no compiler, not supported
            reasons[subject.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        else:
            subjects.append(Subject(subject.path, engine, Peer(run, precision)))
    return subjects, reasons


def in_openvino(network: Callable[[], nn.Module], precision: str, threads: int | None) -> Run:
    """OpenVINO's own conversion of the torch module, and its hint for the precision."""
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = openvino.convert_model(network(), example_input=EXAMPLE)
    request = _core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: np.array(request.infer([images])[0])


def compiled_timm(tensors: Mapping[str, Tensor], precision: str) -> Run:
    """timm's network under ``torch.compile``; bf16 by autocast."""
    import timm

    network = torch.compile(FromPixels(timm.create_model("resnet50"), tensors).eval())

    def run(images: Picture) -> NDArray[Any]:
        with torch.inference_mode(), autocast(CPU, precision):
            logits: NDArray[Any] = network(torch.from_numpy(images)).float().numpy()
        return logits

    return run


def quantised_by_onnxruntime(
    network: Callable[[], nn.Module], pictures: Sequence[Picture], threads: int | None
) -> Run:  # fmt: skip
    """torch's export, prepared and quantised by ONNX Runtime's own tools: pairs of Q and DQ, weights by channel."""
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "prepared", "int8"))
        torch.onnx.export(
            network(), (EXAMPLE,), plain, dynamo=True, input_names=["images"], output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}}, external_data=False, verbose=False,
        )  # fmt: skip
        quant_pre_process(plain, prepared)
        quantize_static(prepared, quantised, Pictures(pictures), quant_format=QuantFormat.QDQ, per_channel=True)
        session = onnxruntime.InferenceSession(quantised, options, ["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0])


class Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Framed as for prediction, one at a time."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.feeds: Iterator[dict[str, Picture]] = (
            {"images": frame_for_classifier(picture, IMAGENET)[None]} for picture in pictures
        )

    def get_next(self) -> dict[str, Picture] | None:
        return next(self.feeds, None)
