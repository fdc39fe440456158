"""Results files of other programs: read, scored like our own, and refused with one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from backbones.errors import InputError
from detection.data.annotations import Annotations
from detection.data.coco_results import as_detections, have_segmentation, load_results
from detection.detections import Detections
from detection.evaluation import score
from detection.metrics.coco import as_coco_results
from tests.detection.scoring_cases import made_case, made_masks


def read(folder: Path, content: Any, annotations: Annotations) -> list[Detections]:
    path = folder / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return as_detections(load_results(path), annotations, path)


@pytest.mark.parametrize("made", [made_case, made_masks])
def test_what_was_written_is_read(made: Any, tmp_path: Path) -> None:
    annotations, found = made(0)
    entries = as_coco_results(found, annotations.image_ids.tolist(), annotations.category_ids)
    np.random.default_rng(0).shuffle(entries)
    again = read(tmp_path, entries, annotations)
    assert have_segmentation(entries) == (made is made_masks)
    for ours, theirs in zip(found, again, strict=True):
        order = np.argsort(-ours.scores, kind="stable")
        assert theirs.scores.tolist() == ours.scores[order].tolist()
        assert sorted(theirs.labels.tolist()) == sorted(ours.labels.tolist())
    assert score(again, annotations).metrics["AP"] == pytest.approx(score(found, annotations).metrics["AP"], abs=0.02)


def test_masks_alone_bring_their_boxes(tmp_path: Path) -> None:
    annotations, found = made_masks(2)
    entries = as_coco_results(found, annotations.image_ids.tolist(), annotations.category_ids)
    for item in entries:
        del item["bbox"]
    expected = [rle.toBbox(item["segmentation"]).tolist() for item in entries]
    for item in entries[::2]:  # both forms of run lengths
        dense = rle.decode(item["segmentation"])
        runs = np.diff(np.flatnonzero(np.diff(dense.T.reshape(-1), prepend=0, append=2)), prepend=0)
        item["segmentation"]["counts"] = runs.tolist()
    again = read(tmp_path, entries, annotations)
    boxes = np.concatenate([part.boxes for part in again])
    assert sorted(map(tuple, boxes.tolist())) == sorted((x, y, x + w, y + h) for x, y, w, h in expected)
    entries[0]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    assert sum(len(part) for part in read(tmp_path, entries, annotations)) == len(entries)
    assert all((np.asarray(a.masks).sum() == np.asarray(b.masks).sum()) for a, b in zip(found, again, strict=True))


def test_an_empty_file_finds_nothing(tmp_path: Path) -> None:
    annotations, _ = made_case(0)
    assert score(read(tmp_path, [], annotations), annotations).metrics["AP"] == 0


GOOD: dict[str, Any] = {"image_id": 50, "category_id": 7, "score": 0.5, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"annotations": []}, "not a results file"),
        ([GOOD, 5], "entry 1: not an object"),
        ([{"image_id": 50}], "entry 0: has no category_id, score"),
        ([{**GOOD, "image_id": 51}], "image_id 51 is not in the data"),
        ([{**GOOD, "image_id": [1]}], r"image_id \[1\] is not"),
        ([{**GOOD, "category_id": 4}], r"category_id 4 is not in the data \(it has 7, 3\)"),
        ([{**GOOD, "score": None}], "score None is not a number"),
        ([{**GOOD, "score": float("nan")}], "score nan is not a number"),
        ([{**GOOD, "bbox": [1, 2, 3]}], "is not x, y, width, height"),
        ([{**GOOD, "bbox": [1, 2, -3, 4]}], "is not x, y, width, height"),
        ([{**GOOD, "bbox": [1, 2, float("inf"), 4]}], "is not x, y, width, height"),
        ([{key: GOOD[key] for key in ("image_id", "category_id", "score")}], "neither bbox nor segmentation"),
        ([GOOD, {**GOOD, "segmentation": {}}], "entry 1: has a segmentation, the first has none"),
        ([{**GOOD, "segmentation": {}}], "image 50: a detection: has no mask"),
        ([{**GOOD, "segmentation": [[1, 2, 3, 4]]}], "image 50: a detection: its mask has a polygon of less"),
        ([{**GOOD, "segmentation": {"size": [9, 9], "counts": "0"}}], r"its mask has size \[9, 9\], the picture"),
        ([{**GOOD, "segmentation": {"size": None, "counts": "ppp"}}], "its mask's run lengths are not COCO's"),
        ([{**GOOD, "segmentation": {"size": None, "counts": 7}}], "its mask's run lengths are not COCO's"),
        ([{**GOOD, "segmentation": {"size": None, "counts": [1, 2]}}], "its mask's run lengths do not add up"),
    ],
)
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    annotations, _ = made_masks(0)
    first = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    for item in first:
        if isinstance(item.get("segmentation"), dict) and item["segmentation"].get("size", 0) is None:
            item["segmentation"]["size"] = list(annotations.size(0))
    with pytest.raises(InputError, match=message) as stop:
        read(tmp_path, content, annotations)
    assert "results.json" in str(stop.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: not JSON"):
        load_results(tmp_path / "absent.json")


def test_many_category_ids_are_not_all_listed(tmp_path: Path) -> None:
    annotations, _ = made_case(0, classes=20)
    annotations = replace(annotations, image_ids=annotations.image_ids - 50)
    with pytest.raises(InputError, match=r"it has 2, 5, 8, 11, 14, ..., 59\)"):
        read(tmp_path, [{**GOOD, "category_id": 1}], annotations)
