"""Any trained model, opened for export."""

from __future__ import annotations

from pathlib import Path

from backbones.classifier import load_classifier
from backbones.data.folders import read_class_names
from backbones.errors import InputError
from backbones.running.run_folder import WEIGHTS
from backbones.weights.model_file import is_ours, task_of
from deploy.export_options import ExportOptions
from deploy.exported_kinds import Exportable, ExportableClassifier, ExportableDetector, ExportableSegmenter
from deploy.exported_views import ExportableViews
from detection.building import load_detector
from detection.improvements.framed_views import ViewSettings
from detection.inference_switches import with_switches
from detection.segmentation.building import TASK as SEGMENTATION
from detection.segmentation.building import load_segmenter
from detection.weights import is_detector


def open_exportable(options: ExportOptions) -> Exportable:
    """Load the model that the options name.

    Raises:
        InputError: it cannot be read, has no exported form, or is not what a switch is for.
    """
    if is_detector(options.model):
        return _detector(options)
    if options.given_switches():
        raise InputError(f"{', '.join(options.given_switches())}: only detectors have it, and {options.model} is none")
    path = Path(options.model) / WEIGHTS if Path(options.model).is_dir() else Path(options.model)
    if path.suffix == ".safetensors" and is_ours(path) and task_of(path) == SEGMENTATION:
        return ExportableSegmenter(load_segmenter(options.model))
    names = read_class_names(Path(options.classes)) if options.classes else ()
    return ExportableClassifier(load_classifier(options.model, options.arch, names))


def _detector(options: ExportOptions) -> Exportable:
    detector = load_detector(options.model)
    detector.settings = with_switches(detector.settings, options)
    views = ViewSettings(options.maxout or (), options.scales or (), bool(options.flip))
    if views == ViewSettings():
        return ExportableDetector(detector, options.detector_flavour, options.proposals)
    return ExportableViews(detector, views, options.detector_flavour, options.proposals)
