#!/usr/bin/env python
"""Numbers about the networks themselves: parameters and multiply-adds, as in Table 1."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence
from dataclasses import dataclass

from backbones.running.command_line import CommandOptions, option, run_command
from backbones.variants import list_backbones

EXAMPLES = (
    "python backbones/analyze.py complexity",
    "python backbones/analyze.py complexity --arch resnet50 resnet50_v15 --cross-check",
)
TABLE_1 = ("plain18", "resnet18", "plain34", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg19")


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(CommandOptions):
    """What to analyze."""

    what: str = option("complexity", "complexity", group="analysis", positional=True, choices=("complexity",))
    arch: tuple[str, ...] = option(TABLE_1, "networks", group="analysis", choices=list_backbones)
    size: int = option(0, "side of the square input; 0 for the paper's (224, or 32 for CIFAR networks)",
                       group="analysis")  # fmt: skip
    cross_check: bool = option(False, "count with fvcore too, which adds normalization and pooling", group="analysis")


def run(options: AnalysisOptions) -> None:
    """Print one line for each network."""
    from backbones.building import build_backbone
    from backbones.complexity import PAPER_MULTIPLY_ADDS, count_multiply_adds, count_parameters, fvcore_multiply_adds
    from backbones.variants import VARIANTS, ResNetVariant

    print(f"{'network':<14}{'parameters':>13}{'multiply-adds':>17}{'paper':>9}" + "   fvcore" * options.cross_check)
    for name in options.arch:
        variant = VARIANTS.get(name)
        small = isinstance(variant, ResNetVariant) and variant.small_input
        network = build_backbone(name, 10 if small else 1000)
        size = options.size or (32 if small else 224)
        paper = PAPER_MULTIPLY_ADDS.get(name)
        line = f"{name:<14}{count_parameters(network):>13,}{count_multiply_adds(network, size):>17,}"
        line += f"{paper / 1e9:>7.1f}e9" if paper and size == 224 else " " * 9
        print(line + (f"   {fvcore_multiply_adds(network, size):,}" if options.cross_check else ""))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and analyze."""
    return run_command(AnalysisOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
