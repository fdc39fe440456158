"""The data of a tour: CIFAR-10 as it travels, made into arrays; and tiny sets of the same layout, to rehearse with."""

from __future__ import annotations

import io
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backbones.running.atomic_write import atomic_path
from detection.data.digit_files import write_coco, write_voc

CIFAR, COCO, BCCD, WEIGHTS, PLANS = "cifar10_jpeg", "coco100", "bccd", "imagenet_weights", "plans"
_END = b"\xff\xd9"
QUALITY = 75


def unpack_cifar(data: Path, workers: int) -> str:
    """CIFAR-10's scans as ``data/cifar10_jpeg/{train,test}.npz`` below the working folder, if they are not there yet.

    A file of them has one JPEG ``header``, and of each picture the rest in ``data``, ``lengths`` bytes, without end.

    Args:
        data: has ``cifar10_jpeg/cifar10_q75_{train,test}.npz``.
        workers: processes that decode.

    Returns:
        the data set's name for ``--dataset``.
    """
    target = Path("data") / CIFAR
    for split in ("train", "test"):
        if (target / f"{split}.npz").exists():
            continue
        with np.load(data / CIFAR / f"cifar10_q75_{split}.npz", allow_pickle=False) as file:
            header, scans, labels = file["header"].tobytes(), file["data"].tobytes(), file["labels"]
            ends = file["lengths"].astype(np.int64).cumsum()
        pictures = [scans[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        if workers > 1:
            with multiprocessing.get_context("fork").Pool(workers) as pool:
                images = pool.map(partial(_decode, header), pictures, chunksize=500)
        else:
            images = [_decode(header, picture) for picture in pictures]
        with atomic_path(target / f"{split}.npz") as partial_file, partial_file.open("wb") as stream:
            np.savez(stream, images=np.stack(images), labels=labels)
    return f"npz:{target}"


def _decode(header: bytes, scan: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(header + scan + _END)).convert("RGB"))


def weights_file(data: Path) -> str:
    """ImageNet's ResNet-50, as ``--weights`` takes it."""
    return str(next((data / WEIGHTS).glob("resnet50*.pth.xz")))


def rehearsal_data(given: Path | None, folder: Path) -> Path:
    """A folder with links to the sets that are given, and tiny ones in place of the others.

    Nothing is written where the real sets lie, since a later tour would take it for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CIFAR, COCO, BCCD, WEIGHTS, PLANS):
        if given is not None and (given / name).is_dir() and not (folder / name).exists():
            (folder / name).symlink_to((given / name).resolve())
    write_tiny_data(folder)
    return folder


def write_tiny_data(folder: Path) -> None:
    """Noise and built-in digits in the layouts of the real data, few; sets that are there stay."""
    if not (folder / CIFAR).exists():
        for split, count in (("train", 64), ("test", 16)):
            rng = np.random.default_rng(count)
            images, labels = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count, dtype=np.uint8) % 10
            write_scans(folder / CIFAR / f"cifar10_q75_{split}.npz", images, labels)
    if not (folder / COCO).exists():
        write_coco(folder / COCO, limit=2)
        for split in ("train", "val"):
            (folder / COCO / split).rename(folder / COCO / f"{split}2017")
            names = folder / COCO / "annotations"
            (names / f"instances_{split}.json").rename(names / f"instances_{split}2017.json")
    if not (folder / BCCD).exists():
        write_voc(folder / BCCD / "VOC2007", limit=2)
    (folder / WEIGHTS).mkdir(exist_ok=True)


def write_scans(path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Pictures [N, H, W, 3] as ``unpack_cifar`` reads them."""
    headers, scans = set(), []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=QUALITY)
        content = stream.getvalue()
        start = content.index(b"\xff\xda")
        start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        headers.add(content[:start])
        scans.append(content[start:].removesuffix(_END))
    (header,) = headers
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, header=np.frombuffer(header, np.uint8), data=np.frombuffer(b"".join(scans), np.uint8),
        lengths=np.array([len(scan) for scan in scans]), labels=labels,
    )  # fmt: skip
