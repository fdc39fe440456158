"""Pictures inside tar files, read in place."""

from __future__ import annotations

import io
import logging
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image
from backbones.running.atomic_write import atomic_path

logger = logging.getLogger("shortcut")


@dataclass(frozen=True)
class TarIndex:
    """Where the pictures of a tar file lie.

    Attributes:
        names: [N] of the members; of a tar in the tar, ``inner.tar/member``.
        offsets, lengths: [N] in bytes.
    """

    names: NDArray[np.str_]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class TarMembers:
    """Labelled pictures of one tar file. Every process opens the file for itself.

    Attributes:
        path: the file.
        index: where the pictures lie.
        labels: [N], indices into ``classes``.
        classes: names.
    """

    path: Path
    index: TarIndex
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def picture(self, number: int) -> Picture:
        return read_image(self.content(number), name=self.name(number))

    def name(self, number: int) -> str:
        """What errors call a picture."""
        return f"{self.path}: {self.index.names[number]}"

    def content(self, number: int) -> bytes:
        """The bytes of a picture's file."""
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.index.lengths[number]), int(self.index.offsets[number]))

    def subset(self, numbers: NDArray[np.int64]) -> TarMembers:
        """Some of the pictures, in the order given."""
        old = self.index
        index = TarIndex(old.names[numbers], old.offsets[numbers], old.lengths[numbers])
        return replace(self, index=index, labels=self.labels[numbers])


def index_tar(path: Path) -> TarIndex:
    """The pictures of a tar file.

    Raises:
        InputError: it is damaged, or holds none.
    """
    return _cached(path, nested=False)


def index_tars_in_tar(path: Path) -> TarIndex:
    """The pictures of the tar files in a tar file.

    Raises:
        InputError: as for ``index_tar``.
    """
    return _cached(path, nested=True)


def _cached(path: Path, nested: bool) -> TarIndex:
    """Read the index beside the file, or make it; one that is older than the file is made again."""
    stored = path.with_suffix(".index.npz")
    if stored.is_file() and stored.stat().st_mtime >= path.stat().st_mtime:
        try:
            with np.load(stored, allow_pickle=False) as file:
                return TarIndex(file["names"], file["offsets"], file["lengths"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            logger.warning("%s: damaged, made again", stored)
    logger.info("%s: listing its pictures, once", path)
    try:
        rows = list(_nested_members(path) if nested else _members(path, 0, path.stat().st_size))
    except tarfile.TarError as error:
        raise InputError(f"{path}: not a complete tar file ({error})") from error
    if not rows:
        raise InputError(f"{path}: holds no pictures ({', '.join(SUFFIXES)})")
    names, offsets, lengths = zip(*rows, strict=True)
    index = TarIndex(np.array(names), np.array(offsets, np.int64), np.array(lengths, np.int64))
    try:
        with atomic_path(stored) as partial, partial.open("wb") as file:
            np.savez(file, names=index.names, offsets=index.offsets, lengths=index.lengths)
    except OSError:
        logger.warning("%s: can't be written; the list is made again next time", stored)
    return index


def _nested_members(path: Path) -> Iterator[tuple[str, int, int]]:
    with tarfile.open(path, "r:") as outer:
        for inner in outer:
            if inner.isfile() and inner.name.endswith(".tar"):
                for name, offset, length in _members(path, inner.offset_data, inner.size):
                    yield f"{inner.name.removeprefix('./')}/{name}", offset, length


def _members(path: Path, start: int, length: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and length of the pictures of the tar that lies at ``start`` of the file."""
    with (
        path.open("rb") as file,
        io.BufferedReader(_Window(file, start, length)) as window,
        tarfile.open(fileobj=window, mode="r:") as tar,
    ):
        for member in tar:
            if member.isfile() and member.name.lower().endswith(SUFFIXES):
                yield member.name.removeprefix("./"), start + member.offset_data, member.size


class _Window(io.RawIOBase):
    """A part of a file that looks like a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self.file, self.start, self.length, self.at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.start + self.at)
        content = self.file.read(max(0, min(len(buffer), self.length - self.at)))
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.length}[whence] + offset
        return self.at

    def tell(self) -> int:
        return self.at
