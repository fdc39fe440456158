"""Uploaded files, read as if by an enemy's hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.images import Picture, Size, read_image, read_size
from demo.safety.limits import Limits

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Upload:
    """A file that a visitor sent.

    Attributes:
        path: where it lies, under the page's own folder.
        name: what the visitor called it; only letters, digits and ``._- `` of it.
    """

    path: Path
    name: str

    @classmethod
    def of(cls, path: str, name: str | None = None) -> Upload:
        """With the visitor's name for it, or the file's own."""
        return cls(Path(path), safe_name(name or Path(path).name))


@dataclass(frozen=True)
class Sent:
    """A picture that a visitor sent, as bytes of its file, since pixels would take ten times the memory.

    Attributes:
        name: for people.
        data: the file.
        size: (height, width).
    """

    name: str
    data: bytes
    size: Size

    def pixels(self, limits: Limits) -> Picture:
        """[H, W, 3] uint8 RGB.

        Raises:
            InputError: no picture in a format that is read, damaged, or of too many pixels.
        """
        return read_image(self.data, max_pixels=limits.pixels, name=self.name)


def safe_name(name: str) -> str:
    """The last part of a name, of harmless characters only: it is shown, and becomes part of a download's name."""
    last = re.split(r"[\\/]", name)[-1]
    cleaned = re.sub(r"[^\w. -]", "_", last, flags=re.ASCII).strip(". ")
    return cleaned[-_LONGEST_NAME:] or "picture"


def read_upload(upload: Upload, limits: Limits) -> Sent:
    """The bytes of one upload; its head says that it is a picture of allowed size before anything is decoded.

    Raises:
        InputError: too large, or in another format.
    """
    try:
        length = upload.path.stat().st_size
        if length > limits.file_bytes:
            raise InputError(f"{upload.name}: {length / 1e6:.1f} MB; at most {limits.file_bytes / 1e6:g} MB are taken")
        data = upload.path.read_bytes()
    except OSError as error:
        raise InputError(f"{upload.name}: is no longer here; send it again") from error
    size, _ = read_size(upload.path, max_pixels=limits.pixels, name=upload.name)
    return Sent(upload.name, data, size)


def read_uploads(uploads: Sequence[Upload], limits: Limits) -> list[Sent]:
    """Several, which together hold at most ``limits.many_pixels``.

    Raises:
        InputError: too many, too large, or one is no picture.
    """
    if len(uploads) > limits.pictures:
        raise InputError(f"{len(uploads)} pictures; at most {limits.pictures} are taken at once")
    sent = [read_upload(upload, limits) for upload in uploads]
    if sum(picture.size[0] * picture.size[1] for picture in sent) > limits.many_pixels:
        raise InputError(f"together more than {limits.many_pixels / 1e6:g} megapixels; send fewer at once")
    return sent
