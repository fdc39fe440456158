"""Any model file as something that predicts: trained ones by torch, exported ones by their engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError
from deploy.engine_names import SUFFIXES

if TYPE_CHECKING:
    from backbones.classifier import Classifier
    from deploy.runtimes.classifier import ClassifierRuntime
    from deploy.runtimes.detector import DetectorRuntime
    from detection.detector import Detector
    from detection.improvements.improved_detector import ImprovedDetector
    from detection.inference_switches import Switches

EXPORTED = tuple(SUFFIXES)


def open_detector(
    model: str, device: str = "cpu", precision: str = "fp32", engine: str | None = None
) -> Detector | DetectorRuntime:
    """A detector from a run folder, a ``.safetensors`` or exported file, or whatever else ``load_detector`` takes.

    Args:
        model: the file.
        device, precision: of trained models.
        engine: of exported ones; by default the first that is installed and runs the file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if Path(model).suffix in EXPORTED:
        from deploy.runtimes import load_runtime
        from deploy.runtimes.detector import DetectorRuntime

        runtime = load_runtime(model, engine=engine)
        if not isinstance(runtime, DetectorRuntime):
            raise InputError(f"{model}: holds a classifier, not a detector")
        return runtime
    _refuse_engine(model, engine)
    from backbones.running.precision import choose_device
    from detection.building import load_detector

    detector = load_detector(model, str(choose_device(device)))
    detector.precision = precision
    return detector


def open_switched(
    models: Sequence[str], switches: Switches, device: str, precision: str, engine: str | None = None
) -> Detector | DetectorRuntime | ImprovedDetector:
    """A detector from a file, or an ensemble from several, tested as the switches say.

    Raises:
        InputError: a file cannot be used, a value is out of its range, or switches meet an exported model.
    """
    exported = next((model for model in models if model.endswith(EXPORTED)), None)
    asked = switches.given_switches() + (["an ensemble"] if len(models) > 1 else [])
    if exported and asked:
        raise InputError(
            f"{exported}: an exported model is fixed, so it cannot take {', '.join(asked)}; use the trained one"
        )
    from detection.inference_switches import with_switches

    first = open_detector(models[0], device, precision, engine)
    first.settings = with_switches(first.settings, switches)
    if not (len(models) > 1 or switches.maxout or switches.scales or switches.flip):
        return first
    from detection.building import load_detector
    from detection.detector import Detector
    from detection.improvements.framed_views import ViewSettings
    from detection.improvements.improved_detector import ImprovedDetector

    assert isinstance(first, Detector)
    others = [load_detector(model, str(first.normalize.mean.device)) for model in models[1:]]
    views = ViewSettings(switches.maxout or (), switches.scales or (), bool(switches.flip))
    return ImprovedDetector([first, *others], views)


def open_classifier(
    model: str, arch: str | None = None, classes: tuple[str, ...] = (), engine: str | None = None
) -> Classifier | ClassifierRuntime:
    """A classifier from a run folder, a ``.safetensors``, a torchvision or an exported file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if Path(model).suffix in EXPORTED:
        from deploy.runtimes import load_runtime
        from deploy.runtimes.classifier import ClassifierRuntime

        runtime = load_runtime(model, engine=engine)
        if not isinstance(runtime, ClassifierRuntime):
            raise InputError(f"{model}: holds a detector, not a classifier")
        return runtime
    _refuse_engine(model, engine)
    from backbones.classifier import load_classifier

    return load_classifier(model, arch, classes)


def _refuse_engine(model: str, engine: str | None) -> None:
    if engine is not None:
        raise InputError(f"--engine {engine}: {model} is a trained model, which PyTorch runs; export it first")
