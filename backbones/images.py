"""Reading, resizing and padding pictures: the one place where pixels get their shape.

Training, evaluation, calibration, runtimes, server and page all call these functions, so a model sees in service
what it saw in training. Numpy and Pillow only. A picture is a uint8 array [H, W, 3] in RGB; sizes are
(height, width).
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from backbones.errors import InputError

Picture = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Size = tuple[int, int]
_R = TypeVar("_R")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What is decoded; Pillow's other parsers stay closed, since files may come from strangers."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 100_000_000
"""Larger pictures are refused before decoding (a small file can unpack to gigabytes)."""


def read_image(
    source: str | Path | bytes | Image.Image | NDArray[Any],
    *,
    stored_size: Size | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Picture:
    """Any picture as uint8 RGB [H, W, 3].

    EXIF orientation is applied; greyscale, palette and CMYK are converted, transparency is laid on white, 16-bit
    values are scaled to 8.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array [H, W], [H, W, 1], [H, W, 3] or
            [H, W, 4] of uint8 or uint16.
        stored_size: what an annotation file says. Where it names the size before EXIF rotation, the boxes were
            drawn on the unrotated picture, and the orientation is left alone.
        max_pixels: the limit that is checked before decoding.
        name: how errors call the picture; by default its path.

    Raises:
        InputError: not a picture, truncated, too large, or in a format that is not read.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array")
    name = name or (str(source) if isinstance(source, str | Path) else "image")
    with _explained(name):
        if isinstance(source, Image.Image):
            return _convert(source, stored_size, max_pixels, name)
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=FORMATS) as image:
            return _convert(image, stored_size, max_pixels, name)


def picture_list(images: Any) -> tuple[list[Any], bool]:
    """What a ``predict`` was given, as pictures for ``read_image``, and whether it was one alone.

    Args:
        images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3] (or grey, or with transparency), a
            uint8 tensor [3, H, W]; or a sequence of these, which may be empty.

    Raises:
        InputError: something else, a stack of pictures, or pixels that are not uint8; of a sequence with its place.
    """
    if isinstance(images, _ALONE) or _is_tensor(images):
        return [_one_picture(images, "")], True
    if not isinstance(images, Iterable) or isinstance(images, Mapping | io.IOBase):
        raise InputError(f"{type(images).__name__} is no picture; {_TAKEN}, or a sequence of these")
    return [_one_picture(image, f"picture {place}: ") for place, image in enumerate(images)], False


def name_of(image: Any, place: int) -> str:
    """How errors call a picture of a sequence: its path, or its place."""
    return str(image) if isinstance(image, str | Path) else f"picture {place}"


def check_batch_size(batch_size: Any) -> None:
    """Raises:
    InputError: so many pictures cannot be looked at at once.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size {batch_size!r}: give a whole number of at least 1")


def answered(images: Any, answer: Callable[[list[Any]], list[_R]]) -> _R | list[_R]:
    """What a ``predict`` gives: one result for one picture, a list for a sequence; ``[]`` for ``[]``.

    Args:
        images: what ``picture_list`` takes.
        answer: a result for each of a list of pictures, in their order.

    Raises:
        InputError: something is no picture.
    """
    pictures, alone = picture_list(images)
    results = answer(pictures)
    return results[0] if alone else results


_ALONE = (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)
_TAKEN = "predict takes a path, bytes, a Pillow image, a uint8 array [H, W, 3], a uint8 tensor [3, H, W]"


def _is_tensor(value: Any) -> bool:
    """Torch's, which need not be installed."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numpy")


def _one_picture(image: Any, place: str) -> Any:
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | Path | bytes | Image.Image):
        return image
    tensor = _is_tensor(image)
    if not tensor and not isinstance(image, np.ndarray):
        raise InputError(f"{place}{type(image).__name__} is no picture; {_TAKEN}")
    kind, shape = ("tensor" if tensor else "array"), list(image.shape)
    pixels = str(image.dtype).removeprefix("torch.")
    if pixels != "uint8":
        raise InputError(f"{place}the {kind}'s pixels are {pixels}; give uint8 from 0 to 255")
    if tensor and (image.is_sparse or image.is_meta):
        raise InputError(f"{place}the tensor holds no plain pixels; give a dense one")
    array = image.detach().cpu().numpy() if tensor else image
    if array.ndim == 4:
        raise InputError(f"{place}the {kind} {shape} is a stack of pictures; give them as a sequence: list(stack)")
    if tensor:
        if array.ndim != 3 or array.shape[0] != 3:
            raise InputError(f"{place}the tensor's shape is {shape}; give [3, H, W]")
        return np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(f"{place}the array's shape is {shape}; give [H, W, 3]")
    return array


