"""What a segmenter is made of, as data. Nothing here needs torch; it travels in the weights' metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backbones.convention import IMAGENET, InputConvention
from detection.settings import InputSettings, ModelSettings

BACKGROUND = "background"
IGNORED = 255
"""The label of pixels that no loss and no mark counts: VOC's object borders, crowds, padding."""
MOST_CLASSES = IGNORED
_INPUT = InputSettings(520, 1040)


@dataclass(frozen=True)
class SegmenterSettings(ModelSettings):
    """A whole segmenter: enough to build it again.

    Attributes:
        backbone: a name from ``list_backbones()``.
        classes: names in the order of the labels 0..K-1; 0 is the background.
        output_stride: of the backbone's last maps, reached by dilation: 8 or 16. Networks that are finer stay so.
        channels: width of the head's 3x3 convolution; 0 takes a quarter of the last map's, as torchvision does.
        dropout: before the head's last layer.
        auxiliary: a second head on the last map but one, in training only (Zhao et al. 2017, section 3.3).
        convention: pixel normalization, from the pretrained weights.
        input: the size at which the network sees an image.
        frozen_norm: batch normalization of the backbone with fixed statistics; the heads' is always trained.
        OF_TRAINING: fields that a run has from its recipe, even where it starts from another segmenter's weights.
    """

    OF_TRAINING: ClassVar = ("output_stride", "dropout", "auxiliary", "input", "frozen_norm")

    output_stride: int = 8
    channels: int = 0
    dropout: float = 0.1
    auxiliary: bool = False
    convention: InputConvention = IMAGENET
    input: InputSettings = _INPUT
    frozen_norm: bool = False
