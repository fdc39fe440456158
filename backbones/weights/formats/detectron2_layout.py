"""detectron2's names: a backbone alone, or inside a detector, whose other tensors are left aside."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import Tensor

from backbones.convention import IMAGENET, InputConvention
from backbones.variants import StridePlacement
from backbones.weights.file_content import FileContent
from backbones.weights.formats.caffe import CAFFE_INPUT
from backbones.weights.formats.contract import BackboneWeights, Format
from backbones.weights.variant_names import name_of

_BACKBONE = re.compile(r"^(?:backbone\.bottom_up\.|backbone\.(?=stem|res)|roi_heads\.(?=res5))")
_DETECTOR = ("backbone.", "proposal_generator.", "roi_heads.", "head.", "anchor_generator.", "sem_seg_head.", "pixel_")
_REPLACED = (
    (re.compile(r"^stem\.fc\."), "fc."),  # torchvision's classifier, as detectron2's converter names it
    (re.compile(r"^linear\."), "fc."),
    (re.compile(r"^stem\.conv1\.norm\."), "stem.bn."),
    (re.compile(r"^stem\.conv1\."), "stem.conv."),
    (re.compile(r"\.shortcut\.norm\."), ".shortcut.bn."),
    (re.compile(r"\.shortcut\.(?=weight$)"), ".shortcut.conv."),
    (re.compile(r"\.conv(\d)\.norm\."), r".bn\1."),
    (re.compile(r"^res(\d)\."), r"conv\1_x."),
)


def _recognises(names: Collection[str]) -> bool:
    own = {_BACKBONE.sub("", name) for name in names}
    return {"stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv1.weight"} <= own


def _convert(content: FileContent) -> BackboneWeights:
    tensors: dict[str, Tensor] = {}
    unread = 0
    for name, tensor in content.tensors.items():
        if name.startswith(_DETECTOR) and not _BACKBONE.match(name):
            unread += 1
        else:
            tensors[_our_name(_BACKBONE.sub("", name))] = tensor
    convention, stride = _convention(content)
    return BackboneWeights(
        tensors,
        convention,
        stride if "conv2_x.0.conv3.weight" in tensors else None,
        name_of(tensors, stride),
        unread=unread,
    )


def _our_name(name: str) -> str:
    """``res3.0.shortcut.norm.bias`` -> ``conv3_x.0.shortcut.bn.bias``."""
    for pattern, replacement in _REPLACED:
        name = pattern.sub(replacement, name)
    return name


def _convention(content: FileContent) -> tuple[InputConvention, StridePlacement]:
    """Input and stride are options of detectron2 and in no file; they change together, since weights differ by them.

    The defaults are MSRA's. Files converted from torchvision name their author, and older checkpoints have the
    normalization among their tensors.
    """
    deviation = content.tensors.get("pixel_std")
    divided = deviation is not None and bool((deviation != 1).any())
    if divided or content.about.get("__author__") == "torchvision":
        return IMAGENET, "3x3"
    return CAFFE_INPUT, "1x1"


DETECTRON2 = Format("detectron2's", _recognises, _convert)
