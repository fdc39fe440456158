"""Weights that others publish under a public address, by the name of the network they fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

from backbones.data.download import download
from backbones.errors import InputError
from backbones.running.atomic_write import write_text

TORCHVISION = {
    "resnet18": "ResNet18_Weights",
    "resnet34": "ResNet34_Weights",
    "resnet50_v15": "ResNet50_Weights",
    "resnet101_v15": "ResNet101_Weights",
    "resnet152_v15": "ResNet152_Weights",
    "vgg16": "VGG16_Weights",
    "vgg19": "VGG19_Weights",
}
"""Networks with the same layers as torchvision's. The first published weights are meant (``IMAGENET1K_V1``):
detectors trained on them are what the field's tables report."""

MSRA = {"resnet50": "R-50.pkl", "resnet101": "R-101.pkl"}
"""The paper's own networks, as their authors released them and detectron2 hands them on."""
_MSRA_ADDRESS = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/"

OWNERS = {"torchvision": TORCHVISION, "msra": MSRA}


def published_name(backbone: str) -> str:
    """By which name ``read_weights`` fetches the published ImageNet weights of a network: ``torchvision://resnet18``.

    Raises:
        InputError: nobody publishes weights for it.
    """
    for owner, rows in OWNERS.items():
        if backbone in rows:
            return f"{owner}://{backbone}"
    known = ", ".join(name for rows in OWNERS.values() for name in rows)
    raise InputError(
        f"no published weights are known for {backbone}; give --weights FILE, or --weights none to train from "
        f"scratch (published ones exist for {known})"
    )


def is_published_name(source: str) -> bool:
    """Whether a source begins as ``published_name`` does."""
    return source.startswith(tuple(f"{owner}://" for owner in OWNERS))


def fetch_published(name: str) -> Path:
    """The file with published ImageNet weights, downloaded once.

    torchvision's are checked by the SHA-256 that their names promise. MSRA's have no published checksum: the first
    copy's is kept beside it and holds later ones, and reading asks for every tensor.

    Args:
        name: ``torchvision://NAME`` or ``msra://NAME``; a network's name alone means the weights that there are.

    Raises:
        InputError: nobody publishes them, or they can't be fetched; the message names the file.
    """
    owner, _, backbone = (name if "://" in name else published_name(name)).partition("://")
    if backbone not in OWNERS[owner]:
        raise InputError(f"{name}: {owner} publishes no such weights; known are {', '.join(OWNERS[owner])}")
    return _fetch_msra(backbone) if owner == "msra" else _fetch_torchvision(backbone)


def _fetch_torchvision(backbone: str) -> Path:
    import torch
    from torchvision.models import get_weight

    url: str = get_weight(f"{TORCHVISION[backbone]}.IMAGENET1K_V1").url
    name = Path(urlparse(url).path).name
    target = _folder() / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = name.rsplit("-", 1)[1].removesuffix(".pth")
        try:
            torch.hub.download_url_to_file(url, str(target), prefix, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise _unreachable(name, backbone) from error
    return target


def _fetch_msra(backbone: str) -> Path:
    target = _folder() / MSRA[backbone]
    note = target.with_name(target.name + ".sha256")
    if not target.exists():
        try:
            download(_MSRA_ADDRESS + target.name, target)
        except InputError as error:
            raise _unreachable(target.name, backbone) from error
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not note.exists():
        write_text(note, found + "\n")
    elif note.read_text(encoding="utf-8").strip() != found:
        raise InputError(f"{target}: is not what was fetched first ({note.name}); remove both to fetch it again")
    return target


def _folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _unreachable(file: str, backbone: str) -> InputError:
    return InputError(
        f"{file} (ImageNet weights for {backbone}) can't be fetched; put the file anywhere and give --weights FILE, "
        "or --weights none to train from scratch"
    )
