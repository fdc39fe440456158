"""Results files of COCO, whoever wrote them: detections by image id and category id."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.images import Size
from detection.data.annotations import Annotations
from detection.data.segmentations import UnusableMaskError, encode_segmentation
from detection.detections import Detections
from detection.masks.compressed import CompressedMasks
from detection.masks.encoded import EncodedMasks


def load_results(path: Path) -> list[Any]:
    """The entries of a results file: ``image_id``, ``category_id``, ``score``, and ``bbox`` (x, y, width, height) or
    ``segmentation`` (run lengths, compressed or not, or polygons).

    Raises:
        InputError: it is no JSON list.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, list):
        raise InputError(f"{path}: not a results file of COCO, which is a list of detections")
    return content


def have_segmentation(entries: Sequence[Any]) -> bool:
    """Whether the first entry of a results file has a mask."""
    return bool(entries) and isinstance(entries[0], dict) and "segmentation" in entries[0]


def as_detections(entries: Sequence[Any], annotations: Annotations, path: Path) -> list[Detections]:
    """The detections of a results file, for each image of a data set, best first.

    Without ``bbox``, boxes are those around the masks.

    Args:
        entries: of the file.
        annotations: of the data, with the ids that the file uses.
        path: of the file, for messages.

    Raises:
        InputError: an entry is not well-formed, or not of this data.
    """
    places = {int(number): image for image, number in enumerate(annotations.image_ids)}
    labels = {number: label for label, number in enumerate(annotations.category_ids)}
    by_image: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    masked = have_segmentation(entries)
    for number, item in enumerate(entries):
        fault = _fault(item, places, labels)
        if fault is None and ("segmentation" in item) != masked:
            fault = "has a segmentation, the first has none" if not masked else "has no segmentation, the first has"
        if fault:
            raise InputError(f"{path}: entry {number}: {fault}")
        by_image[places[item["image_id"]]].append(item)
    found = []
    for image in range(len(annotations)):
        items = sorted(by_image.pop(image, []), key=lambda item: -float(item["score"]))
        try:
            found.append(_detections(items, labels, annotations.size(image), masked))
        except UnusableMaskError as error:
            raise InputError(f"{path}: image {annotations.image_ids[image]}: a detection: {error}") from error
    return found


def _fault(item: Any, places: Mapping[int, int], labels: Mapping[int, int]) -> str | None:
    """Why an entry cannot be used, apart from its mask."""
    if not isinstance(item, dict):
        return "not an object"
    absent = [key for key in ("image_id", "category_id", "score") if key not in item]
    if absent:
        return f"has no {', '.join(absent)}"
    if not _known(item["image_id"], places):
        return f"image_id {item['image_id']!r} is not in the data; is this the right split?"
    if not _known(item["category_id"], labels):
        return f"category_id {item['category_id']!r} is not in the data (it has {_listing(labels)})"
    if not _is_number(item["score"]):
        return f"score {item['score']!r} is not a number"
    if "bbox" not in item:
        return None if "segmentation" in item else "has neither bbox nor segmentation"
    box = item["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        return f"bbox {box!r} is not x, y, width, height"
    return None


def _known(value: Any, table: Mapping[int, int]) -> bool:
    return isinstance(value, int) and value in table


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)


def _listing(labels: Mapping[int, int]) -> str:
    numbers = [str(number) for number in labels]
    return ", ".join(numbers if len(numbers) <= 6 else [*numbers[:5], "...", numbers[-1]])


def _detections(items: list[Mapping[str, Any]], labels: Mapping[int, int], size: Size, masked: bool) -> Detections:
    """Of one image; an ``UnusableMaskError`` says which masks are not of its size or not well-formed."""
    masks = None
    if masked:
        texts = [encode_segmentation(item["segmentation"], size, empty=True) for item in items]
        masks = CompressedMasks(size, EncodedMasks.join(texts))
    boxes = np.array([item.get("bbox") or _around(masks, row) for row, item in enumerate(items)], np.float64)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([item["score"] for item in items], np.float64)
    return Detections(boxes, scores, np.array([labels[item["category_id"]] for item in items], np.int64), masks)


def _around(masks: CompressedMasks | None, row: int) -> list[float]:
    """(x, y, width, height) around a mask."""
    from pycocotools import mask as rle

    assert masks is not None, "every entry has a box or a mask"
    return list(rle.toBbox(masks.encoded.to_coco(row, masks.size)).tolist())
