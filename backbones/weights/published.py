"""Weights that others publish under a public address, by the name of the network they fit."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

from backbones.errors import InputError

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


def fetch_published(backbone: str) -> Path:
    """The file with published ImageNet weights for a network, downloaded once and checked by its SHA-256.

    Raises:
        InputError: nobody publishes weights for it, or they can't be fetched; the message names the file.
    """
    if backbone not in TORCHVISION:
        raise InputError(
            f"no published weights are known for {backbone}; give --weights FILE, or --weights none to train from "
            f"scratch (published ones exist for {', '.join(TORCHVISION)})"
        )
    import torch
    from torchvision.models import get_weight

    url: str = get_weight(f"{TORCHVISION[backbone]}.IMAGENET1K_V1").url
    name = Path(urlparse(url).path).name
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = name.rsplit("-", 1)[1].removesuffix(".pth")
        try:
            torch.hub.download_url_to_file(url, str(target), prefix, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(
                f"{name} (ImageNet weights for {backbone}) can't be fetched; put the file anywhere and give "
                f"--weights FILE, or --weights none to train from scratch"
            ) from error
    return target
