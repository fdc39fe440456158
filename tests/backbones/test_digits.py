"""The built-in digits: fixed before any model is trained on them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from backbones.data.digits import SPLITS, digit_glyphs, digits_classification
from backbones.data.folders import read_class_names, read_folder
from backbones.data.labelled import pictures_of
from backbones.data.order import EndlessOrder
from backbones.data.painting import stroke_coverage
from backbones.errors import InputError


def test_splits_share_no_digit() -> None:
    from sklearn.datasets import load_digits

    parts = [{glyph.tobytes() for glyph in digit_glyphs(split)[0]} for split in SPLITS]
    assert sum(len(digit_glyphs(split)[0]) for split in SPLITS) == len(load_digits().images) == 1797
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    counts = np.bincount(digit_glyphs("test")[1])
    assert counts.min() >= 35
    assert counts.max() <= 37
    with pytest.raises(InputError, match="no split 'trian'"):
        digit_glyphs("trian")


def test_pictures_never_change() -> None:
    data = digits_classification("val")
    assert data.images.shape == (180, 32, 32, 3)
    assert not data.mirrored
    digest = hashlib.sha256(data.images.tobytes() + data.labels.tobytes()).hexdigest()
    assert digest[:16] == "a644d675ee7ac85a"


def test_strokes_fill_their_height() -> None:
    glyphs, _ = digit_glyphs("val")
    for glyph in glyphs[:20]:
        for height in (14, 33, 64):
            rows = np.flatnonzero((stroke_coverage(glyph, height) > 0.5).any(1))
            assert abs(rows[-1] + 1 - rows[0] - height) <= 2


def test_the_order_meets_every_image_once_an_epoch() -> None:
    order = EndlessOrder(10, seed=3)
    stream = np.concatenate([order.at(position, 4) for position in range(0, 40, 4)])
    for epoch in range(4):
        assert sorted(stream[epoch * 10 : (epoch + 1) * 10]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:20])
    assert np.array_equal(EndlessOrder(10, seed=3).at(17, 9), stream[17:26])
    assert len(set(EndlessOrder(2, seed=0).at(0, 7).tolist())) == 2


def test_trainval_is_both_parts_without_the_test_digits() -> None:
    both = digits_classification("trainval", 2)
    parts = [digits_classification(split, 2) for split in ("train", "val")]
    assert np.array_equal(both.images, np.concatenate([part.images for part in parts]))
    assert np.array_equal(both.labels, np.concatenate([part.labels for part in parts]))
    seen = {image.tobytes() for image in both.images}
    assert not seen & {image.tobytes() for image in digits_classification("test").images}


def test_folders_of_classes_are_read(tmp_path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    (tmp_path / "empty").mkdir()
    data = read_folder(tmp_path)
    assert (data.classes, data.labels.tolist()) == (("cat", "dog", "empty"), [0, 1])
    assert read_folder(tmp_path, ("dog", "cow", "cat")).labels.tolist() == [2, 0]
    assert len(list(pictures_of(data))) == 2
    with pytest.raises(InputError, match="no class 'cat'"):
        read_folder(tmp_path, ("dog",))
    with pytest.raises(InputError, match="no pictures"):
        read_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "absent")


def test_class_lists_are_read(tmp_path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n\n")
    assert read_class_names(file) == ("n01440764", "n01443537")
    file.write_text("traffic light\ncat\n")
    assert read_class_names(file) == ("traffic light", "cat")
    file.write_text("cat\ncat\n")
    with pytest.raises(InputError, match="'cat' occurs twice"):
        read_class_names(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_class_names(tmp_path / "absent.txt")
