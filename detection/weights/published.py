"""Detectors that others publish, by name: where they lie, and what their files do not say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from backbones.data.download import download
from backbones.errors import InputError, did_you_mean
from backbones.weights.file_content import FileContent, read_content
from backbones.weights.published import OWNERS as NETWORKS
from detection.weights.class_names import VOC
from detection.weights.contract import Facts

_NOTHING = Facts()
_TORCHVISION = "https://download.pytorch.org/models/"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"


@dataclass(frozen=True)
class Published:
    """One file.

    Attributes:
        address: where it lies.
        algorithm: of the checksum.
        checksum: its first digits, which are part of the file's name.
        facts: what the file does not say.
    """

    address: str
    algorithm: str
    checksum: str
    facts: Facts = _NOTHING


def _torchvision(file: str, norm_eps: float = 1e-5) -> Published:
    return Published(_TORCHVISION + file, "sha256", Path(file).stem.rpartition("-")[2], Facts(norm_eps=norm_eps))


def _detectron2(path: str, facts: Facts = _NOTHING) -> Published:
    """A file of its model zoo, whose name ends in the first digits of its MD5 (MODEL_ZOO.md)."""
    return Published(_DETECTRON2 + path, "md5", Path(path).stem.rpartition("_")[2], facts)


TORCHVISION = {
    # The first two were trained when frozen batch normalization added nothing to its variances.
    "fasterrcnn_resnet50_fpn": _torchvision("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", norm_eps=0.0),
    "maskrcnn_resnet50_fpn": _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", norm_eps=0.0),
    "fasterrcnn_resnet50_fpn_v2": _torchvision("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
}

_FASTER, _MASK = "COCO-Detection/", "COCO-InstanceSegmentation/"
DETECTRON2 = {
    path.split("/")[1]: _detectron2(path)
    for path in (
        f"{_FASTER}faster_rcnn_R_50_C4_1x/137257644/model_final_721ade.pkl",
        f"{_FASTER}faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl",
        f"{_FASTER}faster_rcnn_R_101_C4_3x/138204752/model_final_298dad.pkl",
        f"{_FASTER}faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl",
        f"{_FASTER}faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
        f"{_FASTER}faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl",
        f"{_MASK}mask_rcnn_R_50_C4_1x/137259246/model_final_9243eb.pkl",
        f"{_MASK}mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl",
        f"{_MASK}mask_rcnn_R_101_C4_3x/138363239/model_final_a2914c.pkl",
        f"{_MASK}mask_rcnn_R_50_FPN_1x/137260431/model_final_a54504.pkl",
        f"{_MASK}mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        f"{_MASK}mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl",
    )
} | {
    "faster_rcnn_R_50_C4": _detectron2(
        "PascalVOC-Detection/faster_rcnn_R_50_C4/142202221/model_final_b1acc2.pkl", Facts(VOC)
    )
}
SCHEMES = {"torchvision://": TORCHVISION, "detectron2://": DETECTRON2}


def find_published(source: str) -> Published | None:
    """The row that a name such as ``torchvision://maskrcnn_resnet50_fpn`` means; None for anything else.

    detectron2's names may be short (``detectron2://mask_rcnn_R_50_C4_1x``) or paths of its model zoo, with or without
    the file (``detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x``).
    """
    for scheme, rows in SCHEMES.items():
        if source.startswith(scheme):
            name = source.removeprefix(scheme).removesuffix(".yaml")
            if name in rows:
                return rows[name]
            beginning = f"{_DETECTRON2}{name}/"
            return next((row for row in rows.values() if "/" in name and f"{row.address}/".startswith(beginning)), None)
    return None


def unknown_name(source: str) -> InputError:
    """What to say of a name with a scheme by which neither a detector nor a network is known."""
    scheme = next(scheme for scheme in SCHEMES if source.startswith(scheme))
    rows = [*SCHEMES[scheme], *NETWORKS.get(scheme.removesuffix("://"), {})]
    return InputError(
        f"{source}: no model is known by this name{did_you_mean(source.removeprefix(scheme), rows)}; "
        f"known are {', '.join(rows)}"
    )


def read_published(published: Published, name: str) -> FileContent:
    """The file's content, downloaded once and held to its checksum; ``name`` is how messages call it.

    Raises:
        InputError: it can't be fetched, or is not what its name promises.
    """
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.address).name
    if not target.exists():
        download(published.address, target)
    data = target.read_bytes()
    found = hashlib.new(published.algorithm, data, usedforsecurity=False).hexdigest()
    if not found.startswith(published.checksum):
        raise InputError(
            f"{target}: its name promises {published.algorithm} {published.checksum}..., it holds {found[:8]}...; "
            f"remove it, and it is fetched again"
        )
    return replace(read_content(target, data), origin=name)


def facts_of(content: FileContent) -> Facts:
    """What is known of a file, whatever its name, if it is one of the published."""
    rows = [row for rows in SCHEMES.values() for row in rows.values() if row.facts != _NOTHING]
    found = {algorithm: content.checksum(algorithm) for algorithm in {row.algorithm for row in rows}}
    return next((row.facts for row in rows if found[row.algorithm].startswith(row.checksum)), _NOTHING)
