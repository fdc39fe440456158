"""YOLO folders: class names, splits, boxes and polygons, and faults by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from detection.data.datasets import read_dataset
from detection.data.digit_files import write_yolo
from detection.data.digits import read_digits
from detection.data.faults import Fault
from detection.data.yolo import read_yolo
from detection.data.yolo_folders import label_path

CONFIG = "names:\n  0: cat\n  2: dog\n"
BOX = "0 0.5 0.5 0.5 0.5\n"


def picture(path: Path, size: tuple[int, int] = (20, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)
    return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def texts(faults: list[Fault]) -> list[str]:
    return [f"{fault.kind}  {fault}" for fault in faults]


def test_digits_through_the_layout_are_the_digits(tmp_path: Path) -> None:
    write_yolo(tmp_path, limit=5)
    memory = read_digits("val")
    data, faults = read_dataset(f"yolo:{tmp_path}", "val")
    assert not faults
    assert data.annotations.classes == memory.annotations.classes
    assert data.annotations.category_ids == tuple(range(10))
    for image in range(5):
        assert np.array_equal(data.pictures[image], memory.pictures[image])
        ours, theirs = data.annotations.of(image), memory.annotations.of(image)
        assert np.allclose(ours.boxes, theirs.boxes, atol=1e-4)
        assert np.array_equal(ours.labels, theirs.labels)


def test_polygons_are_boxes_and_masks(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "train: images/train\n" + CONFIG)
    picture(tmp_path / "images/train/a.png")
    write(tmp_path / "labels/train/a.txt", "2 0.25 0.5 0.75 0.5 0.75 1 0.25 1\n\n" + BOX)
    data, faults = read_yolo(tmp_path, "train")
    assert not faults
    assert data.annotations.classes == ("cat", "dog")
    assert data.annotations.category_ids == (0, 2)
    assert data.annotations.objects.labels.tolist() == [1, 0]
    assert data.annotations.objects.boxes.tolist() == [[10, 10, 30, 20], [10, 5, 30, 15]]
    data, faults = read_yolo(tmp_path, "train", masks=True)
    assert texts(faults) == ["box  labels/train/a.txt:3: cat: has no mask"]
    masks = data.annotations.objects.masks
    assert masks is not None
    assert masks.dense(0, (20, 40))[10:, 10:30].all()
    assert masks.dense(0, (20, 40)).sum() == 200
    only, _ = read_yolo(tmp_path, "train", ("dog", "ox"))
    assert only.annotations.objects.labels.tolist() == [0]
    assert only.annotations.category_ids == (2, 4)


def test_faults_name_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", CONFIG)
    lines = [
        "0 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0.5",
        "0 0.5 0.5 0.5 0.5 0.9",
        "1 0.5 0.5 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 20 10 5 5",
        "0 nan 0.5 0.5 0.5",
        "cat 0.5 0.5 0.5 0.5",
        "0 0.95 0.5 0.2 0.5",
    ]
    picture(tmp_path / "train/images/a.png")
    write(tmp_path / "train/labels/a.txt", "\n".join(lines))
    picture(tmp_path / "train/images/b.png")
    (tmp_path / "train/labels/b.txt").write_bytes(b"\xff\xfe\x00")
    picture(tmp_path / "train/images/c.png")
    (tmp_path / "train/images/d.png").write_bytes(b"")
    data, faults = read_yolo(tmp_path, "train")
    expected = "expected class cx cy width height, or class and the points of a polygon"
    assert texts(faults) == [
        f"box  train/labels/a.txt:2: 4 numbers; {expected}",
        f"box  train/labels/a.txt:3: 6 numbers; {expected}",
        "box  train/labels/a.txt:4: class 1 is not among 0 to 2",
        "box  train/labels/a.txt:5: class 0.5 is not among 0 to 2",
        "box  train/labels/a.txt:6: cat: box (20, 5, 20, 15) has no area",
        "box  train/labels/a.txt:7: 20 10 5 5 are no parts of the picture's sides (0 to 1)",
        "box  train/labels/a.txt:8: nan 0.5 0.5 0.5 are no parts of the picture's sides (0 to 1)",
        "box  train/labels/a.txt:9: not all numbers",
        "warning  train/labels/a.txt:10: cat: box (34, 5, 42, 15) reaches outside the image of 40 x 20 pixels; "
        "cut there",
        "file  train/labels/b.txt: cannot be read as text "
        "('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)",
        "file  train/images/d.png: not a JPEG, PNG, WEBP or BMP picture",
        "warning  train/labels/c.txt: no such file; 1 picture without labels count as without objects",
    ]
    assert data.annotations.objects.boxes.tolist()[1] == pytest.approx([34, 5, 40, 15])


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("train: images/train\nval: images/val\n", "images/{}"),
        ("train: ../train/images\nval: ../valid/images\n", "{}/images"),
        ("path: ../datasets/elsewhere\ntrain: [images/train]\nval: images/val\n", "images/{}"),
        ("train: gone\n", "{}"),
        ("", "{}/images"),
        ("", "images/{}"),
    ],
)
def test_splits_are_found(config: str, folder: str, tmp_path: Path) -> None:
    write(tmp_path / "my.yaml", config + "names: [cat]\n")
    valid = "valid" if "valid" in config else "val"
    for split, name in (("train", "a"), (valid, "b")):
        path = picture(tmp_path / folder.format(split) / f"{name}.JPG".lower())
        write(label_path(path), BOX)
    train, faults = read_yolo(tmp_path, "train")
    val, _ = read_yolo(tmp_path, "val")
    assert not faults
    assert [Path(str(data.annotations.names[0])).name for data in (train, val)] == ["a.jpg", "b.jpg"]
    assert not train.made_split
    with pytest.raises(InputError, match="no split 'test'; there are train, val"):
        read_yolo(tmp_path, "test")


def test_lists_of_paths_are_splits(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "cat\ndog\n")
    for name in "ab":
        write(label_path(picture(tmp_path / f"images/{name}.png")), BOX)
    write(tmp_path / "train.txt", f"./images/a.png\n{tmp_path}/images/b.png\n./images/a.png\n")
    write(tmp_path / "val.txt", "images/gone.png\nimages/a.png")
    train, _ = read_yolo(tmp_path, "train")
    assert train.annotations.names.tolist() == ["images/a.png", "images/b.png"]
    _, faults = read_yolo(tmp_path, "val")
    assert texts(faults) == ["file  images/gone.png: no such file"]


@pytest.mark.parametrize("folder", ["images", "."])
def test_folders_without_splits_are_divided(folder: str, tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "cat\n")
    (tmp_path / "._0.png").write_bytes(b"hidden")
    for number in range(40):
        write(label_path(picture(tmp_path / folder / f"{number}.png")), BOX)
    train, val = (read_yolo(tmp_path, split)[0] for split in ("train", "val"))
    assert train.made_split
    assert sorted([*train.annotations.names, *val.annotations.names]) == sorted(
        (Path(folder) / f"{number}.png").as_posix() for number in range(40)
    )


def test_yaml_is_never_run_and_names_are_checked(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for text, message in (
        ("names: !!python/object/apply:os.system ['echo']", r"data.yaml:1: not YAML"),
        ("names: [a\nb: {", "not YAML"),
        ("names: []", "no class names"),
        ("names: [cat, cat]", "class 'cat' occurs twice"),
        ("names: {zero: cat}", "names must be a list of names, or names by numbers from 0"),
        ("names: [[1]]", "names must be a list"),
        ("nc: 3", "there is no data.yaml or classes.txt"),
    ):
        write(tmp_path / "data.yaml", text)
        with pytest.raises(InputError, match=message):
            read_yolo(tmp_path, "train")


def test_folders_without_labels_or_pictures_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", CONFIG)
    with pytest.raises(InputError, match="no folder images"):
        read_yolo(tmp_path, "train")
    picture(tmp_path / "images/train/a.png")
    with pytest.raises(
        InputError, match=r"no picture of split 'train' has labels; expected for example .*labels/train/a"
    ):
        read_yolo(tmp_path, "train")
    with pytest.raises(InputError, match="did you mean --dataset yolo:"):
        read_dataset(str(tmp_path), "train")
