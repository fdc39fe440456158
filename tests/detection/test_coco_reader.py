"""COCO files: masks, ids and sizes as tools write them, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from backbones.errors import InputError
from detection.data.checking import check_pictures
from detection.data.coco import read_coco
from detection.data.faults import Fault

SIZE = (20, 30)
SQUARE = [[2, 3, 8, 3, 8, 9, 2, 9]]


def image(key: Any, name: str = "a.png", **changes: Any) -> dict[str, Any]:
    return {"id": key, "file_name": name, "height": 20, "width": 30, **changes}


def annotation(owner: Any = 1, category: Any = 1, **changes: Any) -> dict[str, Any]:
    return {"image_id": owner, "category_id": category, "bbox": [2, 3, 6, 6], **changes}


def write(root: Path, split: str = "train", order: str = "images annotations categories", **lists: Any) -> Path:
    content = {"images": [image(1)], "annotations": [], "categories": [{"id": 1, "name": "cat"}], **lists}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    text = json.dumps({"info": {}, **{part: content[part] for part in order.split()}})
    (root / "annotations" / f"instances_{split}.json").write_text(text)
    (root / split).mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", SIZE[::-1]).save(root / split / f"{name}.png")
    return root


def texts(faults: list[Fault], kind: str) -> list[str]:
    return [str(fault) for fault in faults if fault.kind == kind]


@pytest.mark.parametrize("order", ["images annotations categories", "categories annotations images"])
def test_masks_are_read_in_all_forms_and_sorted_by_image(order: str, tmp_path: Path) -> None:
    pixels = np.asfortranarray(np.random.default_rng(0).random(SIZE) < 0.5, np.uint8)
    packed = rle.encode(pixels)["counts"].decode()
    runs = [60, 5, 535]
    root = write(
        tmp_path,
        order=order,
        images=[image(5), image(3, "b.png")],
        annotations=[
            annotation(3, segmentation=SQUARE),
            annotation(5, segmentation={"size": [20, 30], "counts": packed}),
            annotation(3, iscrowd=1, area=5, segmentation={"size": [20, 30], "counts": runs}),
        ],
    )
    data, faults = read_coco(root, "train", masks=True)
    assert not faults
    first, second = data.annotations.of(0), data.annotations.of(1)
    assert first.masks is not None
    assert second.masks is not None
    assert np.array_equal(first.masks.dense(0, SIZE), pixels)
    assert second.masks.dense(0, SIZE)[3:9, 2:8].all()
    assert second.masks.dense(0, SIZE).sum() == 36
    assert np.flatnonzero(second.masks.dense(1, SIZE).T).tolist() == [60, 61, 62, 63, 64]
    assert second.ignored.tolist() == [False, True]
    assert second.areas.tolist() == [36, 5]
    plain, _ = read_coco(root, "train")
    assert plain.annotations.objects.masks is None
    assert np.array_equal(plain.annotations.objects.boxes, data.annotations.objects.boxes)


def test_objects_without_a_mask_are_left_out_only_if_masks_are_asked(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        annotations=[
            annotation(),
            annotation(segmentation=SQUARE),
            annotation(segmentation=[[1, 2, 3, 4]]),
            annotation(segmentation=[], bbox=[2, 3, 0, 6]),
            annotation(segmentation={"size": [30, 20], "counts": [600]}),
        ],
    )
    data, faults = read_coco(root, "train")
    assert len(data.annotations.objects.labels) == 4
    assert len(faults) == 1
    data, faults = read_coco(root, "train", masks=True)
    assert len(data.annotations.objects.labels) == 1
    assert texts(faults, "box") == [
        "instances_train.json: annotations[0]: a.png: has no mask",
        "instances_train.json: annotations[2]: a.png: its mask has a polygon of less than 3 points",
        "instances_train.json: annotations[3]: a.png: box (2, 3, 2, 9) has no area",
        "instances_train.json: annotations[4]: a.png: its mask has size [30, 20], the picture [20, 30]",
    ]
    assert faults[0].box == (2, 3, 8, 9)


def test_files_without_any_mask_are_refused_for_masks(tmp_path: Path) -> None:
    root = write(tmp_path, annotations=[annotation(), annotation()])
    with pytest.raises(InputError, match="no object has a mask that can be used; the first: has no mask"):
        read_coco(root, "train", masks=True)
    data, _ = read_coco(write(tmp_path / "empty"), "train", masks=True)
    assert data.annotations.objects.masks is not None
    assert len(data.annotations.objects.masks) == 0


def test_ids_of_mixed_kinds_belong_together(tmp_path: Path) -> None:
    images = [image("007"), image(8.0, "b.png")]
    root = write(
        tmp_path,
        images=images,
        annotations=[annotation(7, "1"), annotation("8", 1.0), annotation("x")],
    )
    data, faults = read_coco(root, "train")
    assert data.annotations.image_ids.tolist() == [7, 8]
    assert np.diff(data.annotations.first).tolist() == [1, 1]
    assert texts(faults, "box") == ["instances_train.json: annotations[2]: unknown image x"]


def test_ids_that_are_text_are_numbered(tmp_path: Path) -> None:
    categories = [{"id": "ox", "name": "ox"}, {"id": 9, "name": "cat"}]
    root = write(
        tmp_path, images=[image("p"), image(2**70, "b.png")], categories=categories, annotations=[annotation("p", "ox")]
    )
    data, faults = read_coco(root, "train")
    assert data.annotations.image_ids.tolist() == [1, 2]
    assert data.annotations.classes == ("cat", "ox")
    assert data.annotations.category_ids == (1, 2)
    assert data.annotations.objects.labels.tolist() == [1]
    assert len(texts(faults, "warning")) == 2


def test_images_are_told_apart(tmp_path: Path) -> None:
    images = [
        image(1),
        image(1, "b.png"),
        image(2, "a.png"),
        image(3, "../a.png"),
        image(4, "/etc/a.png"),
        image(5, "sub/b.png"),
        image(6, "sub\\c.png"),
        image(7, "b.png", height=None, width=0),
        image(8, "c.png"),
        image(9, "a.png", height=10**6, width=10**6),
    ]
    root = write(tmp_path, images=images, annotations=[annotation(key) for key in (3, 6, 7)])
    (root / "train" / "sub").mkdir()
    (root / "train" / "c.png").rename(root / "train" / "sub" / "c.png")
    data, faults = read_coco(root, "train")
    assert data.annotations.names.tolist() == ["a.png", "a.png", "sub/c.png", "b.png"]
    assert data.annotations.size(3) == SIZE, "a size that is not told is read from the picture"
    assert np.diff(data.annotations.first).tolist() == [0, 0, 1, 1]
    assert texts(faults, "file") == [
        "instances_train.json: images[1]: id 1 is that of images[0], too",
        "instances_train.json: images[3]: ../a.png: the name leads out of train; name pictures from there",
        "instances_train.json: images[4]: /etc/a.png: the name leads out of train; name pictures from there",
        "instances_train.json: images[5]: sub/b.png: no such picture in train",
        "instances_train.json: images[8]: c.png: no such picture in train",
        "instances_train.json: images[9]: a.png: 1000000 x 1000000 pixels, more than the 100000000 that are read",
    ]
    assert texts(faults, "warning") == [
        "instances_train.json: images[2]: a.png is also images[0]; each has only its own objects",
        "instances_train.json: images[9]: a.png is also images[2]; each has only its own objects",
    ]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    boxes = [[0, 0, float("nan"), 5], [0, 0, float("inf"), 5], [5, 5, -2, 5], [0, 0, 5], None, [0, 0, "5", 5]]
    root = write(tmp_path, annotations=[annotation(bbox=box, area=float("nan")) for box in boxes])
    data, faults = read_coco(root, "train")
    assert data.annotations.objects.boxes.tolist() == [[0, 0, 5, 5]]
    assert data.annotations.objects.areas.tolist() == [25]
    found = texts(faults, "box")
    assert sum("not finite" in text for text in found) == 2
    assert sum("not four numbers" in text for text in found) == 2
    assert "instances_train.json: annotations[2]: a.png: box (5, 5, 3, 10) has no area" in found


def test_boxes_partly_outside_are_cut_and_told(tmp_path: Path) -> None:
    boxes = [[-3, 2, 10, 10], [2, 3, 29, 10], [-20, 2, 10, 10]]
    data, faults = read_coco(write(tmp_path, annotations=[annotation(bbox=box) for box in boxes]), "train")
    assert data.annotations.objects.boxes.tolist() == [[0, 2, 7, 12], [2, 3, 30, 13]]
    assert texts(faults, "warning") == [
        "instances_train.json: annotations[0]: a.png: box (-3, 2, 7, 12) reaches outside the image of 30 x 20 pixels; "
        "cut there"
    ]
    assert len(texts(faults, "box")) == 1


def test_swapped_sizes_are_told(tmp_path: Path) -> None:
    data, faults = read_coco(write(tmp_path, images=[image(1, height=30, width=20)]), "train")
    assert not faults
    (fault,) = check_pictures(data)
    assert str(fault) == "a.png: 30 x 20 pixels, but its annotations say 20 x 30 (width and height are swapped)"


def test_categories_must_be_distinct(tmp_path: Path) -> None:
    root = write(tmp_path, categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat "}])
    with pytest.raises(InputError, match=r"categories\[1\]: id 2 or name 'cat' occurs twice"):
        read_coco(root, "train")
    with pytest.raises(InputError, match=r"categories\[0\] is no object with id, name"):
        read_coco(write(tmp_path, categories=["cat"]), "train")
    with pytest.raises(InputError, match=r"needs the lists images, annotations, categories"):
        read_coco(write(tmp_path, order="images categories"), "train")


def test_unknown_categories_are_faults_and_others_are_not_chosen(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    root = write(tmp_path, categories=categories, annotations=[annotation(category=key) for key in (1, 2, 3)])
    data, faults = read_coco(root, "train", ("dog",))
    assert data.annotations.objects.labels.tolist() == [0]
    assert texts(faults, "box") == [
        "instances_train.json: annotations[2]: a.png: its category_id is not among the categories"
    ]


def test_other_places_are_found(tmp_path: Path) -> None:
    root = write(tmp_path / "r", split="valid")
    (root / "annotations" / "instances_valid.json").rename(root / "valid" / "_annotations.coco.json")
    (root / "annotations").rmdir()
    assert len(read_coco(root, "val")[0]) == 1
    with pytest.raises(InputError, match="no split 'train'; there are valid"):
        read_coco(root, "train")
    root = write(tmp_path / "beside")
    (root / "annotations" / "captions_train.json").write_text("{}")
    assert len(read_coco(root, "train")[0]) == 1
    (root / "annotations" / "instances_train2014.json").write_text("{}")
    (root / "annotations" / "instances_train.json").rename(root / "annotations" / "instances_train2017.json")
    with pytest.raises(InputError, match=r"no split 'train'.*there are train2014, train2017"):
        read_coco(root, "train")


def test_one_file_for_all_is_divided(tmp_path: Path) -> None:
    images = [image(number, f"images/{number}.png") for number in range(40)]
    root = write(tmp_path, split="images", images=images, annotations=[annotation(number) for number in range(40)])
    (root / "annotations" / "instances_images.json").rename(root / "result.json")
    (root / "annotations").rmdir()
    for number in range(40):
        Image.new("RGB", SIZE[::-1]).save(root / "images" / f"{number}.png")
    train, faults = read_coco(root, "train")
    val, _ = read_coco(root, "val")
    assert not faults
    assert train.made_split
    assert len(train) + len(val) == 40
    assert not set(train.annotations.names) & set(val.annotations.names)
    assert len(train.annotations.objects.labels) == len(train)
    assert train.pictures[0].shape == (*SIZE, 3)
    with pytest.raises(InputError, match="no split 'test'"):
        read_coco(root, "test")


def test_reading_keeps_flat_arrays_only(tmp_path: Path) -> None:
    root = write(tmp_path, annotations=[annotation(segmentation=SQUARE)] * 3)
    data, _ = read_coco(root, "train", masks=True)
    objects = data.annotations.objects
    assert objects.masks is not None
    for array in (objects.boxes, objects.labels, objects.ignored, objects.areas, objects.masks.text):
        assert array.dtype != object
        assert array.base is None or array.base.dtype != object
