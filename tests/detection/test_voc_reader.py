"""VOC files: masks of label pictures, the folders that people really have, and faults by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from detection.data.faults import Fault
from detection.data.voc import read_voc
from detection.data.voc_masks import match_instances, read_instances
from tests.detection.builders import write_voc_folder

SIZE = (64, 64)


def label_picture(root: Path, stem: str, boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = SIZE) -> None:
    """Instances 1, 2, ... that fill half-open boxes, with a void frame around each."""
    labels = np.zeros(size, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        labels[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = 255
        labels[y1:y2, x1:x2] = number
    (root / "SegmentationObject").mkdir(exist_ok=True)
    picture = Image.fromarray(labels)
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(root / "SegmentationObject" / f"{stem}.png")


def write_list(root: Path, kind: str, *stems: str) -> None:
    (root / "ImageSets" / kind).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / kind / "train.txt").write_text("\n".join(stems))


def texts(faults: list[Fault]) -> list[str]:
    return [f"{fault.kind}  {fault}" for fault in faults]


def test_masks_go_to_the_box_that_fits(tmp_path: Path) -> None:
    objects = [("cat", (31, 31, 50, 60)), ("dog", (1, 1, 20, 20)), ("cat", (22, 2, 30, 10))]
    root = write_voc_folder(tmp_path, {"a": objects, "b": [("cat", (1, 1, 9, 9))], "c": []})
    label_picture(root, "a", [(1, 1, 20, 19), (30, 30, 50, 60)])
    write_list(root, "Main", "a", "b", "c")
    data, faults = read_voc(root, "train", masks=True)
    assert texts(faults) == [
        "box  Annotations/a.xml:1: cat: no instance of SegmentationObject/a.png fits its box",
        "file  Annotations/b.xml: masks are asked for, but SegmentationObject/b.png: no such file",
    ]
    assert data.annotations.names.tolist() == ["a.png", "c.png"]
    found = data.annotations.of(0)
    assert found.masks is not None
    assert found.labels.tolist() == [0, 1]
    assert found.masks.dense(0, SIZE).sum() == 20 * 30
    assert found.masks.dense(1, SIZE)[1:19, 1:20].all()
    plain, faults = read_voc(root, "train")
    assert not faults
    assert len(plain.annotations.objects.labels) == 4
    write_list(root, "Segmentation", "a")
    assert len(read_voc(root, "train", masks=True)[0]) == 1, "masks come with a list of their own"


def test_an_instance_goes_to_one_box() -> None:
    instances = np.zeros(SIZE, np.int64)
    instances[10:20, 10:20] = 3
    boxes = np.array([[10, 10, 22, 20], [10, 10, 20, 20], [40, 40, 50, 50]], np.float64)
    found = match_instances(instances, boxes)
    assert [mask is None for mask in found] == [True, False, True]
    assert match_instances(np.zeros(SIZE, np.int64), boxes) == [None] * 3
    assert match_instances(instances, np.zeros((0, 4))) == []


def test_label_pictures_of_any_kind_are_read(tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[0], colours[1], colours[2] = (128, 0, 0), (224, 224, 192), (0, 128, 0)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    rows = read_instances(tmp_path / "rgb.png", (4, 5))
    assert [len(np.unique(row)) for row in rows] == [1, 1, 1, 1]
    assert rows[0, 0] != rows[2, 0]
    assert not rows[1].any()
    assert not rows[3].any()
    with pytest.raises(InputError, match="5 x 4 pixels, the picture 4 x 5"):
        read_instances(tmp_path / "rgb.png", (5, 4))
    (tmp_path / "cut.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:40])
    with pytest.raises(InputError, match="not a PNG"):
        read_instances(tmp_path / "cut.png", (4, 5))
    Image.new("L", (3000, 2000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="3000 x 2000 pixels"):
        read_instances(tmp_path / "huge.png", (4, 5))
