"""A detector from another project's file, or by its published name, under our names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backbones.errors import InputError
from backbones.weights import reading as networks
from backbones.weights.file_content import FileContent
from backbones.weights.published import OWNERS
from detection.weights.class_names import numbered
from detection.weights.contract import DetectorFormat, Facts, ForeignDetector
from detection.weights.detectron2_layout import DETECTRON2_DETECTORS
from detection.weights.published import SCHEMES, facts_of, find_published, read_published, unknown_name
from detection.weights.torchvision_layout import TORCHVISION_DETECTORS

FORMATS = (TORCHVISION_DETECTORS, DETECTRON2_DETECTORS)
"""A new project is one more file and one more row."""


def read_source(source: str | Path) -> FileContent:
    """``read_content``, of published detectors' and networks' names too: ``torchvision://``, ``detectron2://``.

    Raises:
        InputError: the file can't be had or read, or nobody publishes it.
    """
    text = str(source)
    published = find_published(text)
    if published is not None:
        return read_published(published, text)
    owner, _, name = text.partition("://")
    if text.startswith(tuple(SCHEMES)) and name not in OWNERS.get(owner, {}):
        raise unknown_name(text)
    return networks.read_source(source)


def is_detector(content: FileContent) -> bool:
    """Whether a file holds a detector, whoever made it."""
    return content.metadata.task == "detection" if content.metadata else find_format(content) is not None


def convert_detector(
    content: FileContent, classes: Sequence[str] = (), norm_eps: float | None = None
) -> ForeignDetector:
    """torchvision's or detectron2's detector in our terms; which of them, its tensors' names tell.

    Args:
        content: of a file that is not ours.
        classes: names in the order of the labels; without them a file with as many classes as COCO has COCO's, and
            any other "class 1", "class 2", ...
        norm_eps: what the network's frozen batch normalization adds to its variances, where the file was trained with
            another number than 1e-5 (torchvision's two oldest detectors: 0, which is known of them).

    Raises:
        InputError: it is nobody's that is known, or of another design.
    """
    row = find_format(content)
    if row is None:
        sample = ", ".join(sorted(content.tensors)[:2]) or "no tensors at all"
        owners = ", ".join(known.owner for known in FORMATS)
        raise InputError(f"{content.origin}: no detector that is known ({sample}); read are our own and {owners}")
    facts = facts_of(content)
    if classes:
        facts = replace(facts, classes=numbered(tuple(classes)))
    if norm_eps is not None:
        facts = replace(facts, norm_eps=norm_eps)
    return _converted(row, content, facts, content.origin)


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
