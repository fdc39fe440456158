"""Which extra of pyproject.toml brings a module, and the one line that says so where it is missing. Imports nothing."""

from __future__ import annotations

from importlib.util import find_spec

from backbones.errors import InputError

_TRAIN, _EXPORT, _SERVE, _FAST, _BULK = "train", "export", "serve", "fast", "bulk"
MODULES: dict[str, tuple[str, str]] = {
    "torch": (_TRAIN, "training, or running a trained model,"),
    "torchvision": (_TRAIN, "a model of torchvision"),
    "pycocotools": (_TRAIN, "scoring, or masks in COCO's form,"),
    "defusedxml": (_TRAIN, "reading VOC's annotations"),
    "matplotlib": (_TRAIN, "a plot or a report"),
    "rich": (_TRAIN, "a progress bar"),
    "sklearn": (_TRAIN, "the built-in data (scikit-learn's digits and photographs)"),
    "fvcore": (_TRAIN, "--cross-check"),
    "onnx": (_EXPORT, "writing or changing an ONNX file"),
    "onnxscript": (_EXPORT, "writing an ONNX file"),
    "onnxruntime": (_EXPORT, "ONNX Runtime"),
    "openvino": (_SERVE, "running an exported model"),
    "hotcoco": (_FAST, "--eval-backend hotcoco"),
    "simplejpeg": (_FAST, "fast reading"),
    "av": ("video", "a video"),
    "tritonclient": (_SERVE, "a server or its client"),
    "aiohttp": (_SERVE, "a server or its client"),
    "google": (_SERVE, "a server or its client"),
    "gradio": ("demo", "the page"),
    "ray": (_BULK, "bulk prediction"),
    "pyarrow": (_BULK, "writing Parquet"),
    "tensorrt": ("tensorrt", "building or running an engine"),
    "tensorrt_rtx": ("tensorrt-rtx", "building or running an engine"),
    "cuda": ("tensorrt-rtx", "running an engine"),
    **dict.fromkeys(("numpy", "PIL", "yaml", "safetensors"), ("", "every command")),
}
"""By the name that is imported: the smallest extra that brings it ("" for the project itself), and what needs it."""


def install(*extras: str) -> str:
    """The command that installs extras of a checkout: ``pip install -e '.[serve]'``."""
    named = ",".join(filter(None, extras))
    return f"pip install -e '.[{named}]'" if named else "pip install -e ."


def missing(module: str, purpose: str | None = None) -> InputError:
    """What to say where a module is not installed.

    Args:
        module: a key of ``MODULES``.
        purpose: what needs it, where that is known better.
    """
    extra, usual = MODULES[module]
    return InputError(f"{purpose or usual} needs {module}, which is not installed: {install(extra)}")


def require(*modules: str, purpose: str | None = None) -> None:
    """Make sure that modules are installed, without importing them.

    Raises:
        InputError: one is not; the message names its extra.
    """
    for module in modules:
        if find_spec(module) is None:
            raise missing(module, purpose)


def explained(error: ModuleNotFoundError) -> InputError | None:
    """The same for an import that failed; None where the module is none of an extra, or is there in part."""
    module = (error.name or "").partition(".")[0]
    return missing(module) if module in MODULES and find_spec(module) is None else None