def read_labels(path: str | Path, max_pixels: int = MAX_PIXELS) -> Labels:
    """A label image: a number for each pixel, as stored; a palette is for the eye and is not looked up.

    Args:
        path: a PNG, greyscale or with a palette.
        max_pixels: the limit that is checked before decoding.

    Raises:
        InputError: not a PNG, truncated, too large, or its pixels are colours.
    """
    name = str(path)
    with _explained(name, ("PNG",)), Image.open(path, formats=("PNG",)) as image:
        _check_size(image, max_pixels, name)
        if image.mode not in ("P", "L", "1"):
            raise InputError(
                f"{name}: its pixels are {image.mode}, not labels; a label image has a palette, or is grey"
            )
        return np.asarray(image).astype(np.uint8)


@contextmanager
def _explained(name: str, formats: tuple[str, ...] = FORMATS) -> Iterator[None]:
    """Whatever Pillow raises becomes an ``InputError`` that names the picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter
            yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a folder; name the pictures in it") from error
    except UnidentifiedImageError as error:
        listing = " or ".join(filter(None, (", ".join(formats[:-1]), formats[-1])))
        raise InputError(f"{name}: not a {listing} picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow's decoders raise SyntaxError and ValueError for broken files, beside OSError for truncated ones.
        raise InputError(f"{name}: cannot be decoded ({error})") from error


def read_size(path: str | Path, *, max_pixels: int | None = None, name: str | None = None) -> tuple[Size, Size]:
    """The (height, width) that ``read_image`` will give, and the one stored in the file.

    Only a PNG without EXIF ahead of its pixels is decoded for it.

    Args:
        path: the file.
        max_pixels: a limit that is checked before anything is decoded.
        name: how errors call the picture; by default its path.

    Raises:
        InputError: no such file, not a picture, or larger than the limit.
    """
    name = name or str(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if max_pixels is not None:
                _check_size(image, max_pixels, name)
            width, height = image.size
            turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: more pixels than are read ({error})") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture") from error
    return ((width, height) if turned else (height, width)), (height, width)


def fit_size(size: Size, shorter: int, longer: int | None = None) -> Size:
    """The size whose shorter side is ``shorter``, unless its longer side would exceed ``longer`` (section 4.3).

    The aspect ratio is kept up to rounding to whole pixels, halves up; no side falls below one pixel.
    """
    height, width = size
    scale = shorter / min(height, width)
    if longer is not None:
        scale = min(scale, longer / max(height, width))
    return max(1, math.floor(height * scale + 0.5)), max(1, math.floor(width * scale + 0.5))


def resize(image: Picture, size: Size) -> Picture:
    """Bilinear with antialiasing, as Pillow does it. [H, W, 3] -> [*size, 3]."""
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_nearest(values: NDArray[Any], size: Size) -> NDArray[Any]:
    """Each pixel takes the value of the nearest: for labels, which have no mean. [H, W] uint8 or float32 -> [*size]."""
    if values.shape == size:
        return values
    height, width = size
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST))


def center_crop(image: Picture, size: int) -> Picture:
    """The central square; a smaller picture is first padded with black. [H, W, 3] -> [size, size, 3]."""
    height, width = image.shape[:2]
    if min(height, width) < size:
        canvas = np.zeros((max(height, size), max(width, size), 3), np.uint8)
        top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
        canvas[top : top + height, left : left + width] = image
        image, (height, width) = canvas, canvas.shape[:2]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def padded_size(size: Size, multiple: int) -> Size:
    """``size`` rounded up so that every stride of the network divides it."""
    return (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)


def stack_padded(images: Sequence[Picture], size: Size) -> Picture:
    """Pictures in the top left corners of one batch, zeros elsewhere. [H_i, W_i, 3] -> [B, *size, 3]."""
    batch = np.zeros((len(images), *size, 3), np.uint8)
    for canvas, image in zip(batch, images, strict=True):
        canvas[: image.shape[0], : image.shape[1]] = image
    return batch


def _check_size(image: Image.Image, max_pixels: int, name: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(f"{name}: {width} x {height} pixels, more than the {max_pixels} that are read")


def _convert(image: Image.Image, stored_size: Size | None, max_pixels: int, name: str) -> Picture:
    _check_size(image, max_pixels, name)
    transposed = ImageOps.exif_transpose(image)
    if stored_size is not None and transposed.size != stored_size[::-1] and image.size == stored_size[::-1]:
        transposed = image
    image = transposed
    if image.mode.startswith("I"):  # 16-bit greyscale opens as "I;16", or as "I" from some files
        return _from_array(np.asarray(image).astype(np.uint16), name)
    if image.mode == "F":
        raise InputError(f"{name}: floating-point pixels are not read; convert the file to 8 or 16 bit")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))


def _from_array(array: NDArray[Any], name: str) -> Picture:
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"{name}: expected uint8 or uint16 of shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], "
            f"got {array.dtype} {list(array.shape)}"
        )
    if 0 in array.shape:
        raise InputError(f"{name}: the picture has no pixels")
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if array.shape[2] == 4:
        return _convert(Image.fromarray(array), None, MAX_PIXELS, name)
    return cast(Picture, array)
