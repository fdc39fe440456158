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


def xml(*objects: str, filename: str = "", size: str = "") -> str:
    items = "".join(
        f"  <object>\n    <name>{name}</name>\n    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        f"</bndbox>\n  </object>\n"
        for name in objects
    )
    return f"<annotation>\n  <filename>{filename}</filename>{size}\n{items}</annotation>\n"


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20)).save(path, "JPEG")


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("Annotations", "JPEGImages"),
        ("annotations", "images"),
        ("xmls", "images"),
        (".", "."),
        ("labels", "."),
        (".", "img"),
    ],
)
def test_looser_folders_are_divided(annotations: str, pictures: str, tmp_path: Path) -> None:
    (tmp_path / annotations).mkdir(exist_ok=True)
    for number in range(40):
        photograph(tmp_path / pictures / f"my photo {number}.JPG")
        (tmp_path / annotations / f"my photo {number}.XML").write_text(xml("cat"))
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / annotations / "._my photo 1.XML").write_bytes(b"\0\5\x16\7")
    train, faults = read_voc(tmp_path, "train")
    val, _ = read_voc(tmp_path, "val")
    assert not faults
    assert train.made_split
    assert len(train) + len(val) == 40
    assert train.pictures[0].shape == (20, 30, 3)
    assert val.annotations.objects.boxes.tolist() == [[0, 0, 9, 9]] * len(val)


def test_folders_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("valid", "b")):
        photograph(tmp_path / split / f"{name}.jpg")
        (tmp_path / split / f"{name}.xml").write_text(xml("cat"))
    train, faults = read_voc(tmp_path, "train")
    assert not faults
    assert not train.made_split
    assert train.annotations.names.tolist() == ["a.jpg"]
    assert read_voc(tmp_path, "val")[0].annotations.names.tolist() == ["b.jpg"]
    with pytest.raises(InputError, match="no split 'test'; there are train, val"):
        read_voc(tmp_path, "test")


def test_pictures_are_found_by_stem_or_by_the_told_name(tmp_path: Path) -> None:
    for stem in ("a", "b", "x.y"):
        photograph(tmp_path / "JPEGImages" / f"{stem}.jpg")
    (tmp_path / "Annotations").mkdir()
    for stem, told in (
        ("a", "b.jpg"),
        ("one", "C:\\photos\\b.jpg"),
        ("two", "../../x.y"),
        ("three", "c.jpg"),
        ("four", ""),
        ("five", "b.png"),
    ):
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(xml(filename=told))
    write_list(tmp_path, "Main", "a", "one.jpg", "two.xml  1", "a", "three", "four", "five")
    data, faults = read_voc(tmp_path, "train")
    assert data.annotations.names.tolist() == ["a.jpg", "b.jpg", "x.y.jpg", "b.jpg"]
    assert texts(faults) == [
        "file  Annotations/three.xml: no picture JPEGImages/three.jpg",
        "file  Annotations/four.xml: no picture JPEGImages/four.jpg",
    ]


def test_faults_tell_the_line_of_the_object(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    text = xml("cat", "ox", "cat", size="<size><width>0</width><height>x</height></size>")
    text = text.replace("<object>", "<!-- <object>\n</object> --><object>").replace("<xmax>9", "<xmax>1", 1)
    (tmp_path / "a.xml").write_text(text)
    photograph(tmp_path / "b.jpg")
    (tmp_path / "b.xml").write_text("<annotation>\n<object>\n</annotation>")
    (tmp_path / "c.jpg").write_bytes(b"")
    (tmp_path / "c.xml").write_text(xml("cat"))
    (tmp_path / "d.xml").write_bytes(b'<?xml version="1.0" encoding="nonsense"?><annotation/>')
    write_list(tmp_path, "Main", "a", "b", "c", "d")
    data, faults = read_voc(tmp_path, "train", ("cat",))
    assert texts(faults)[:2] == [
        "file  b.xml:3: not XML that is read (mismatched tag: line 3, column 2)",
        "file  d.xml: not XML that is read (unknown encoding: nonsense)",
    ]
    assert texts(faults)[2:] == [
        "box  a.xml:4: cat: box (1, 1, 1, 9) has no area",
        "box  a.xml:9: class 'ox' is not among cat",
        "file  c.jpg: not a JPEG, PNG, WEBP or BMP picture",
    ]
    assert faults[2].box == (1, 1, 1, 9)
    assert data.annotations.size(0) == (20, 30)


@pytest.mark.parametrize(("text", "ignored"), [("1", True), ("0", False), ("", False), (" TRUE ", True), ("no", False)])
def test_difficult_is_read_as_tools_write_it(text: str, ignored: bool, tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(xml("cat").replace("</object>", f"<difficult>{text}</difficult></object>"))
    write_list(tmp_path, "Main", "a")
    assert read_voc(tmp_path, "train")[0].annotations.objects.ignored.tolist() == [ignored]


def test_made_splits_have_the_same_classes(tmp_path: Path) -> None:
    for number in range(40):
        photograph(tmp_path / f"{number}.jpg")
        (tmp_path / f"{number}.xml").write_text(xml("cat", *(["ox"] if number == 7 else [])))
    for split in ("train", "val"):
        assert read_voc(tmp_path, split)[0].annotations.classes == ("cat", "ox")


def test_masks_need_their_folder(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {"a": []})
    with pytest.raises(InputError, match="masks are asked for, but there is no folder SegmentationObject"):
        read_voc(tmp_path, "train", masks=True)


@pytest.mark.parametrize("classes", [None, ("cat",)])
def test_pictures_without_xml_are_mentioned_where_no_list_leaves_them_out(
    classes: tuple[str, ...] | None, tmp_path: Path
) -> None:
    for stem in "abcdefghijkl":
        photograph(tmp_path / f"{stem}.jpg")
        (tmp_path / f"{stem}.xml").write_text(xml("cat"))
    photograph(tmp_path / "alone.jpg")
    photograph(tmp_path / "told.jpg")
    (tmp_path / "other.xml").write_text(xml("cat", filename="told.jpg"))
    faults = [fault for split in ("train", "val") for fault in read_voc(tmp_path, split, classes)[1]]
    assert texts(faults) == ["warning  alone.jpg: no XML file; 1 picture without one will not be used"]
    write_list(tmp_path, "Main", "a", "b")
    assert read_voc(tmp_path, "train", classes)[1] == []


def test_boxes_partly_outside_are_cut_and_told(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    text = xml("cat", "cat").replace("<xmax>9", "<xmax>31", 1)
    (tmp_path / "a.xml").write_text(
        text[: text.rindex("<xmax>9")] + text[text.rindex("<xmax>9") :].replace("9", "50", 1)
    )
    write_list(tmp_path, "Main", "a")
    data, faults = read_voc(tmp_path, "train")
    assert data.annotations.objects.boxes[:, 2].tolist() == [30, 30]
    assert [fault.what for fault in faults] == [
        "cat: box (1, 1, 50, 9) reaches outside the image of 30 x 20 pixels; cut there"
    ]
    assert (faults[0].kind, faults[0].box) == ("warning", (1, 1, 50, 9))
