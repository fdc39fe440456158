"""What a network expects of its pixels. It travels with the weights, so that nobody has to guess it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class InputConvention:
    """How uint8 RGB pixels become the network's input: ``(pixel - mean) / std``, channel by channel.

    Attributes:
        mean, std: three numbers each, on the 0..255 scale, in the order of ``channels``.
        channels: RGB, or BGR for Caffe's networks.
        size: (height, width) that the network was trained on, where it was a fixed one; else None.
        resize: shorter side before the central crop at test time; None where pictures are not resized.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["RGB", "BGR"] = "RGB"
    size: tuple[int, int] | None = None
    resize: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputConvention:
        lists: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**lists)


IMAGENET = InputConvention(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size=(224, 224), resize=256)
"""torchvision's: RGB in [0, 1], minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)."""
