"""The options of ``deploy/export.py``. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.running.command_line import option
from deploy.engines.options import BuildOptions
from detection.inference_switches import Switches

FORMATS = ("onnx", "tensorrt")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
FLAVOURS = ("portable", "ops")
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ExportOptions(BuildOptions, Switches):
    """What to export, and where to; a detector's switches are built into the file."""

    model: str = option(
        "",
        "a run folder, a .safetensors file, another project's file or published name; with --format tensorrt also "
        "an exported .onnx",
        group="model",
    )
    arch: str | None = option(None, "the network, for classifier files that do not say", group="model")
    classes: str | None = option(
        None, "names in the order of the classifier, one a line, for files that do not say", group="model",
        metavar="FILE",
    )  # fmt: skip
    format: str = option("onnx", "of the exported file; tensorrt builds an engine from the ONNX file, which stays "
                         "beside it", group="export", choices=FORMATS)  # fmt: skip
    precision: str = option("fp32", "of layers with weights; boxes, scores and suppression stay fp32",
                            group="export", choices=PRECISIONS)  # fmt: skip
    flavour: str = option(
        AUTO, "of detectors: ops has NonMaxSuppression and RoiAlign, portable runs in every engine; auto is ops, and "
        "portable for TensorRT", group="export", choices=(AUTO, *FLAVOURS),
    )  # fmt: skip
    int8_style: str = option(
        "tensorrt", "tensorrt is symmetric and for every engine; cpu has unsigned activations, for ONNX Runtime",
        group="export", choices=("tensorrt", "cpu"),
    )  # fmt: skip
    proposals: int | None = option(
        None, "regions that a detector's second stage looks at", group="export", otherwise="as trained, up to 3840"
    )
    images: str | None = option(
        None, "a folder of pictures to verify and calibrate with", group="data",
        metavar="DIR", otherwise="the dataset's, or else two photographs and digit scenes",
    )  # fmt: skip
    dataset: str | None = option(
        None, "labelled data, as evaluate.py takes it: what the export may cost in AP, top-1 or mIoU is measured on it",
        group="data",
    )  # fmt: skip
    split: str | None = option(None, "which part of it", group="data",
                               otherwise="val, or all of a folder or file without parts")  # fmt: skip
    data_dir: str | None = option(None, "where named sets lie (by default $DATA_DIR or data)", group="data",
                                  metavar="DIR")  # fmt: skip
    output: str | None = option(None, "the file", group="output", otherwise="beside the weights: model.onnx, "
                                "model-int8.onnx, model-portable-fp16.onnx, ...")  # fmt: skip

    @property
    def detector_flavour(self) -> str:
        """Of a detector's file: what is asked for, or the one that is fast in the engines of the format."""
        if self.flavour != AUTO:
            return self.flavour
        return "portable" if self.format == "tensorrt" else "ops"
