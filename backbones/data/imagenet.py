"""``imagenet``: ILSVRC 2012, as folders of classes or as the official tar files, unpacked or not (section 4.1)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from backbones.data.folders import read_folder
from backbones.data.labelled import LabelledPictures
from backbones.data.tar_members import TarMembers, index_tar, index_tars_in_tar
from backbones.errors import InputError

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_META = "ILSVRC2012_devkit_t12/data/meta.mat"


def read_imagenet(folder: Path, split: str, classes: tuple[str, ...] = ()) -> LabelledPictures:
    """ImageNet's ``train`` or ``val``, classes in the order of their WordNet ids.

    Either ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, or the files that image-net.org hands out: the
    training tar of tars, the validation tar, and the development kit, which holds the labels of the latter. Tars are
    read in place, through an index that is written beside them once.

    Raises:
        InputError: neither is there, or there is no such split.
    """
    if split not in ("train", "val"):
        raise InputError(f"imagenet has no split {split!r}; it has train and val (the test labels are not public)")
    if (folder / split).is_dir():
        names = classes or (read_folder(folder / "train").classes if (folder / "train").is_dir() else ())
        return read_folder(folder / split, names)
    tar = folder / (TRAIN if split == "train" else VAL)
    if not tar.is_file():
        raise InputError(f"{folder}: neither a folder {split} nor {tar.name} is there; give --data-dir")
    return _train(tar) if split == "train" else _val(tar, folder / DEVKIT)


def _train(tar: Path) -> TarMembers:
    index = index_tars_in_tar(tar)
    wnids = [name.split("/")[0].removesuffix(".tar") for name in index.names.tolist()]
    classes = tuple(sorted(set(wnids)))
    labels = {name: label for label, name in enumerate(classes)}
    return TarMembers(tar, index, np.array([labels[wnid] for wnid in wnids], np.int64), classes)


def _val(tar: Path, devkit: Path) -> TarMembers:
    index = index_tar(tar)
    classes, truth = _read_devkit(devkit)
    if len(truth) != len(index.names):
        raise InputError(f"{tar}: {len(index.names)} pictures, but {devkit.name} has {len(truth)} labels")
    order = np.argsort(index.names)  # the truth is in the order of the file names
    labels = np.empty(len(order), np.int64)
    labels[order] = truth
    return TarMembers(tar, index, labels, classes)


def _read_devkit(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """WordNet ids, sorted, and the label of every validation picture."""
    from scipy.io import loadmat

    if not path.is_file():
        raise InputError(f"{path}: is missing; it holds the labels of the validation pictures")
    try:
        with tarfile.open(path) as kit:
            texts = {name: member.read() for name in (_TRUTH, _META) if (member := kit.extractfile(name))}
    except (tarfile.TarError, KeyError, OSError) as error:
        raise InputError(f"{path}: not the development kit of ILSVRC 2012 ({error})") from error
    synsets = loadmat(io.BytesIO(texts[_META]), squeeze_me=True)["synsets"]
    wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}
    classes = tuple(sorted(wnids.values()))
    labels = {name: label for label, name in enumerate(classes)}
    ids = [int(line) for line in texts[_TRUTH].split()]
    return classes, np.array([labels[wnids[number]] for number in ids], np.int64)
