"""The table of formats that are recognised by their tensors' names. A new one is one more file and one more row."""

from __future__ import annotations

from collections.abc import Collection

from backbones.weights.formats.caffe2_layout import CAFFE2
from backbones.weights.formats.cifar_layout import CIFAR
from backbones.weights.formats.contract import Format
from backbones.weights.formats.detectron2_layout import DETECTRON2
from backbones.weights.formats.timm_layout import TIMM_VGG
from backbones.weights.formats.torchvision_layout import TORCHVISION_LAYOUT

FORMATS = (CAFFE2, DETECTRON2, CIFAR, TIMM_VGG, TORCHVISION_LAYOUT)
"""The first that recognises a file converts it: torchvision's test is the widest and comes last."""


def find_format(names: Collection[str]) -> Format | None:
    """The format of a file with these tensors; None where nobody knows them."""
    return next((row for row in FORMATS if row.recognises(names)), None)
