"""The data check: counts, pictures, likely mistakes, and the command."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from backbones.errors import InputError
from detection import check
from detection.data.annotations import AnnotationBuilder, DetectionData
from detection.data.checking import (
    check_pictures,
    describe,
    describe_classes,
    likely_mistakes,
    misspelt_classes,
    repeated_pictures,
)
from detection.data.datasets import read_checked
from detection.data.digit_files import write_voc
from detection.data.voc import read_voc
from tests.detection.builders import write_voc_folder


def encoded(x1: int, y1: int, x2: int, y2: int) -> bytes:
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    return bytes(rle.encode(mask)["counts"])


def made(classes: tuple[str, ...] = ("cat", "dog")) -> DetectionData:
    builder = AnnotationBuilder(classes, masks=True)
    builder.add_object((0, 0, 20, 20), 0, mask=encoded(1, 1, 19, 20))
    builder.add_object((0, 0, 20, 20), 1, ignored=True, mask=encoded(10, 0, 40, 20))
    builder.add_object((0, 0, 20, 20), 0, mask=encoded(0, 0, 20, 20))
    builder.add_object((3, 3, 3.5, 20), 0, mask=encoded(3, 3, 4, 20))
    builder.add_object((3, 3, 6, 6), 0, mask=encoded(5, 5, 9, 9))
    builder.add_image("a.png", 1, (40, 60))
    builder.add_image("b.png", 2, (20, 30))
    return DetectionData("made", builder.build(), [np.zeros((40, 60, 3), np.uint8)] * 2)


def test_counts() -> None:
    data = made()
    text = "\n".join(describe(data.annotations))
    assert "images            2, 1 of them without objects" in text
    assert "objects           5, 1 of them crowds or difficult" in text
    assert "masks             5, 0.0 MB" in text
    assert "picture sizes     30 x 20 to 60 x 40" in text
    assert "5 at most" in text
    other = made(("dog", "ox")).annotations
    table = [line.split() for line in describe_classes({"train": data.annotations, "val": other})]
    assert table == [["objects", "of", "train", "val"], ["cat", "4", "0"], ["dog", "1", "4"], ["ox", "0", "1"]]
    empty = AnnotationBuilder(()).build()
    assert len(describe(empty)) == 2
    assert describe_classes({"train": empty})


def test_likely_mistakes_are_warnings() -> None:
    found = likely_mistakes(made(("Red cell", "red_cell")))
    assert {fault.kind for fault in found} == {"warning"}
    assert [str(fault) for fault in found] == [
        "made: classes 'Red cell' and 'red_cell' differ by case only",
        "a.png: red_cell: box (0, 0, 20, 20) overlaps its mask's extent by 0.25 only (IoU)",
        "a.png: Red cell: box (0, 0, 20, 20) occurs more than once",
        "a.png: Red cell: box (3, 3, 3.5, 20) is thinner than a pixel",
    ]


def of_classes(counts: dict[str, int]) -> DetectionData:
    builder = AnnotationBuilder(tuple(counts))
    builder.add_image("none.png", 1, (40, 60))
    for label, (name, count) in enumerate(counts.items()):
        for _ in range(count):
            builder.add_object((0, 0, 20, 20), label)
        builder.add_image(f"{name}.png", label + 2, (40, 60))
    return DetectionData("made", builder.build(), [])


def test_rare_classes_one_slip_from_a_frequent_one_are_told() -> None:
    train = of_classes({"WBC": 30, "WCB": 0, "RBC": 1, "cells": 40, "cell": 1, "s1": 1, "s10": 40, "dog": 20, "god": 9})
    val = of_classes({"WBC": 1, "WCB": 1, "RBC": 0, "cells": 0, "cell": 1, "s1": 0, "s10": 0, "dog": 0, "god": 0})
    found = misspelt_classes({"train": train.annotations, "val": val.annotations})
    assert sorted(str(fault) for fault in found) == [
        "WCB.png: class 'WCB' has 1 object in all; misspelt for 'WBC'?",
        "cell.png: class 'cell' has 2 objects in all; misspelt for 'cells'?",
    ]
    assert {fault.kind for fault in found} == {"warning"}


@pytest.mark.parametrize("decode", [True, False])
def test_pictures_are_read_or_their_headers(decode: bool, tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {name: [] for name in ("good", "other", "cut", "empty", "turned", "grey")})
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("good\nother\ncut\nempty\nturned\ngrey")
    for name in ("turned", "grey"):
        text = (tmp_path / f"Annotations/{name}.xml").read_text()
        (tmp_path / f"Annotations/{name}.xml").write_text(text.replace("<height>64", "<height>32"))
    pictures = tmp_path / "JPEGImages"
    Image.new("RGB", (60, 64)).save(pictures / "other.png")
    (pictures / "cut.png").write_bytes((pictures / "good.png").read_bytes()[:1000])
    (pictures / "empty.png").write_bytes(b"")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 64)).save(pictures / "turned.png", exif=exif)
    Image.new("L", (64, 32)).save(pictures / "grey.png")
    data, faults = read_voc(tmp_path, "train")
    assert not faults
    seen: list[int] = []
    found = {fault.file: fault.what for fault in check_pictures(data, decode, lambda: seen.append(1))}
    assert len(seen) == 6
    assert set(found) == {"other.png", "empty.png", "cut.png"} if decode else {"other.png", "empty.png"}
    assert found["other.png"] == "60 x 64 pixels, but its annotations say 64 x 64"
    assert check_pictures(made(), decode=False) == []


def test_repeated_pictures_are_told(tmp_path: Path) -> None:
    write_voc_folder(tmp_path, {name: [] for name in "abcd"})
    (tmp_path / "JPEGImages/d.png").write_bytes((tmp_path / "JPEGImages/a.png").read_bytes())
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for split, stems in (("train", "a\nb"), ("val", "b\nc\nd")):
        (tmp_path / "ImageSets/Main" / f"{split}.txt").write_text(stems)
    splits = {split: read_voc(tmp_path, split)[0] for split in ("train", "val")}
    assert sorted(str(fault) for fault in repeated_pictures(splits)) == [
        "b.png: in val is the same picture as b.png in train",
        "d.png: in val is the same picture as a.png in train",
    ]
    assert repeated_pictures({"train": made()}) == []


def test_the_command_checks_splits_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path, limit=2)
    arguments = ["--dataset", f"voc:{tmp_path}", "--split", "train", "val", "test", "--masks"]
    assert check.main(arguments) == 0
    text = capsys.readouterr().out
    assert text.count("images            2, ") == 3
    assert text.count("masks  ") == 3
    assert ["objects", "of", "train", "val", "test"] in [line.split() for line in text.splitlines()]
    (tmp_path / "SegmentationObject/val_000001.png").unlink()
    assert check.main([*arguments, "--no-decode", "--quiet"]) == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "file  Annotations/val_000001.xml: masks are asked for, but SegmentationObject/val_000001.png: no such file",
        "left out: 0 objects; to be mended: 1 file; 0 likely mistakes",
    ]


def test_the_command_tells_of_made_splits_and_missing_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc_folder(tmp_path / "v", {f"p{n}": [("cat", (5, 5, 40, 45))] for n in range(20)})
    assert check.main(["--dataset", f"voc:{tmp_path / 'v'}"]) == 0
    assert capsys.readouterr().out.count("(made: the data has no splits)") == 2
    assert check.main(["--dataset", "coco", "--data-dir", str(tmp_path)]) == 1
    assert f"COCO 2017 is not in {tmp_path}: expected coco with" in capsys.readouterr().err
    assert check.main(["--dataset", "digits", "--download"]) == 1
    assert "digits has no public address" in capsys.readouterr().err


def test_what_is_used_is_checked_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("shortcut").propagate = True
    folder = write_voc_folder(tmp_path, {f"p{n}": [("cat", (5, 5, 40, 45)), ("cat", (5, 5, 5, 5))] for n in range(20)})
    assert len(read_checked(f"voc:{folder}", "train").annotations.objects.labels) > 9
    assert "objects left out, the first: Annotations/p1.xml:1: cat: box (5, 5, 5, 5) has no area" in caplog.text
    for number in range(20):
        Image.new("RGB", (60, 64)).save(folder / f"JPEGImages/p{number}.png")
    with pytest.raises(InputError, match=r"p1.png: 60 x 64 pixels, but its annotations say 64 x 64, and .* more; list"):
        read_checked(f"voc:{folder}", "train")


def test_a_folder_of_files_as_they_come_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = [("Cell", (2.0, 2.0, 30.0, 30.0)), ("cell", (5.0, 5.0, 70.0, 30.0))]
    write_voc_folder(tmp_path, {f"{number}": objects for number in range(12)})
    (tmp_path / "JPEGImages/3.png").write_bytes(b"")
    (tmp_path / "Annotations/5.xml").unlink()
    assert check.main(["--dataset", f"voc:{tmp_path}"]) == 1
    told = capsys.readouterr()
    assert told.out.count("differ by case only") == 1
    assert told.out.count("JPEGImages/5.png: no XML file; 1 picture without one will not be used") == 1
    assert told.out.count("cell: box (5, 5, 70, 30) reaches outside the image of 64 x 64 pixels; cut there") == 11
    assert "must be mended or removed (a picture with its annotations)" in told.err
