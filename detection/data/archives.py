"""Fetching and unpacking the archives of named sets."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from backbones.data.datasets import named_folder
from backbones.data.download import check_md5, download
from backbones.errors import InputError
from detection.data.named import COCO_YEARS, VOC_PARTS, coco_folder, voc_folder

logger = logging.getLogger("shortcut")


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        address: where it lies.
        md5: its checksum, as torchvision (VOC) and several users of COCO state it; COCO itself publishes none.
        proof: a file, or a folder, of the set that is there once it is unpacked.
        files: how many that folder holds.
        prefix: what the names in the archive begin with above the set's own folder.
    """

    address: str
    md5: str
    proof: str
    files: int = 1
    prefix: str = ""

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def is_unpacked(self, folder: Path) -> bool:
        """Whether the set's folder holds what the archive does."""
        path = folder / self.proof
        return path.is_file() or (path.is_dir() and sum(1 for _ in path.iterdir()) >= self.files)


_COCO = "https://s3.amazonaws.com/images.cocodataset.org"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
COCO_ARCHIVES = {
    2017: (
        Archive(f"{_COCO}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c",
                "annotations/instances_train2017.json"),
        Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017", 5_000),
        Archive(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017", 118_287),
    ),
    2014: (
        Archive(f"{_COCO}/annotations/annotations_trainval2014.zip", "0a379cfc70b0e71301e0f377548639bd",
                "annotations/instances_train2014.json"),
        Archive(f"{_COCO}/zips/val2014.zip", "a3d79f5ed8d289b7a7554ce06a5782b3", "val2014", 40_504),
        Archive(f"{_COCO}/zips/train2014.zip", "0da8c0bd3d6becc4dcb32757491aca88", "train2014", 82_783),
    ),
}  # fmt: skip
VOC_ARCHIVES = {
    2007: (
        Archive(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64",
                "ImageSets/Main/trainval.txt", prefix="VOCdevkit/VOC2007/"),
        Archive(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f",
                "ImageSets/Main/test.txt", prefix="VOCdevkit/VOC2007/"),
    ),
    2012: (
        Archive(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd",
                "ImageSets/Main/trainval.txt", prefix="VOCdevkit/VOC2012/"),
    ),
}  # fmt: skip


def download_dataset(name: str, data_dir: str | Path | None = None) -> None:
    """Fetch and unpack what is missing of a named set; nothing is done for what is there.

    An archive that lies in the folder of named sets already is taken; after unpacking it is removed. Fetching goes on
    where it broke off, and unpacking begins anew.

    Args:
        name: of ``COCO_YEARS`` or ``VOC_PARTS``.
        data_dir: where named sets lie; by default ``$DATA_DIR`` or ``data``.

    Raises:
        InputError: the set has no public address, or an archive can't be fetched or unpacked, or is not the published
            one.
    """
    base = named_folder("", None if data_dir is None else os.fspath(data_dir))
    for archive, folder in _wanted(name, base):
        if archive.is_unpacked(folder):
            continue
        path = base / archive.name
        if path.is_file():
            check_md5(path, archive.md5)
        else:
            logger.info("fetching %s to %s", archive.address, path)
            download(archive.address, path, archive.md5)
        logger.info("unpacking %s to %s", path, folder)
        unpack(path, folder, archive)
        path.unlink()


def _wanted(name: str, base: Path) -> Iterator[tuple[Archive, Path]]:
    """Archives of a set, and the folder that each belongs to: where the set lies, or will."""
    if name in COCO_YEARS:
        try:
            folder = coco_folder(name, base)
        except InputError:
            folder = base / name
        yield from ((archive, folder) for archive in COCO_ARCHIVES[COCO_YEARS[name]])
        return
    if name not in VOC_PARTS:
        public = ", ".join((*COCO_YEARS, *VOC_PARTS))
        raise InputError(f"--download: {name} has no public address; those that have one: {public}")
    for year in sorted({year for parts in VOC_PARTS[name].values() for year, _ in parts}):
        try:
            folder = voc_folder(year, base)
        except InputError:
            folder = base / "VOCdevkit" / f"VOC{year}"
        yield from ((archive, folder) for archive in VOC_ARCHIVES[year])


def unpack(path: Path, folder: Path, archive: Archive) -> None:
    """Unpack beside the set's folder, then move the files in, that which proves it last.

    Raises:
        InputError: the archive is damaged, holds a link, or a name that leads out of the folder, or does not fit on the
            disk.
    """
    aside = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        names = []
        for name, content, length in _members(path):
            if not name.startswith(archive.prefix):
                continue
            target = aside / name.removeprefix(archive.prefix)
            if length > shutil.disk_usage(aside).free:
                raise InputError(f"{aside}: no space is left on the disk to unpack {path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
            names.append(name.removeprefix(archive.prefix))
        for name in sorted(names, key=lambda name: name == archive.proof):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(folder / name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path}: can't be unpacked ({error})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if not archive.is_unpacked(folder):
        raise InputError(f"{path}: unpacked, but {folder / archive.proof} is not complete; it is another archive")


def _members(path: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name, content and length of each file in an archive; every name leads to a place below."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as content:
                        yield _checked(info.filename, path), content, info.file_size
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isdir():
                continue
            inner = tar.extractfile(member) if member.isfile() else None
            if inner is None:
                raise InputError(f"{path}: {member.name} is a link or a device; not unpacked")
            yield _checked(member.name, path), inner, member.size


def _checked(name: str, path: Path) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise InputError(f"{path}: {name} leads out of the folder; not unpacked")
    return PurePosixPath(name).as_posix()
