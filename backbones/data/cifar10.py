"""``cifar10``: the original archive, read as it is, checked by its MD5 (section 4.2)."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.arrays import LabelledImages
from backbones.data.download import download
from backbones.data.splits import hold_out
from backbones.errors import InputError
from backbones.pickled_arrays import read_pickled_arrays

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ADDRESS = "https://www.cs.toronto.edu/~kriz"
HELD_OUT = 5_000
"""Section 4.2 chooses its schedule on 45k training and 5k validation images."""


@dataclass(frozen=True)
class Archive:
    """One of the two forms that CIFAR-10 is published in."""

    name: str
    md5: str
    train: tuple[str, ...]
    test: str


BINARY = Archive(
    "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530",
    tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "cifar-10-batches-bin/test_batch.bin",
)  # fmt: skip
PYTHON = Archive(
    "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
    tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
    "cifar-10-batches-py/test_batch",
)  # fmt: skip


def read_cifar10(folder: Path, split: str, fetch: bool = False) -> LabelledImages:
    """CIFAR-10 from ``cifar-10-binary.tar.gz`` or ``cifar-10-python.tar.gz`` in a folder.

    Args:
        folder: where the archive lies.
        split: ``train`` (45k), ``val`` (5k), ``trainval`` (50k) or ``test`` (10k).
        fetch: download the archive if it is not there.

    Raises:
        InputError: the archive is missing or is not the published one, or there is no such split.
    """
    if split not in ("train", "val", "trainval", "test"):
        raise InputError(f"cifar10 has no split {split!r}; it has train (45k), val (5k), trainval (50k) and test")
    archive = _find(folder, fetch)
    names = (archive.test,) if split == "test" else archive.train
    images, labels = _read(folder / archive.name, archive, names)
    data = LabelledImages(images, labels, CLASSES)
    if split in ("trainval", "test"):
        return data
    train, val = hold_out(len(labels), len(labels) * HELD_OUT // 50_000)
    return data.subset(train if split == "train" else val)


def _find(folder: Path, fetch: bool) -> Archive:
    found = next((archive for archive in (BINARY, PYTHON) if (folder / archive.name).is_file()), None)
    if found is None and fetch:
        download(f"{ADDRESS}/{BINARY.name}", folder / BINARY.name)
        found = BINARY
    if found is None:
        raise InputError(
            f"{folder}: neither {BINARY.name} nor {PYTHON.name} is there; put one there (from {ADDRESS}/), "
            "give --data-dir, or give --download"
        )
    with (folder / found.name).open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != found.md5:
        raise InputError(
            f"{folder / found.name}: MD5 {digest}, the published archive has {found.md5}; it is damaged or altered"
        )
    return found


def _read(path: Path, archive: Archive, names: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = [], []
    with tarfile.open(path, "r:gz") as tar:
        for name in names:
            member = tar.extractfile(name)
            assert member is not None
            pixels, numbers = _parse_binary(member.read()) if archive is BINARY else _parse_python(member.read(), name)
            images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(numbers)
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels).astype(np.int64)


def _parse_binary(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Rows of one label and 3,072 pixels, channel by channel."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3072)
    return rows[:, 1:], rows[:, 0]


def _parse_python(content: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = read_pickled_arrays(io.BytesIO(content), encoding="bytes", name=name)
    return batch[b"data"], np.array(batch[b"labels"], np.int64)
