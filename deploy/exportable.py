"""Any trained model, opened for export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backbones.data.folders import read_class_names
from backbones.errors import InputError
from deploy.exported_kinds import Exportable, ExportableClassifier, ExportableDetector, ExportableSegmenter
from deploy.exported_views import ExportableViews
from deploy.models import open_trained
from detection.detector import Detector
from detection.improvements.framed_views import ViewSettings
from detection.inference_switches import with_switches
from detection.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from deploy.export_options import ExportOptions


def open_exportable(options: ExportOptions) -> Exportable:
    """Load the model that the options name.

    Raises:
        InputError: it cannot be read, has no exported form, or is not what a switch is for.
    """
    names = read_class_names(Path(options.classes)) if options.classes else ()
    model = open_trained(options.model, arch=options.arch, classes=names)
    if isinstance(model, Detector):
        return _detector(model, options)
    if options.given_switches():
        raise InputError(f"{', '.join(options.given_switches())}: only detectors have it, and {options.model} is none")
    return ExportableSegmenter(model) if isinstance(model, Segmenter) else ExportableClassifier(model)


def _detector(detector: Detector, options: ExportOptions) -> Exportable:
    detector.settings = with_switches(detector.settings, options)
    views = ViewSettings(options.maxout or (), options.scales or (), bool(options.flip))
    if views == ViewSettings():
        return ExportableDetector(detector, options.detector_flavour, options.proposals)
    return ExportableViews(detector, views, options.detector_flavour, options.proposals)
