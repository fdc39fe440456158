"""torchvision's ResNet and VGG, and timm's ResNet, which has the same names and the same stride placement."""

from __future__ import annotations

from backbones.convention import IMAGENET
from backbones.variants import StridePlacement
from backbones.weights.file_content import FileContent
from backbones.weights.foreign_names import from_torchvision, is_torchvision
from backbones.weights.formats.contract import BackboneWeights, Format


def _convert(content: FileContent) -> BackboneWeights:
    stride: StridePlacement | None = "3x3" if "layer1.0.conv3.weight" in content.tensors else None
    return BackboneWeights(from_torchvision(content.tensors), IMAGENET, stride)


TORCHVISION_LAYOUT = Format("torchvision's", is_torchvision, _convert)
