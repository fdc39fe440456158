"""The options of ``backbones/analyze.py``: one class for each thing to analyze. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.running.command_line import OutputOptions, option
from backbones.variants import list_backbones

TABLE_1 = ("plain18", "resnet18", "plain34", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg19")
WHAT = ("complexity", "responses", "curves")


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(OutputOptions):
    """Numbers and figures of the paper's analysis; `analyze.py WHAT --help` lists the options of each."""

    what: str = option("complexity", "Table 1; Fig. 7; Figs. 1, 4 and 6", group="analysis", positional=True,
                       choices=WHAT)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComplexityOptions(AnalysisOptions):
    """Parameters and multiply-adds of the networks, beside Table 1."""

    what: str = option("complexity", "this", group="analysis", positional=True, choices=("complexity",))
    arch: tuple[str, ...] = option(TABLE_1, "networks", group="analysis", choices=list_backbones)
    size: int = option(0, "side of the square input; 0 for the paper's (224, or 32 for CIFAR networks)",
                       group="analysis")  # fmt: skip
    cross_check: bool = option(False, "count with fvcore too, which adds normalization and pooling", group="analysis")
    output: str | None = option(None, "write the numbers to this file", group="output", metavar="FILE.json")


@dataclass(frozen=True, kw_only=True)
class ResponseOptions(AnalysisOptions):
    """Fig. 7: how strongly each 3x3 layer responds, after batch normalization and before ReLU or addition."""

    what: str = option("responses", "this", group="analysis", positional=True, choices=("responses",))
    model: tuple[str, ...] = option((), "run folders, .safetensors or torchvision files", group="model")
    arch: str | None = option(None, "the network, for files that do not say", group="model")
    dataset: str = option("digits", "digits, cifar10, imagenet, folder:DIR or npz:FILE", group="data")
    data_dir: str | None = option(None, "where named sets lie (by default $DATA_DIR, or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    split: str = option("test", "which part of it", group="data")
    images: int = option(0, "how many pictures, evenly spaced over the split; 0 for all", group="data")
    batch_size: int = option(100, "pictures at once", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    output: str = option("runs/responses.png", "the plot; the numbers go to a .json beside it", group="output",
                         metavar="FILE.png")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CurveOptions(AnalysisOptions):
    """Figs. 1, 4 and 6: training error (dashed) and test error (solid) against iterations."""

    what: str = option("curves", "this", group="analysis", positional=True, choices=("curves",))
    run: tuple[str, ...] = option((), "run folders, or folders of them; seeds of one network are averaged",
                                  group="data", metavar="DIR")  # fmt: skip
    panels: str = option("kind", "by kind of network (Figs. 4 and 6), or by error (training and test, Fig. 1)",
                         group="drawing", choices=("kind", "error"))  # fmt: skip
    top: float = option(0.0, "largest error shown, in per cent; 0 for what fits the curves", group="drawing")
    output: str = option("runs/curves.png", "the plot; the end values go to a .json beside it", group="output",
                         metavar="FILE.png")  # fmt: skip
