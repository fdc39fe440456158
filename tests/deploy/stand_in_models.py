"""Exported models of a few operators: the interfaces of the real ones, answers that depend on pixels, ready at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from backbones.convention import InputConvention
from backbones.resize_fingerprint import resize_fingerprint
from deploy.metadata import FORMAT, KEY
from detection.segmentation.settings import SegmenterSettings
from detection.settings import DetectorSettings, InputSettings, MaskSettings

OBJECTS = 6
CELLS = 14
CLASSES = ("cat", "dog", "owl")


def write_classifier(path: Path, activation_map: bool = False) -> Path:
    """Logits are three fixed mixtures of the mean colour; the activation map is brightness."""
    weights = np.array([[0.05, -0.02, 0.01], [-0.03, 0.04, 0.02], [0.02, 0.01, -0.05]], np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])]
    if activation_map:
        nodes.append(helper.make_node("ReduceMean", ["pixels", "channel"], ["activation_map"], keepdims=0))
        outputs.append(helper.make_tensor_value_info("activation_map", TensorProto.FLOAT, ["B", "h", "w"]))
    convention = InputConvention((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size=(24, 24), resize=28)
    about = {"task": "classification", "architecture": {"backbone": "resnet20"}, "input": convention.to_dict()}
    constants = {"axes": np.array([1, 2]), "weights": weights}
    if activation_map:
        constants["channel"] = np.array([3])
    return _write(path, nodes, constants, ["images"], outputs, about)


def write_detector(
    path: Path, masks: bool = False, flavour: str = "portable", thresholds: tuple[float, ...] = ()
) -> Path:
    """Boxes are fixed parts of the valid size; scores grow with brightness; a black picture has no objects.

    Scores also depend on how far a picture is padded, so whoever pads further than the picture needs is found out.
    """
    parts = np.linspace(0, 0.5, OBJECTS, dtype=np.float32)[:, None] + np.array([0, 0, 0.4, 0.5], np.float32)
    constants: dict[str, Any] = {
        "axes": np.array([1, 2, 3]), "order": np.array([1, 0, 1, 0]), "parts": parts[None],
        "weights": np.linspace(0.9, 0.05, OBJECTS, dtype=np.float32)[None] / 255,
        "labels_row": np.arange(OBJECTS, dtype=np.int64)[None] % 3, "zero": np.array(0.0, np.float32),
        "one": np.array([1]), "two": np.array([2]), "cells_shape": np.array([-1, 1, 1, 1]),
        "cells": np.linspace(0, 2, OBJECTS * CELLS * CELLS, dtype=np.float32).reshape(1, OBJECTS, CELLS, CELLS) % 1,
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        make("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        make("ReduceMean", ["pixels", "axes"], ["light"], keepdims=0),
        make("Unsqueeze", ["light", "one"], ["column"]),
        make("Mul", ["column", "weights"], ["scores"]),
        make("Gather", ["sizes", "order"], ["corners"], axis=1),
        make("Cast", ["corners"], ["extent"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["extent", "one"], ["rows"]),
        make("Mul", ["rows", "parts"], ["boxes"]),
        make("Cast", ["column"], ["nothing"], to=TensorProto.INT64),
        make("Mul", ["nothing", "zero_row"], ["zeros"]),
        make("Add", ["zeros", "labels_row"], ["labels"]),
        make("GreaterOrEqual", ["light", "zero"], ["exact"]),
    ]
    constants["zero_row"] = np.array([[0]], np.int64)
    kinds = {
        "boxes": (TensorProto.FLOAT, ["B", OBJECTS, 4]), "scores": (TensorProto.FLOAT, ["B", OBJECTS]),
        "labels": (TensorProto.INT64, ["B", OBJECTS]), "exact": (TensorProto.BOOL, ["B"]),
    }  # fmt: skip
    if masks:
        nodes += [
            make("Mul", ["column", "zero"], ["no_light"]),
            make("Reshape", ["no_light", "cells_shape"], ["grid"]),
            make("Add", ["grid", "cells"], ["masks"]),
        ]
        kinds["masks"] = (TensorProto.FLOAT, ["B", OBJECTS, CELLS, CELLS])
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()]
    settings = DetectorSettings(
        "resnet20", CLASSES, input=InputSettings(64, 96), masks=MaskSettings() if masks else None,
        score_thresholds=thresholds,
    )  # fmt: skip
    used = {name for node in nodes for name in node.input}
    kept = {name: value for name, value in constants.items() if name in used}
    about = {"task": "detection", "architecture": settings.to_dict(), "flavour": flavour}
    return _write(path, nodes, kept, ["images", "sizes"], outputs, about)


def write_segmenter(path: Path) -> Path:
    """A pixel's label is the sum of its colours, by thirds; its score grows with brightness."""
    make = helper.make_node
    nodes = [
        make("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        make("ReduceMean", ["pixels", "channel"], ["light"], keepdims=0),
        make("Mul", ["light", "brightness"], ["scores"]),
        make("Mul", ["light", "third"], ["thirds"]),
        make("Cast", ["thirds"], ["labels"], to=TensorProto.UINT8),
        make("Cast", ["sizes"], ["unused"], to=TensorProto.FLOAT),
    ]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.UINT8, ["B", "H", "W"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", "H", "W"]),
    ]
    constants = {
        "channel": np.array([3]), "brightness": np.array(1 / 255, np.float32), "third": np.array(1 / 86, np.float32)
    }  # fmt: skip
    settings = SegmenterSettings("resnet20", CLASSES, input=InputSettings(64, 96))
    about = {"task": "segmentation", "architecture": settings.to_dict()}
    return _write(path, nodes, constants, ["images", "sizes"], outputs, about)


def _write(
    path: Path,
    nodes: list[Any],
    constants: dict[str, Any],
    inputs: list[str],
    outputs: list[Any],
    about: dict[str, Any],
) -> Path:
    kinds = {"images": (TensorProto.UINT8, ["B", "H", "W", 3]), "sizes": (TensorProto.INT64, ["B", 2])}
    graph = helper.make_graph(
        nodes, "stand_in", [helper.make_tensor_value_info(name, *kinds[name]) for name in inputs], outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    metadata = {
        "format": FORMAT, "classes": list(CLASSES), "outputs": [output.name for output in outputs], "precision": "fp32",
        "flavour": "portable", "resize": resize_fingerprint(), **about,
    }  # fmt: skip
    helper.set_model_props(model, {KEY: json.dumps(metadata)})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    path.with_suffix(".json").write_text(json.dumps(metadata))
    return path
