"""Reading, resizing and padding pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backbones.convention import IMAGENET, InputConvention
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import (
    center_crop,
    fit_size,
    padded_size,
    picture_list,
    read_image,
    read_size,
    resize,
    stack_padded,
)

sides = st.integers(1, 5000)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int = 6, height: int = 4) -> Image.Image:
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(pixels)


@given(sides, sides, st.integers(1, 1200), st.none() | st.integers(1, 2000))
def test_fitted_sizes_keep_limits_and_aspect(height: int, width: int, shorter: int, longer: int | None) -> None:
    fitted = fit_size((height, width), shorter, longer)
    assert min(fitted) >= 1
    assert min(fitted) <= shorter + 1
    if longer is not None and min(fitted) > 1:
        assert max(fitted) <= longer + 1
    if min(fitted) > 50:
        assert fitted[0] / fitted[1] == pytest.approx(height / width, rel=0.02)


def test_sizes_of_the_paper() -> None:
    assert fit_size((375, 500), 600, 1000) == (600, 800)
    assert fit_size((200, 500), 600, 1000) == (400, 1000)
    assert fit_size((480, 640), 800, 1333) == (800, 1067)


@given(sides, sides, st.sampled_from([1, 16, 32]))
def test_padding_reaches_the_next_multiple(height: int, width: int, multiple: int) -> None:
    padded = padded_size((height, width), multiple)
    for before, after in zip((height, width), padded, strict=True):
        assert after % multiple == 0
        assert 0 <= after - before < multiple


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("RGB", "BMP"), ("RGB", "WEBP"), ("1", "PNG")]
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    picture = read_image(encoded(gradient().convert(mode), kind))
    assert picture.shape == (4, 6, 3)
    assert picture.dtype == np.uint8


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert (read_image(encoded(clear)) == 255).all()
    assert (read_image(np.asarray(clear)) == 255).all()
    grey = Image.new("LA", (2, 2), (100, 255))
    assert (read_image(encoded(grey)) == 100).all()


def test_sixteen_bits_are_scaled() -> None:
    deep = Image.fromarray(np.full((2, 3), 0x8040, np.uint16))
    assert (read_image(encoded(deep)) == 0x80).all()
    assert (read_image(np.full((2, 3), 0xFF00, np.uint16)) == 0xFF).all()


@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, "PNG", exif=exif)
    turned = orientation >= 5
    assert read_image(content).shape == ((6, 4, 3) if turned else (4, 6, 3))
    if turned:
        assert read_image(content, stored_size=(4, 6)).shape == (4, 6, 3)  # annotated before rotation
    rotated = {3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1), 8: lambda a: np.rot90(a)}
    if orientation in rotated:
        assert np.array_equal(read_image(content), rotated[orientation](np.asarray(image)))


def test_header_sizes_need_no_decoding(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(encoded(gradient(), exif=exif))
    assert read_size(tmp_path / "a.png") == ((6, 4), (4, 6))
    (tmp_path / "b.png").write_bytes(encoded(gradient())[:60])
    assert read_size(tmp_path / "b.png") == ((4, 6), (4, 6))
    for name, content in (("c.png", b"text"), ("d.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_size(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_size(tmp_path / "absent.png")


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), "JPEG")
    cases = {"truncated.jpg": whole[: len(whole) // 2], "text.jpg": b"hello", "empty.jpg": b""}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match=r"absent\.jpg: no such file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(InputError, match="upload: not a"):
        read_image(b"hello", name="upload")


def test_other_formats_stay_closed() -> None:
    for kind in ("GIF", "TIFF", "ICO", "PPM"):
        with pytest.raises(InputError, match="not a JPEG"):
            read_image(encoded(gradient(), kind))


def test_huge_pictures_are_refused_before_decoding() -> None:
    bomb = encoded(Image.new("1", (12_000, 12_000)))
    assert len(bomb) < 100_000
    with pytest.raises(InputError, match="12000 x 12000 pixels, more than"):
        read_image(bomb)
    with pytest.raises(InputError, match="more than the 10"):
        read_image(gradient(), max_pixels=10)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="floating-point"):
        read_image(Image.new("F", (2, 2)))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 3)), np.zeros((2, 2, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_of_other_shapes_or_types_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        read_image(array)


def test_arrays_of_all_shapes_are_read() -> None:
    for shape in ((2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)):
        assert read_image(np.full(shape, 255, np.uint8)).shape == (2, 3, 3)


def test_resizing_is_pillows_bilinear_with_antialiasing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    expected = Image.fromarray(picture).resize((15, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(picture, (10, 15)), np.asarray(expected))
    assert resize(picture, (40, 60)) is picture


def test_batches_are_padded_at_the_bottom_and_right() -> None:
    batch = stack_padded([np.full((2, 3, 3), 7, np.uint8), np.full((4, 1, 3), 9, np.uint8)], (4, 4))
    assert batch.shape == (2, 4, 4, 3)
    assert (batch[0, :2, :3] == 7).all()
    assert batch[0].sum() == 2 * 3 * 3 * 7
    assert batch[1].sum() == 4 * 3 * 9


def test_center_crops() -> None:
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(center_crop(picture, 4), picture[1:5, 2:6])
    small = center_crop(np.full((2, 9, 3), 5, np.uint8), 4)
    assert small.shape == (4, 4, 3)
    assert (small[1:3] == 5).all()
    assert not small[0].any()


def test_classifiers_see_what_their_convention_says() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (300, 500, 3), np.uint8)
    resized = resize(picture, fit_size((300, 500), 256))
    assert np.array_equal(frame_for_classifier(picture, IMAGENET), center_crop(resized, 224))
    digit = InputConvention((0.0,) * 3, (1.0,) * 3, size=(32, 32))
    assert frame_for_classifier(picture, digit).shape == (32, 32, 3)
    free = InputConvention((0.0,) * 3, (1.0,) * 3)
    assert frame_for_classifier(picture, free) is picture


def test_a_picture_and_a_sequence_of_pictures(tmp_path: Path) -> None:
    array = np.full((128, 128, 3), 7, np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for one in (str(tmp_path / "a.jpg"), tmp_path / "a.jpg", b"bytes", Image.fromarray(array), array, array[..., 0]):
        pictures, alone = picture_list(one)
        assert alone and len(pictures) == 1 and pictures[0] is one
    assert np.array_equal(picture_list(tensor)[0][0], array)
    assert picture_list([]) == ([], False) and picture_list(()) == ([], False)
    pictures, alone = picture_list([array, tensor, "a.jpg"])
    assert not alone and len(pictures) == 3 and pictures[2] == "a.jpg"
    assert picture_list(bytearray(b"x")) == ([b"x"], True)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (None, "NoneType is no picture; predict takes a path"),
        (3, "int is no picture"),
        ({"image": b""}, "dict is no picture"),
        ([b"", None], "picture 1: NoneType is no picture"),
        ([[b""]], "picture 0: list is no picture"),
        (np.zeros((2, 8, 8, 3), np.uint8), "stack of pictures; give them as a sequence"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "stack of pictures"),
        (np.zeros((8, 8, 3), np.float32), "pixels are float32; give uint8"),
        (np.zeros((8, 8), np.uint16), "pixels are uint16; give uint8"),
        (torch.zeros(3, 8, 8), "the tensor's pixels are float32"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"the tensor's shape is \[8, 8, 3\]; give \[3, H, W\]"),
        (np.zeros((3, 8, 8), np.uint8), r"the array's shape is \[3, 8, 8\]; give \[H, W, 3\]"),
        (np.uint8(3), "uint8 is no picture"),
        (io.BytesIO(b"a file"), "BytesIO is no picture"),
        ([io.BytesIO(b"a file")], "picture 0: BytesIO is no picture"),
        (torch.zeros(3, 8, 8, dtype=torch.bfloat16), "the tensor's pixels are bfloat16"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8, device="meta"), "holds no plain pixels"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8).to_sparse(), "holds no plain pixels"),
    ],
)
def test_what_is_no_picture_gets_one_sentence(pictures: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        picture_list(pictures)
    assert "\n" not in str(caught.value)
