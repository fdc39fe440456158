"""Sets that are called by name, and what their splits mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from detection.data.datasets import read_dataset
from detection.data.named import COCO_YEARS, VOC_CLASSES, VOC_PARTS
from detection.data.names import HELP, NAMES, default_splits
from tests.detection.builders import write_voc_folder

LISTS = {
    2007: {"train": "1", "val": "2", "trainval": "1 2", "test": "3"},
    2012: {"train": "1", "val": "2", "trainval": "1 2"},
}


def voc(data_dir: Path, place: str = "VOCdevkit/VOC{}") -> None:
    """Pictures 1, 2 and 3 of each year, with as many objects as their number."""
    for year, lists in LISTS.items():
        root = data_dir / place.format(year)
        names = sorted({stem for stems in lists.values() for stem in stems.split()})
        write_voc_folder(root, {stem: [("cat", (1, 1, 9, 9)), ("dog", (2, 2, 60, 64))] for stem in names})
        (root / "ImageSets" / "Main").mkdir(parents=True)
        for split, stems in lists.items():
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems.split()))


def coco(root: Path, year: int) -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (root / f"{split}{year}").mkdir()
        Image.new("RGB", (30, 20)).save(root / f"{split}{year}" / "a.png")
        content = {
            "images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30}],
            "annotations": [{"image_id": 7, "category_id": 90, "bbox": [0, 0, 5, 5]}],
            "categories": [{"id": 90, "name": "toothbrush"}],
        }
        (root / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("voc2007", "train", "1"),
        ("voc2007", "trainval", "1 2"),
        ("voc2007", "test", "3"),
        ("voc2012", "val", "2"),
        ("voc0712", "train", "VOC2007/1 VOC2007/2 VOC2012/1 VOC2012/2"),
        ("voc0712", "val", "3"),
        ("voc0712", "test", "3"),
        ("voc0712++", "train", "VOC2007/1 VOC2007/2 VOC2007/3 VOC2012/1"),
        ("voc0712++", "val", "2"),
        ("voc0712++", "trainval", "VOC2007/1 VOC2007/2 VOC2007/3 VOC2012/1 VOC2012/2"),
    ],
)
def test_voc_sets_are_unions(name: str, split: str, expected: str, tmp_path: Path) -> None:
    voc(tmp_path)
    data, faults = read_dataset(name, split, data_dir=tmp_path)
    assert not faults
    assert [str(found).replace("JPEGImages/", "") for found in data.annotations.names] == [
        f"{stem}.png" for stem in expected.split()
    ]
    assert data.name == name
    assert data.annotations.classes == VOC_CLASSES
    assert len(set(data.annotations.image_ids.tolist())) == len(data)
    assert data.annotations.objects.labels.tolist() == [7, 11] * len(data)
    assert np.array_equal(data.annotations.first, 2 * np.arange(len(data) + 1))
    for image in range(len(data)):
        assert data.pictures[image].shape == (64, 64, 3)


def test_faults_of_unions_tell_the_year(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/1.png").unlink()
    _, faults = read_dataset("voc0712", "train", data_dir=tmp_path)
    assert [str(fault) for fault in faults] == ["VOC2012/Annotations/1.xml: no picture JPEGImages/1.jpg"]


def test_unions_have_masks_if_asked(tmp_path: Path) -> None:
    voc(tmp_path)
    for year in (2007, 2012):
        folder = tmp_path / f"VOCdevkit/VOC{year}/SegmentationObject"
        folder.mkdir()
        labels = np.zeros((64, 64), np.uint8)
        labels[1:, 1:60] = 2
        labels[:9, :9] = 1
        for stem in "12":
            Image.fromarray(labels).save(folder / f"{stem}.png")
    data, faults = read_dataset("voc0712", "train", data_dir=tmp_path, masks=True)
    assert not faults
    masks = data.annotations.objects.masks
    assert masks is not None
    assert [int(masks.dense(number, (64, 64)).sum()) for number in range(8)] == [81, 63 * 59 - 64] * 4


@pytest.mark.parametrize("place", ["VOC{}", "voc{}/VOC{}", "voc{}", "voc{}/VOCdevkit/VOC{}"])
def test_voc_may_lie_in_other_places(place: str, tmp_path: Path) -> None:
    voc(tmp_path, place.replace("{}", "{0}"))
    assert len(read_dataset("voc0712", "train", data_dir=tmp_path)[0]) == 4


@pytest.mark.parametrize(("name", "year"), [("coco", 2017), ("coco2014", 2014)])
def test_coco_is_found_and_its_splits_have_short_names(
    name: str, year: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco(tmp_path / "coco", 2014)
    coco(tmp_path / "coco", 2017)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for split in ("train", f"val{year}"):
        data, faults = read_dataset(name, split)
        assert not faults
        assert data.name == name
        assert data.annotations.category_ids == (90,)
        assert data.pictures[0].shape == (20, 30, 3)
    assert len(read_dataset(name, "val", data_dir=tmp_path / "coco")[0]) == 1, "the folder itself may be named"
    with pytest.raises(InputError, match="test images are not public; score on --split val"):
        read_dataset(name, "test")


def test_a_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    for name, layout in (
        ("coco", "coco with annotations/instances_train2017.json, train2017 and val2017"),
        ("voc0712", "VOCdevkit/VOC2007 with Annotations, ImageSets and JPEGImages"),
    ):
        with pytest.raises(InputError) as refusal:
            read_dataset(name, "train", data_dir=tmp_path)
        text = str(refusal.value)
        assert f"is not in {tmp_path}: expected {layout} there; give --data-dir DIR" in text
        assert text.endswith("or --download")


def test_splits_that_are_not_public_say_so(tmp_path: Path) -> None:
    voc(tmp_path)
    with pytest.raises(InputError, match=r"not public; score on --split val, which --split train leaves out"):
        read_dataset("voc0712++", "test", data_dir=tmp_path)
    with pytest.raises(InputError, match=r"not public; score on --split val$"):
        read_dataset("voc2012", "test", data_dir=tmp_path)
    with pytest.raises(InputError, match=r"no split 'vall' \(did you mean 'val'\?\); there are train, trainval, val"):
        read_dataset("voc0712", "vall", data_dir=tmp_path)


def test_default_splits_exist_for_all_names() -> None:
    assert default_splits("coco") == ("train2017", "val2017")
    assert default_splits("coco2014") == ("train2014", "val2014")
    for name in ("voc0712", "voc:some/folder", "yolo:x", "digits"):
        assert default_splits(name) == ("train", "val")
    assert {"digits", *COCO_YEARS, *VOC_PARTS} == set(NAMES)
    assert all(name in HELP for name in NAMES)
    for name, parts in VOC_PARTS.items():
        assert set(default_splits(name)) <= set(parts)
        train, val = (set(parts[split]) for split in default_splits(name))
        assert not train & val, "nothing is both trained on and chosen by"
