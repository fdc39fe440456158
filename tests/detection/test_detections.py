"""What results can do: names, listings, drawn copies, other libraries' forms."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.errors import InputError
from backbones.images import read_image
from detection.detections import Detections
from detection.drawing import draw_detections
from detection.masks.compressed import CompressedMasks
from detection.masks.run_length import RunLengthMasks
from detection.metrics.coco import as_coco_results
from detection.segmentation.drawing import draw_labels
from detection.segmentation.maps import SegmentationMap

CLASSES = ("person", "dog")
BLACK = np.zeros((48, 64, 3), np.uint8)


def detections(library: Any = np, **more: Any) -> Detections:
    boxes = [[1.0, 2, 11, 22], [3, 3, 13, 23], [20, 20, 40, 40]]
    parts = library.asarray(boxes), library.asarray([0.98, 0.71, 0.66]), library.asarray([0, 0, 1])
    return Detections(*parts, **{"classes": CLASSES, "size": (48, 64), **more})


def masks() -> RunLengthMasks:
    dense = np.zeros((3, 48, 64), bool)
    dense[0, 5:9, 2:8] = dense[2, 20:40, 20:40] = True
    return RunLengthMasks.from_dense(dense)


@pytest.mark.parametrize("library", [np, torch])
def test_a_representation_says_what_was_found(library: Any) -> None:
    found = detections(library)
    assert repr(found) == "Detections(3 objects: 2 person 0.98-0.71, 1 dog 0.66; 48 x 64)"
    assert repr(found[:1]) == "Detections(1 object: 1 person 0.98; 48 x 64)"
    assert repr(found.above(0.99)) == "Detections(0 objects; 48 x 64)"
    assert repr(Detections(found.boxes, found.scores, found.labels)) == "Detections(3 objects: 2 0 0.98-0.71, 1 1 0.66)"
    many = Detections(np.zeros((9, 4)), np.linspace(0.9, 0.1, 9), np.arange(9))
    assert repr(many).endswith("1 7 0.20, ...)")


@pytest.mark.parametrize("library", [np, torch])
@pytest.mark.parametrize("packed", [masks, lambda: CompressedMasks.of(masks())])
def test_what_is_chosen_keeps_what_the_whole_knows(library: Any, packed: Any) -> None:
    found = detections(library, masks=packed(), category_ids=(4, 9), source="a.png")
    for part in (
        found[1:],
        found[found.labels == 0],
        found.above(0.7),
        found.above((0.9, 0.1)),
        found[2],
        found[found.scores.argmin()],
    ):
        assert (part.classes, part.category_ids, part.size, part.source) == (CLASSES, (4, 9), (48, 64), "a.png")
        assert len(part) == len(part.boxes) == len(part.masks)
    assert [one.names() for one in found] == [["person"], ["person"], ["dog"]]
    with pytest.raises(IndexError):
        found[3]


def test_json_and_coco_name_classes_and_ids() -> None:
    found = detections(masks=masks())
    assert [item["class"] for item in found.to_json()] == ["person", "person", "dog"]
    assert [item["class"] for item in found.to_json(("a", "b"))] == ["a", "a", "b"]
    assert found.to_json()[2] == {
        "class": "dog", "score": 0.66, "box": [20, 20, 40, 40], "mask": masks()[2].to_compressed_coco()[0],
    }  # fmt: skip
    rows = found.to_coco(17)
    assert rows[2] == {
        "image_id": 17, "category_id": 2, "bbox": [20, 20, 20, 20], "score": 0.66,
        "segmentation": masks()[2].to_compressed_coco()[0],
    }  # fmt: skip
    assert [row["category_id"] for row in found.to_coco(17, (5, 3))] == [5, 5, 3]
    assert [row["category_id"] for row in replace(found, category_ids=(8, 6)).to_coco(17)] == [8, 8, 6]
    assert as_coco_results([found, found[:1]], [17, 18], (1, 2)) == rows + found[:1].to_coco(18)
    assert found[:0].to_json() == found[:0].to_coco(1) == []


@pytest.mark.parametrize("library", [np, torch])
def test_supervision_gets_plain_arrays(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **fields: fields))
    given: Any = detections(library, masks=masks()).to_supervision()
    assert given["xyxy"].shape == (3, 4) and given["xyxy"].dtype == np.float32
    assert given["mask"].shape == (3, 48, 64) and given["mask"].dtype == bool
    assert given["confidence"].tolist() == pytest.approx([0.98, 0.71, 0.66])
    assert given["class_id"].tolist() == [0, 0, 1]
    assert given["data"]["class_name"].tolist() == ["person", "person", "dog"]
    nothing: Any = detections(library)[:0].to_supervision()
    assert nothing["xyxy"].shape == (0, 4) and nothing["mask"] is None
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="needs the library supervision: pip install supervision"):
        detections(library).to_supervision()


def segmentation(**more: Any) -> SegmentationMap:
    labels = np.zeros((48, 64), np.uint8)
    labels[:12] = 1
    return SegmentationMap(labels, np.ones((48, 64), np.float32), **{"classes": ("background", "sky", "sea"), **more})


def drawn(result: Detections | SegmentationMap) -> np.ndarray:
    if isinstance(result, Detections):
        return draw_detections(BLACK, result, result.classes)
    return draw_labels(BLACK, result.labels, result.classes)


@pytest.mark.parametrize("make", [detections, segmentation])
def test_a_result_is_drawn_on_its_picture(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(BLACK).save(file)
    tensor = torch.zeros(3, 48, 64, dtype=torch.uint8)
    for source in (BLACK, file, str(file), file.read_bytes(), Image.fromarray(BLACK), tensor):
        assert np.array_equal(make(source=source).draw(), drawn(make()))
        assert np.array_equal(make().draw(source), drawn(make()))
    result = make(source=file)
    for name in ("out/copy.png", "copy.JPG", "copy.jpeg"):
        result.save(tmp_path / name)
        assert read_image(tmp_path / name).shape == BLACK.shape
    assert np.array_equal(read_image(tmp_path / "out/copy.png"), drawn(make()))
    before = file.read_bytes()
    (tmp_path / "link.png").symlink_to(file)
    for place, own in ((file, result), (tmp_path / "link.png", result)):
        with pytest.raises(InputError, match="is the picture itself, which would be lost; give another name"):
            own.save(place)
    with pytest.raises(InputError, match="is the picture itself"):
        make().save(file, picture=str(file))
    assert file.read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for place, message in (
        ("a.txt", "a.txt: drawn pictures are written as .png or .jpg"), ("copy", "written as .png or .jpg"),
        ("folder.png", "folder.png: cannot be written"), ("file/a.png", "a.png: cannot be written"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            result.save(tmp_path / place)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("make", [detections, segmentation])
def test_a_picture_that_cannot_be_drawn_on_is_named(make: Any, tmp_path: Path) -> None:
    for result, picture, message in (
        (make(), None, r"does not know its picture; hand it over: draw\(picture\)"),
        (make(source=tmp_path / "gone.png"), None, "gone.png: no such file"),
        (make(source=BLACK), BLACK[:40], "the picture is 40 x 64, the result of one of 48 x 64"),
        (make(source=BLACK), [BLACK], "one picture to draw on, not a sequence"),
        (make(), 3, "int is no picture"),
    ):
        with pytest.raises(InputError, match=message):
            result.draw(picture)


@pytest.mark.parametrize("make", [detections, segmentation])
def test_pixels_do_not_travel_to_other_processes(make: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    sent = pickle.dumps(make(source=noise))
    assert len(sent) < len(pickle.dumps(make())) + 100
    assert pickle.loads(sent).source is None
    assert pickle.loads(pickle.dumps(make(source="a.png"))).source == "a.png"
    assert make(source=noise).source is noise
    assert repr(pickle.loads(sent)) == repr(make())


def test_a_segmentation_says_what_covers_how_much() -> None:
    found = segmentation()
    assert found.to_json() == {"background": 0.75, "sky": 0.25}
    assert found.to_json(("a", "b", "c")) == {"a": 0.75, "b": 0.25}
    assert repr(found) == "SegmentationMap(background 75%, sky 25%; 48 x 64)"
    plain = SegmentationMap(torch.from_numpy(found.labels), torch.from_numpy(found.scores))
    assert plain.to_json() == {"0": 0.75, "1": 0.25} and repr(plain) == "SegmentationMap(0 75%, 1 25%; 48 x 64)"
