#!/usr/bin/env python
"""The paper's analysis: parameters and multiply-adds (Table 1), layer responses (Fig. 7), curves (Figs. 1, 4, 6)."""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Sequence

from backbones.analysis.options import AnalysisOptions, ComplexityOptions, CurveOptions, ResponseOptions
from backbones.running.command_line import run_command

COMMANDS: dict[str, tuple[type[AnalysisOptions], str, tuple[str, ...]]] = {
    "complexity": (
        ComplexityOptions,
        "backbones.analysis.complexity_table:run",
        (
            "python backbones/analyze.py complexity",
            "python backbones/analyze.py complexity --arch resnet50 resnet50_v15 --cross-check",
        ),
    ),
    "responses": (
        ResponseOptions,
        "backbones.analysis.responses:run",
        ("python backbones/analyze.py responses --model runs/plain20 runs/resnet20 --dataset cifar10",),
    ),
    "curves": (
        CurveOptions,
        "backbones.analysis.curves:run",
        (
            "python backbones/analyze.py curves --run runs/plain20 runs/plain56 runs/resnet20 runs/resnet56",
            "python backbones/analyze.py curves --run runs/plain20 runs/plain56 --panels error --top 20",
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and analyze."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    what = next((word for word in arguments if word in COMMANDS), None)
    if what is None:  # help, or a misspelt word: the parser says so and exits
        examples = tuple(example for *_, listed in COMMANDS.values() for example in listed)
        return run_command(AnalysisOptions, "", description=AnalysisOptions.__doc__ or "", examples=examples, argv=argv)
    options, body, examples = COMMANDS[what]
    return run_command(options, body, description=options.__doc__ or "", examples=examples, argv=arguments)


if __name__ == "__main__":
    sys.exit(main())
