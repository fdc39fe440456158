"""COCO and VOC layouts, their faults, and the digit scenes through both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.data.splits import seeded_split
from backbones.errors import InputError
from detection.data.annotations import AnnotationBuilder
from detection.data.checking import check_pictures
from detection.data.coco import read_coco
from detection.data.datasets import read_dataset
from detection.data.digit_files import write_coco, write_voc
from detection.data.digits import OVERLAP, compose_scene, read_digits
from detection.data.faults import Fault, refuse_faulty_files
from detection.data.voc import read_voc
from tests.detection.builders import write_voc_folder


def test_scenes_never_change() -> None:
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for number in range(10):
            scene = compose_scene(split, number)
            digest.update(scene.image.tobytes() + scene.boxes.tobytes() + scene.labels.tobytes())
    assert digest.hexdigest()[:16] == "fcad4aecac4aeabc"


def test_scenes_are_what_they_promise() -> None:
    heights = []
    for number in range(60):
        scene = compose_scene("val", number)
        assert 1 <= len(scene.labels) <= 8
        assert scene.image.shape == (128, 128, 3)
        assert not (scene.masks.sum(0) > 1).any()  # a pixel belongs to one digit
        for (x1, y1, x2, y2), mask in zip(scene.boxes.tolist(), scene.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert (x1, y1, x2, y2) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            heights.append(y2 - y1)
        for i, a in enumerate(scene.boxes):
            for b in scene.boxes[:i]:
                common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
                assert common / min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()) <= OVERLAP + 0.25
    assert min(heights) >= 7
    assert max(heights) <= 66
    assert np.percentile(heights, 2) >= 11


def test_scenes_through_both_layouts_are_the_scenes(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", limit=5)
    write_voc(tmp_path / "voc", limit=5)
    memory = read_digits("val")
    for name in (f"coco:{tmp_path / 'coco'}", f"voc:{tmp_path / 'voc'}"):
        assert read_dataset(name, "val")[0].annotations.objects.masks is None
        data, faults = read_dataset(name, "val", memory.annotations.classes, masks=True)
        assert not faults
        assert len(data) == 5
        for image in range(5):
            assert np.array_equal(data.pictures[image], memory.pictures[image])
            ours, theirs = data.annotations.of(image), memory.annotations.of(image)
            assert np.array_equal(ours.boxes, theirs.boxes)
            assert np.array_equal(ours.labels, theirs.labels)
            assert ours.masks is not None
            assert theirs.masks is not None
            for number in range(len(ours.labels)):
                assert ours.masks.counts(number) == theirs.masks.counts(number)
    content = json.loads((tmp_path / "coco/annotations/instances_val.json").read_text())
    from pycocotools import mask as rle

    masks = [rle.decode(item["segmentation"]) for item in content["annotations"] if item["image_id"] == 1]
    assert np.array_equal(np.stack(masks).astype(bool), compose_scene("val", 0).masks)
    assert [item["id"] for item in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))


def test_voc_corners_become_half_open(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {"a": [("cat", (1, 1, 64, 64)), ("dog", (10, 20, 30, 40))]})
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a 1\n\n")
    data, faults = read_voc(tmp_path, "train")
    assert data.annotations.of(0).boxes.tolist() == [[0, 0, 64, 64], [9, 19, 30, 40]]
    assert data.annotations.classes == ("cat", "dog")
    assert not faults
    with pytest.raises(InputError, match=r"no such split \(did you mean 'train'\?\); there are train"):
        read_voc(tmp_path, "trian")


def test_own_classes_are_sorted_and_images_without_objects_stay(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {f"p{n}": [("zebra", (2, 2, 9, 9)), ("ant", (1, 1, 5, 5))][: n % 3] for n in range(30)})
    data, _ = read_voc(tmp_path, "train")
    assert data.annotations.classes == ("ant", "zebra")
    assert 18 <= len(data) <= 29
    assert (np.diff(data.annotations.first) == 0).any()


def test_faults_of_voc_files_are_named(tmp_path: Path) -> None:
    write_voc_folder(
        tmp_path,
        {
            "flat": [("cat", (5, 5, 5, 20))],
            "point": [("cat", (7, 7, 7, 7)), ("cat", (1, 1, 9, 9))],
            "outside": [("cat", (70, 70, 90, 90))],
            "over": [("cat", (50, 50, 70, 70))],
            "gone": [],
        },
    )
    (tmp_path / "JPEGImages/gone.png").unlink()
    (tmp_path / "Annotations/broken.xml").write_text("<annotation><object>")
    (tmp_path / "Annotations/bomb.xml").write_text(
        '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
    )
    wordy = "<object><name>cat</name><bndbox><xmin>x</xmin></bndbox></object><object><name>ox</name></object>"
    text = f"<annotation>{wordy}</annotation>"
    (tmp_path / "Annotations/words.xml").write_text(text)
    Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages/words.png")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    stems = ["flat", "point", "outside", "over", "gone", "broken", "bomb", "words", "absent"]
    (tmp_path / "ImageSets/Main/train.txt").write_text("\n".join(stems))
    data, faults = read_voc(tmp_path, "train", ("cat",))
    found = {(fault.file, fault.kind) for fault in faults}
    assert found == {
        ("Annotations/flat.xml", "box"), ("Annotations/point.xml", "box"), ("Annotations/outside.xml", "box"),
        ("Annotations/gone.xml", "file"), ("Annotations/broken.xml", "file"), ("Annotations/bomb.xml", "file"),
        ("Annotations/words.xml", "box"), ("Annotations/absent.xml", "file"), ("Annotations/over.xml", "warning"),
    }  # fmt: skip
    assert sum(fault.file.endswith("words.xml") for fault in faults) == 2
    assert [str(name) for name in data.annotations.names] == [
        "flat.png",
        "point.png",
        "outside.png",
        "over.png",
        "words.png",
    ]
    assert data.annotations.of(3).boxes.tolist() == [[49, 49, 64, 64]]
    assert data.annotations.size(4) == (6, 8)  # no <size>: the picture's header is asked
    with pytest.raises(InputError, match=r"4 more|3 more.*check.py"):
        refuse_faulty_files(faults, "voc:x")


def test_box_faults_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("shortcut").propagate = True
    refuse_faulty_files([Fault("a.xml", "box has no area", "box")], "voc:x")
    assert "1 object left out, the first: a.xml: box has no area" in caplog.text


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_other_folders_are_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout"):
        read_dataset(f"{layout}:{tmp_path}", "train")
    with pytest.raises(InputError, match="no such folder"):
        read_dataset(f"{layout}:{tmp_path / 'absent'}", "train")
    with pytest.raises(InputError, match=r"did you mean 'digits'"):
        read_dataset("digit", "train")
    (tmp_path / "Annotations").mkdir()
    if layout == "voc":
        with pytest.raises(InputError, match="too few"):
            read_dataset(f"voc:{tmp_path}", "val")
        (tmp_path / "Annotations" / "a.xml").write_text("<annotation/>")
        with pytest.raises(InputError, match="JPEGImages"):
            read_dataset(f"voc:{tmp_path}", "train")


def coco_folder(root: Path, **changes: object) -> Path:
    content: dict[str, object] = {
        "images": [
            {"id": 90, "file_name": "b.png", "height": 20, "width": 30},
            {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 44, "bbox": [1, 2, 10, 5], "area": 33.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": -3, "bbox": [0, 0, 30, 20], "area": 400, "iscrowd": 1},
            {"id": 3, "image_id": 90, "category_id": 44, "bbox": [5, 5, 0, 4]},
            {"id": 4, "image_id": 1, "category_id": 44, "bbox": [5, 5, 3, 4]},
            {"id": 5, "image_id": 90, "category_id": 99, "bbox": [5, 5, 3, 4]},
            {"id": 6, "image_id": 90, "category_id": 44, "bbox": [5, 5, "x", 4]},
        ],
        "categories": [{"id": 44, "name": "dog"}, {"id": -3, "name": "crowd of cats"}],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps({**content, **changes}))
    (root / "val2017").mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (30, 20)).save(root / "val2017" / f"{name}.png")
    return root


def test_coco_files_with_any_ids_are_read(tmp_path: Path) -> None:
    data, faults = read_coco(coco_folder(tmp_path), "val")
    annotations = data.annotations
    assert annotations.classes == ("crowd of cats", "dog")
    assert annotations.category_ids == (-3, 44)
    assert annotations.image_ids.tolist() == [90, 7]
    objects = annotations.of(1)
    assert objects.boxes.tolist() == [[1, 2, 11, 7], [0, 0, 30, 20]]
    assert objects.labels.tolist() == [1, 0]
    assert objects.ignored.tolist() == [False, True]
    assert objects.areas.tolist() == [33.5, 400]
    assert len(annotations.of(0).labels) == 0
    assert len(faults) == 4
    assert all(fault.kind == "box" for fault in faults)
    only, _ = read_coco(tmp_path, "val2017", ("dog",))
    assert only.annotations.objects.labels.tolist() == [0]
    with pytest.raises(InputError, match=r"no category 'dgo' \(did you mean 'dog'"):
        read_coco(tmp_path, "val2017", ("dgo",))


def test_missing_pictures_are_faults(tmp_path: Path) -> None:
    coco_folder(tmp_path)
    (tmp_path / "val2017" / "a.png").unlink()
    data, faults = read_coco(tmp_path, "val")
    assert len(data) == 1
    assert [str(fault) for fault in faults if fault.kind == "file"] == [
        "instances_val2017.json: images[1]: a.png: no such picture in val2017"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "not a COCO file"),
        ({"images": [{"id": 1}]}, r"images\[0\] has no file_name"),
        ({"annotations": [{"bbox": []}]}, r"annotations\[0\] has no image_id"),
    ],
)
def test_other_json_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_coco(coco_folder(tmp_path, **changes), "val")
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_coco(tmp_path, "val")
    with pytest.raises(InputError, match="there are val2017"):
        read_coco(tmp_path, "train")


def test_pictures_must_have_the_annotated_size(tmp_path: Path) -> None:
    data, _ = read_coco(coco_folder(tmp_path), "val")
    Image.new("RGB", (31, 20)).save(tmp_path / "val2017" / "a.png")
    (tmp_path / "val2017" / "b.png").write_bytes(b"nothing")
    faults = check_pictures(data)
    assert [fault.file for fault in faults] == ["b.png", "a.png"]
    assert "31 x 20 pixels, but its annotations say 30 x 20" in faults[1].what


def test_made_splits_are_stable_and_divide() -> None:
    names = [f"image{n}" for n in range(200)]
    train, val = (seeded_split(names, split) for split in ("train", "val"))
    assert sorted(train + val) == sorted(names)
    assert 20 <= len(val) <= 60
    assert set(seeded_split(names[:100], "val")) <= set(val)
    with pytest.raises(InputError, match="train and val, not 'test'"):
        seeded_split(names, "test")
    with pytest.raises(InputError, match="too few"):
        seeded_split([], "train")


def test_labels_follow_the_models_order() -> None:
    builder = AnnotationBuilder(("cat", "dog", "unused"), (5, 6, 7))
    builder.add_object((0, 0, 1, 1), 0)
    builder.add_object((0, 0, 1, 1), 1)
    builder.add_image("a", 1, (4, 4))
    annotations = builder.build()
    moved = annotations.relabelled(("dog", "bird", "cat"))
    assert moved.objects.labels.tolist() == [2, 0]
    assert moved.category_ids == (6, 9, 5)
    assert annotations.relabelled(annotations.classes) is annotations
    with pytest.raises(InputError, match="the model does not know: cat"):
        annotations.relabelled(("dog",))


def test_bccd_reports_its_two_empty_boxes(shared_data: Path) -> None:
    faults = [fault for split in ("train", "val", "test") for fault in read_voc(shared_data / "bccd/VOC2007", split)[1]]
    assert sorted(fault.file for fault in faults) == [
        "Annotations/BloodImage_00338.xml", "Annotations/BloodImage_00343.xml"
    ]  # fmt: skip
    assert all("has no area" in fault.what for fault in faults)


@pytest.mark.parametrize(
    ("name", "split", "images", "objects", "ignored"),
    [("voc:voc2012_100/VOC2012", "trainval", 100, 273, 38), ("coco:coco100", "train2017", 50, 470, 5)],
)
def test_real_data_is_read_whole(
    shared_data: Path, name: str, split: str, images: int, objects: int, ignored: int
) -> None:
    layout, _, folder = name.partition(":")
    data, faults = read_dataset(f"{layout}:{shared_data / folder}", split)
    assert not [fault for fault in [*faults, *check_pictures(data)] if fault.kind == "file"]
    found = data.annotations.objects
    assert (len(data), len(found.labels), int(found.ignored.sum())) == (images, objects, ignored)


def test_a_wrong_folder_is_told_the_name_that_fits(tmp_path: Path) -> None:
    voc, coco, both = tmp_path / "one" / "v", tmp_path / "two" / "c", tmp_path / "one"
    (voc / "Annotations").mkdir(parents=True)
    (coco / "annotations").mkdir(parents=True)
    (coco / "train").mkdir()
    for name, fitting in (
        (f"voc:{coco}", f"coco:{coco}"),
        (f"coco:{voc}", f"voc:{voc}"),
        (f"voc:{both}", f"voc:{voc}"),
        (f"coco:{coco / 'train'}", f"coco:{coco}"),
        (str(voc), f"voc:{voc}"),
    ):
        with pytest.raises(InputError) as refusal:
            read_dataset(name, "train")
        assert str(refusal.value).endswith(f"did you mean --dataset {fitting}?")
    with pytest.raises(InputError, match="name the folder that holds Annotations"):
        read_dataset(f"voc:{tmp_path}", "train")
