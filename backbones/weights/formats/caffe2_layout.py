"""Caffe2's names: the residual networks that the paper's authors released, as Detectron and detectron2 start from them.

They are the paper's networks: stride in the 1x1, BGR pixels, and Caffe's max pooling; Detectron trained its detectors
with centred pooling, so their backbones have that. Batch normalization is affine (``_bn_s``, ``_bn_b``): the statistics
are multiplied in, and can't be told apart again.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from torch import Tensor

from backbones.resnet import CAFFE_POOL
from backbones.weights.file_content import FileContent
from backbones.weights.formats.caffe import CAFFE_INPUT
from backbones.weights.formats.contract import BackboneWeights, Format
from backbones.weights.variant_names import name_of

_EPS = 1e-5
_KINDS = {"w": "weight", "b": "bias"}
_LAYERS = {"branch2a": "1", "branch2b": "2", "branch2c": "3"}
_BLOCK = re.compile(r"^res([2-5])_(\d+)_(branch1|branch2[abc])_(w|bn_s|bn_b)$")
_CLASSIFIER = re.compile(r"^(?:pred|fc1000)_([wb])$")
_DETECTOR = re.compile(
    r"^(?:conv_rpn|rpn|retnet|fpn|fc6|fc7|cls_score|bbox_pred|_\[mask\]|mask|kps|conv5_mask|conv_fcn|head_)"
)


def _recognises(names: Collection[str]) -> bool:
    return "conv1_w" in names and "res2_0_branch2a_w" in names


def _convert(content: FileContent) -> BackboneWeights:
    detector = any(_DETECTOR.match(name) for name in content.tensors)
    tensors: dict[str, Tensor] = {} if detector else {CAFFE_POOL: torch.tensor(True)}
    unread = 0
    for name, tensor in content.tensors.items():
        if name.endswith("_momentum"):
            continue
        if detector and _DETECTOR.match(name):
            unread += 1
        elif name != "conv1_b":
            tensors[_our_name(name)] = tensor
    for scale in [name for name in tensors if re.search(r"bn\d?\.weight$", name)]:
        tensors.update(_statistics(scale.removesuffix("weight"), tensors[scale]))
    if "conv1_b" in content.tensors:  # the 50-layer network's: normalizing x + b is normalizing x with the mean -b
        tensors["stem.bn.running_mean"] = -content.tensors["conv1_b"]
    return BackboneWeights(tensors, CAFFE_INPUT, "1x1", name_of(tensors, "1x1"), unread=unread)


def _our_name(name: str) -> str:
    """``res2_0_branch2a_bn_s`` -> ``conv2_x.0.bn1.weight``; names that are nobody's stay as they are."""
    if name == "conv1_w":
        return "stem.conv.weight"
    if name in ("res_conv1_bn_s", "res_conv1_bn_b"):
        return "stem.bn.weight" if name.endswith("s") else "stem.bn.bias"
    if match := _CLASSIFIER.match(name):
        return f"fc.{_KINDS[match[1]]}"
    if not (match := _BLOCK.match(name)):
        return name
    stage, block, branch, kind = match.groups()
    number = _LAYERS.get(branch, "")
    layer = "conv" if kind == "w" else "bn"
    layer = f"shortcut.{layer}" if branch == "branch1" else f"{layer}{number}"
    return f"conv{stage}_x.{block}.{layer}.{'bias' if kind == 'bn_b' else 'weight'}"


def _statistics(prefix: str, scale: Tensor) -> dict[str, Tensor]:
    """Those with which ``(x - mean) / sqrt(var + eps) * scale`` is ``x * scale`` to the last bit."""
    return {
        f"{prefix}running_mean": torch.zeros_like(scale),
        f"{prefix}running_var": torch.full_like(scale, 1 - _EPS),
    }


CAFFE2 = Format("MSRA's in Caffe2's names", _recognises, _convert)
