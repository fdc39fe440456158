"""The export command: load, trace, verify, and only then let the file have its name."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.classifier import Classifier, load_classifier
from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image
from backbones.resize_fingerprint import resize_fingerprint
from backbones.running.atomic_write import write_json
from backbones.running.progress import start_logging
from deploy.export_options import ExportOptions
from deploy.graphs import classifier_graph, detector_graph
from deploy.metadata import FORMAT
from deploy.onnx_export import dynamic_pictures, export_onnx
from deploy.runtimes import load_runtime
from deploy.runtimes.classifier import ClassifierRuntime
from deploy.runtimes.detector import DetectorRuntime
from deploy.verification import Verification, verify_classifier, verify_detector
from detection.building import load_detector
from detection.detector import Detector
from detection.weights import is_detector

logger = logging.getLogger("shortcut")


def export(options: ExportOptions) -> Path:
    """Export a model to ONNX and verify the file against the model.

    The file, and a ``.json`` of the same name with metadata, checksum and the comparison, appear only if the
    comparison passes.

    Returns:
        The file.

    Raises:
        InputError: the model cannot be read, or the exported file disagrees with it.
    """
    start_logging(options.quiet)
    if not options.model:
        raise InputError("give --model: a run folder or a weights file")
    target = Path(options.output) if options.output else _beside(options.model)
    pictures = verification_pictures(options.images)
    draft = target.with_name(f"{target.stem}.unverified.onnx")
    try:
        if is_detector(options.model):
            verification, metadata = _export_detector(load_detector(options.model), pictures, draft)
        else:
            verification, metadata = _export_classifier(load_classifier(options.model, options.arch), pictures, draft)
        if not verification.passed:
            raise InputError(f"the exported file disagrees with the model and is removed: {verification.summary}")
        _keep(draft, target, metadata, verification)
    finally:
        draft.unlink(missing_ok=True)
    logger.info("%s: %.1f MB; %s", target, target.stat().st_size / 1e6, verification.summary)
    return target


def verification_pictures(folder: str | None) -> list[Picture]:
    """Real pictures: those of a folder, or two photographs that come with scikit-learn and digit scenes.

    Raises:
        InputError: the folder has none.
    """
    if folder is not None:
        files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"--images {folder}: no pictures there ({', '.join(SUFFIXES)})")
        return [read_image(path) for path in files[:16]]
    from sklearn.datasets import load_sample_images

    from detection.data.digits import compose_scene

    photographs = [np.ascontiguousarray(image) for image in load_sample_images().images]
    return [*(compose_scene("val", number).image for number in range(6)), *photographs]


def _export_detector(detector: Detector, pictures: list[Picture], draft: Path) -> tuple[Verification, dict[str, Any]]:
    graph = detector_graph(detector)
    multiple = detector.settings.input.multiple
    shape = dynamic_pictures(multiple)
    example = {
        "images": torch.zeros(2, 5 * multiple, 6 * multiple, 3, dtype=torch.uint8),
        "sizes": torch.tensor([[5 * multiple, 6 * multiple], [5 * multiple - 9, 6 * multiple - 20]]),
    }
    metadata = _metadata("detection", detector.classes, detector.settings.to_dict())
    shapes = {"images": shape, "sizes": {0: shape[0]}}
    _trace(lambda: export_onnx(graph, example, graph.outputs, shapes, metadata, draft))
    runtime = load_runtime(draft)
    assert isinstance(runtime, DetectorRuntime)
    return verify_detector(detector, runtime, pictures), metadata


def _export_classifier(
    classifier: Classifier, pictures: list[Picture], draft: Path
) -> tuple[Verification, dict[str, Any]]:
    graph = classifier_graph(classifier)
    convention = classifier.convention
    height, width = convention.size or (224, 224)
    shape = dynamic_pictures()
    if classifier.normalize.mean.shape[1:] != (1, 1):
        shape = {0: shape[0]}  # a mean picture fixes the size
    example = {"images": torch.zeros(2, height, width, 3, dtype=torch.uint8)}
    metadata = _metadata("classification", classifier.classes, {"backbone": classifier.backbone})
    metadata["input"] = convention.to_dict()
    _trace(lambda: export_onnx(graph, example, graph.outputs, {"images": shape}, metadata, draft))
    runtime = load_runtime(draft)
    assert isinstance(runtime, ClassifierRuntime)
    return verify_classifier(classifier, runtime, pictures), metadata


def _metadata(task: str, classes: tuple[str, ...], architecture: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT, "task": task, "classes": list(classes), "architecture": architecture, "precision": "fp32",
        "flavour": "portable", "resize": resize_fingerprint(),
    }  # fmt: skip


def _trace(run: Callable[[], Any]) -> None:
    operators = run()
    logger.info("traced: %d operators of %d kinds", sum(operators.values()), len(operators))


def _keep(draft: Path, target: Path, metadata: dict[str, Any], verification: Verification) -> None:
    """Give the verified file its name, and write what is known of it beside it."""
    checksum = hashlib.sha256(draft.read_bytes()).hexdigest()
    draft.replace(target)
    about = {**metadata, "sha256": checksum, "verification": verification.to_dict()}
    write_json(target.with_suffix(".json"), about)


def _beside(model: str) -> Path:
    if "://" in model:  # a published name: the file comes to lie here
        return Path(f"{model.rpartition('/')[2].split('.')[0]}.onnx")
    source = Path(model)
    folder = source if source.is_dir() else source.parent
    return folder / ("model.onnx" if source.is_dir() else f"{source.name.split('.')[0]}.onnx")
