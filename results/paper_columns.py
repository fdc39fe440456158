"""The paper's own numbers, by network name: what docs/results.md prints beside the measured ones."""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLY_ADDS = {
    "plain18": 1.8, "resnet18": 1.8, "plain34": 3.6, "resnet34": 3.6, "resnet50": 3.8, "resnet101": 7.6,
    "resnet152": 11.3, "vgg16": 15.3, "vgg19": 19.6,
}  # fmt: skip
"""Table 1 and section 3.3, in 1e9. A multiply-add counts as one."""

TABLE_2 = {"plain18": 27.94, "resnet18_a": 27.88, "plain34": 28.54, "resnet34_a": 25.03}
"""Top-1 error, 10-crop, ImageNet validation."""

TABLE_3 = {
    "vgg16": (28.07, 9.33), "plain34": (28.54, 10.02), "resnet34_a": (25.03, 7.76), "resnet34": (24.52, 7.46),
    "resnet34_c": (24.19, 7.40), "resnet50": (22.85, 6.71), "resnet101": (21.75, 6.05), "resnet152": (21.43, 5.71),
}  # fmt: skip
"""Top-1 and top-5 error, 10-crop, ImageNet validation."""

TABLE_4 = {
    "resnet34": (21.84, 5.71), "resnet34_c": (21.53, 5.60), "resnet50": (20.74, 5.25), "resnet101": (19.87, 4.60),
    "resnet152": (19.38, 4.49),
}  # fmt: skip
"""Top-1 and top-5 error of single models, multi-scale, ImageNet validation."""


@dataclass(frozen=True)
class CifarRow:
    """A row of Table 6: parameters as printed, and the test error, of several runs for one network only."""

    parameters: str
    error: float
    mean: float | None = None
    deviation: float | None = None


TABLE_6 = {
    "resnet20": CifarRow("0.27M", 8.75),
    "resnet32": CifarRow("0.46M", 7.51),
    "resnet44": CifarRow("0.66M", 7.17),
    "resnet56": CifarRow("0.85M", 6.97),
    "resnet110": CifarRow("1.7M", 6.43, 6.61, 0.16),
    "resnet1202": CifarRow("19.4M", 7.93),
}
"""CIFAR-10 test error; "best (mean +- deviation)" of five runs for 110 layers."""
