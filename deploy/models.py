"""One door: any model, trained or exported, ours or another project's, as something that predicts and says its task.

``load_classifier``, ``load_detector``, ``load_segmenter`` (torch) and ``load_runtime`` (no torch) stand behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.metadata import CALLED, TASKS
from deploy.engine_names import SUFFIXES

if TYPE_CHECKING:
    from backbones.classifier import Classifier
    from backbones.weights.file_content import FileContent
    from deploy.runtimes import Runtime
    from detection.detector import Detector
    from detection.inference_switches import Switches
    from detection.segmentation.segmenter import Segmenter

    Trained = Classifier | Detector | Segmenter
    Model = Trained | Runtime

EXPORTED = tuple(SUFFIXES)
TORCH = "torch"
"""The engine of trained models."""
_COMMANDS = {
    "classification": "backbones/evaluate.py takes classifiers",
    "detection": "detection/evaluate.py and detection/predict.py take detectors",
    "segmentation": "detection/evaluate.py and detection/predict.py take segmenters",
}


def is_exported(source: str | Path) -> bool:
    """Whether a source is an exported file, by its name; anything else is a trained model, which torch runs."""
    return Path(source).suffix in EXPORTED


def open_model(
    source: str | Path,
    *,
    tasks: Collection[str] = TASKS,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str | None = None,
    threads: int | None = None,
    hint: str = "latency",
    arch: str | None = None,
    classes: Sequence[str] = (),
    elsewhere: Mapping[str, str] = _COMMANDS,
) -> Any:
    """A model, ready to predict; its ``task`` says what.

    Args:
        source: a run folder, a ``.safetensors`` file or a run's ``last.pt``; an exported ``.onnx`` or ``.plan``;
            another project's weights; or a published name such as ``torchvision://maskrcnn_resnet50_fpn``.
        tasks: those that will do.
        device, precision: of trained models.
        engine: of exported ones; by default the first that is installed and runs the file. ``torch`` for trained ones.
        threads: processor threads; by default as many as there are cores.
        hint: as for ``load_runtime``.
        arch, classes: network and names of classifiers whose files do not say.
        elsewhere: by task, who takes a model that will not do here.

    Returns:
        A ``Classifier``, ``Detector`` or ``Segmenter``, or the runtime of one.

    Raises:
        InputError: it is missing, damaged, nobody's that is known, for another task, or does not run so.
    """
    if not is_exported(source):
        if engine not in (None, TORCH):
            raise InputError(f"--engine {engine}: {source} is a trained model, which PyTorch runs; export it first")
        return open_trained(source, tasks, device, precision, threads, arch, classes, elsewhere)
    if precision != "fp32":
        raise InputError(f"--precision {precision}: {source} is exported, and has the precision it was exported with")
    from deploy.runtimes import load_runtime

    model = load_runtime(source, threads, engine, hint)
    _check_task(source, model.task, tasks, elsewhere)
    return model


def open_trained(
    source: str | Path,
    tasks: Collection[str] = TASKS,
    device: str = "cpu",
    precision: str = "fp32",
    threads: int | None = None,
    arch: str | None = None,
    classes: Sequence[str] = (),
    elsewhere: Mapping[str, str] = _COMMANDS,
) -> Trained:
    """``open_model`` of what is not exported: the file is read once, and says or shows what it is."""
    import torch

    from backbones.running.precision import choose_device
    from detection.weights import read_source

    if threads:
        torch.set_num_threads(threads)
    place = choose_device(device)
    content = read_source(source)
    task = _task_of(content)
    _check_task(source, task, tasks, elsewhere)
    if task == "classification":
        from backbones.classifier import classifier_of

        return classifier_of(content, arch, classes).to(place)
    model: Detector | Segmenter
    if task == "detection":
        from detection.building import detector_of

        model = detector_of(content).to(place)
    else:
        from detection.segmentation.building import segmenter_of

        model = segmenter_of(content).to(place)
    model.precision = precision
    return model


def _task_of(content: FileContent) -> str:
    """What a file says, or the names of its tensors show.

    Raises:
        InputError: nobody knows them.
    """
    from backbones.weights.formats import find_format
    from backbones.weights.reading import convert
    from detection.segmentation.torchvision_fcn import is_segmenter
    from detection.weights import is_detector

    if is_detector(content):
        return "detection"
    if is_segmenter(content):
        return "segmentation"
    if content.metadata is None and find_format(content.tensors) is None:
        convert(content, content.origin)  # says whose are known
    return "classification"


def _check_task(source: str | Path, task: str, wanted: Collection[str], elsewhere: Mapping[str, str]) -> None:
    if task not in wanted:
        others = " or ".join(CALLED[name] for name in TASKS if name in wanted)
        raise InputError(f"{source}: holds {CALLED[task]}, not {others}; {elsewhere[task]}")


def open_tested(
    sources: Sequence[str],
    switches: Switches,
    tasks: Collection[str],
    *,
    device: str,
    precision: str,
    engine: str | None,
) -> Any:
    """A model tested as the switches say; several sources are an ensemble of detectors. Arguments as ``open_model``'s.

    Raises:
        InputError: a source cannot be opened, a value is out of its range, or switches or an ensemble meet a model that
            has none.
    """
    asked = switches.given_switches() + (["an ensemble"] if len(sources) > 1 else [])
    exported = next((source for source in sources if is_exported(source)), None)
    if exported and asked:
        raise InputError(
            f"{exported}: an exported model is fixed, so it cannot take {', '.join(asked)}; use the trained one"
        )
    models = [open_model(source, tasks=tasks, device=device, precision=precision, engine=engine) for source in sources]
    if not asked:
        return models[0]
    from detection.detector import Detector
    from detection.improvements.framed_views import ViewSettings
    from detection.improvements.improved_detector import ImprovedDetector
    from detection.inference_switches import with_switches

    for model, source in zip(models, sources, strict=True):
        if not isinstance(model, Detector):
            raise InputError(f"{', '.join(asked)}: only detectors have it, and {source} is none")
    models[0].settings = with_switches(models[0].settings, switches)
    views = ViewSettings(switches.maxout or (), switches.scales or (), bool(switches.flip))
    return ImprovedDetector(models, views) if len(models) > 1 or views != ViewSettings() else models[0]
