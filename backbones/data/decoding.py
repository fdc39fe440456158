"""Files to pixels at the speed that training needs; bit for bit what ``read_image`` gives."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

from backbones.images import Picture, read_image

_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\x00\x00"
_HEADERS = 1 << 16


def decode(content: bytes, name: str) -> Picture:
    """The picture in the bytes of a file. [H, W, 3] uint8 RGB.

    Plain colour JPEGs go straight to libjpeg-turbo where ``simplejpeg`` is installed, which saves a copy and
    Pillow's bookkeeping; all others, and those with EXIF data, to ``read_image``.

    Raises:
        InputError: not a picture, or not a whole one.
    """
    library = _simplejpeg()
    if library is not None and content.startswith(_JPEG) and _EXIF not in content[:_HEADERS]:
        try:
            colours = library.decode_jpeg_header(content)[2]
            if colours == "YCbCr" and content.rstrip(b"\x00").endswith(b"\xff\xd9"):
                return np.asarray(library.decode_jpeg(content, "RGB"))
        except ValueError:
            pass  # read_image knows the formats that remain, and says what is wrong with the file
    return read_image(content, name=name)


@cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    module: ModuleType = simplejpeg
    return module
