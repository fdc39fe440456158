"""A detector from another project's file, or by its published name, under our names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from backbones.running.run_folder import WEIGHTS
from backbones.weights.file_content import FileContent, read_content
from backbones.weights.model_file import is_ours, task_of
from detection.weights.class_names import numbered
from detection.weights.contract import DetectorFormat, Facts, ForeignDetector
from detection.weights.detectron2_layout import DETECTRON2_DETECTORS
from detection.weights.published import SCHEMES, facts_of, fetch, find_published, unknown_name
from detection.weights.torchvision_layout import TORCHVISION_DETECTORS

FORMATS = (TORCHVISION_DETECTORS, DETECTRON2_DETECTORS)
"""A new project is one more file and one more row."""
_FOREIGN_SUFFIXES = (".pth", ".pt", ".pkl", ".xz", ".th")


def is_foreign(source: str | Path) -> bool:
    """Whether a source is a published name, or a file that this project did not write. No file is read as a whole.

    Raises:
        InputError: a ``.safetensors`` file is missing or damaged.
    """
    path = Path(source)
    if str(source).startswith(tuple(SCHEMES)) or path.suffix in _FOREIGN_SUFFIXES:
        return True
    return path.suffix == ".safetensors" and not is_ours(path)


def is_detector(source: str | Path) -> bool:
    """Whether a run folder, a file or a published name holds a detector, whoever made it.

    Raises:
        InputError: the file cannot be read.
    """
    if str(source).startswith(tuple(SCHEMES)):
        return find_published(str(source)) is not None
    path = Path(source) / WEIGHTS if Path(source).is_dir() else Path(source)
    if not is_foreign(path):
        return task_of(path) == "detection"
    return find_format(read_content(path)) is not None


def read_foreign_detector(
    source: str | Path, classes: Sequence[str] = (), norm_eps: float | None = None
) -> ForeignDetector:
    """Read torchvision's or detectron2's detector; which of them, its tensors' names tell.

    Args:
        source: a ``.pth``, ``.pkl`` or ``.safetensors`` file, compressed (``.xz``) or not, or a published name:
            ``torchvision://NAME``, ``detectron2://NAME``. Pickles are read without running anything.
        classes: names in the order of the labels; without them a file with as many classes as COCO has COCO's, and
            any other "class 1", "class 2", ...
        norm_eps: what the network's frozen batch normalization adds to its variances, where the file was trained with
            another number than 1e-5 (torchvision's two oldest detectors: 0, which is known of them).

    Raises:
        InputError: the file can't be had or read, is nobody's that is known, or of another design.
    """
    text = str(source)
    published = find_published(text)
    if published is None and text.startswith(tuple(SCHEMES)):
        raise unknown_name(text)
    path = Path(source) if published is None else fetch(published)
    content = read_content(path)
    row = find_format(content)
    if row is None:
        sample = ", ".join(sorted(content.tensors)[:2]) or "no tensors at all"
        owners = ", ".join(known.owner for known in FORMATS)
        raise InputError(f"{source}: no detector that is known ({sample}); read are our own and {owners}")
    facts = facts_of(path) if published is None else published.facts
    if classes:
        facts = replace(facts, classes=numbered(tuple(classes)))
    if norm_eps is not None:
        facts = replace(facts, norm_eps=norm_eps)
    return _converted(row, content, facts, text)


def find_format(content: FileContent) -> DetectorFormat | None:
    """Whose detector a file holds; None where it holds none that is known."""
    return next((row for row in FORMATS if row.recognises(content.tensors)), None)


def _converted(row: DetectorFormat, content: FileContent, facts: Facts, source: str) -> ForeignDetector:
    try:
        detector = row.convert(content, facts)
    except InputError as error:
        raise InputError(f"{source}: {row.owner} detector: {error}") from error
    dropped = f"; {len(detector.dropped)} constants unread" if detector.dropped else ""
    return replace(detector, origin=f"{source} ({row.owner}{dropped})")
