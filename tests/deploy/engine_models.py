"""Models of the sizes that people use, with random weights, as the export command writes them; not verified here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones import build_backbone, save_weights
from backbones.classifier import load_classifier
from backbones.convention import IMAGENET
from deploy.exportable import ExportableClassifier, ExportableDetector
from deploy.onnx_export import trace, write_onnx
from deploy.precision.layer_choice import Quantiser
from detection.building import build_detector
from detection.settings import MaskSettings, default_settings
from tests.backbones.test_batch_norm import randomize_norms

KINDS = ("resnet18", "resnet50", "faster_rcnn_fpn", "faster_rcnn_c4", "mask_rcnn")
_CLASSES = tuple(str(number) for number in range(20))


def write_model(kind: str, precision: str, folder: Path) -> Path:
    """An ONNX file of the portable flavour; int8 is calibrated on noise."""
    exportable = _exportable(kind, folder)
    graph = exportable.graph(precision)
    with torch.no_grad():
        model = trace(graph, exportable.example, graph.outputs, exportable.shapes, precision)
    if precision == "int8":
        noise = np.random.default_rng(0).integers(0, 255, (256, 320, 3), np.uint8)
        model = Quantiser(model, exportable.feeds([noise]), precision, "tensorrt").without(())
    path = folder / f"{kind}-{precision}.onnx"
    write_onnx(model, exportable.metadata(precision, "portable"), path)
    return path


def _exportable(kind: str, folder: Path) -> Any:
    if kind.startswith("resnet"):
        network = randomize_norms(build_backbone(kind, len(_CLASSES)))
        save_weights(network, folder / f"{kind}.safetensors", kind, convention=IMAGENET, classes=_CLASSES)
        return ExportableClassifier(load_classifier(folder / f"{kind}.safetensors"))
    own: dict[str, Any] = {"masks": MaskSettings()} if kind == "mask_rcnn" else {}
    settings = default_settings("resnet50", _CLASSES, "c4" if kind == "faster_rcnn_c4" else "fpn", **own)
    detector = build_detector(settings)
    randomize_norms(detector)
    return ExportableDetector(detector.eval(), "portable", None)
