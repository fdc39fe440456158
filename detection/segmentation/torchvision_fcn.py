"""torchvision's ``fcn_resnet50`` and ``fcn_resnet101`` in our terms: the same layers under other names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from backbones.convention import IMAGENET
from backbones.errors import InputError
from backbones.weights.file_content import FileContent
from backbones.weights.foreign_names import from_torchvision
from backbones.weights.variant_names import name_of
from detection.segmentation.label_images import VOC_LABELS
from detection.segmentation.settings import BACKGROUND, SegmenterSettings
from detection.weights.class_names import unknown

logger = logging.getLogger("shortcut")

_HEAD = {"classifier.0": "head.conv", "classifier.1": "head.bn", "classifier.4": "head.classes"}
_BODY, _AUXILIARY = "backbone.", "aux_classifier."


def is_segmenter(content: FileContent) -> bool:
    """Whether a file holds a segmenter, ours or torchvision's."""
    if content.metadata:
        return content.metadata.task == "segmentation"
    return {"classifier.0.weight", "classifier.4.weight", "backbone.layer1.0.conv1.weight"} <= content.tensors.keys()


def convert_torchvision(tensors: Mapping[str, Tensor], origin: str) -> tuple[SegmenterSettings, dict[str, Tensor]]:
    """torchvision's state dict in our terms: what it is, and its tensors under our names.

    Those of its auxiliary head, which only training uses, are left out.

    Args:
        tensors: by torchvision's names. With 21 classes they are taken for VOC's, as in the published weights.
        origin: where they come from, for messages.

    Raises:
        InputError: these are not the tensors of an FCN on a residual network.
    """
    body = {name.removeprefix(_BODY): tensor for name, tensor in tensors.items() if name.startswith(_BODY)}
    backbone = name_of(from_torchvision(body), "3x3") if "layer1.0.conv1.weight" in body else None
    head = tensors.get("classifier.4.weight")
    if backbone is None or head is None or "classifier.0.weight" not in tensors:
        raise InputError(
            f"{origin}: neither a segmenter of this project nor torchvision's fcn_resnet50 or fcn_resnet101"
        )
    converted = {_BODY + name: tensor for name, tensor in from_torchvision(body).items()}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer in _HEAD:
            converted[f"{_HEAD[layer]}.{kind}"] = tensor
    unread = sum(name.startswith(_AUXILIARY) for name in tensors)
    if unread:
        logger.info("%s: left out: %d tensors of the auxiliary head, which only training uses", origin, unread)
    classes = VOC_LABELS if len(head) == len(VOC_LABELS) else (BACKGROUND, *unknown(len(head) - 1).names)
    convention = replace(IMAGENET, size=None, resize=None)
    return SegmenterSettings(backbone, classes, channels=head.shape[1], convention=convention), converted
