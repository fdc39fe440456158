"""Which models the page offers: those that are named, else the newest run of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backbones.errors import InputError
from backbones.running.run_folder import WEIGHTS
from backbones.weights.model_file import read_metadata
from deploy.engines.onnx_metadata import read_onnx_metadata

EXPORTED = "model.onnx"
HOW_TO_MAKE_ONE = (
    "no model in runs/: `make quickstart` trains a small one in minutes; for photographs, `python detection/convert.py "
    "--weights torchvision://maskrcnn_resnet50_fpn --output coco.safetensors` fetches torchvision's weights, and "
    "`python demo/app.py --detector coco.safetensors --classifier torchvision://resnet18` shows them"
)


@dataclass(frozen=True)
class Named:
    """A model and how the page calls it.

    Attributes:
        name: short, and unlike any other's.
        source: a file, folder, published name, or address.
    """

    name: str
    source: str


def find_offer(named: Mapping[str, Sequence[str]], runs: Path = Path("runs")) -> dict[str, tuple[Named, ...]]:
    """The models that are named for each task; without any, the newest of each among the runs.

    Raises:
        InputError: none is named, and there are no runs; the message says how to make one.
    """
    if any(named.values()):
        return {task: name_all(sources) for task, sources in named.items()}
    newest = newest_by_task(runs)
    if not newest:
        raise InputError(HOW_TO_MAKE_ONE)
    return {task: name_all([str(newest[task])] if task in newest else []) for task in named}


def newest_by_task(runs: Path) -> dict[str, Path]:
    """The newest model of each task: a run's exported file, unless its weights are newer."""
    found = [(path.stat().st_mtime, path) for path in _model_files(runs)]
    newest: dict[str, Path] = {}
    for _, path in sorted(found):
        task = read_task(path)
        if task is not None:
            newest[task] = path
    return newest


def read_task(path: Path) -> str | None:
    """What a model file is for, by its metadata alone; None where it does not say. Needs no torch."""
    try:
        if path.suffix == ".onnx":
            return read_onnx_metadata(path).task
        return read_metadata(path).task
    except InputError:
        return None


def name_all(sources: Sequence[str]) -> tuple[Named, ...]:
    """Short names: a run's folder, a file's stem, a served model's; told apart by their kind, then by a number."""
    names: list[str] = []
    for source in dict.fromkeys(sources):
        name = _short(source)
        if name in names:
            name = f"{name} ({Path(source).suffix.lstrip('.') or 'trained'})"
        number = 2
        first = name
        while name in names:
            name, number = f"{first} {number}", number + 1
        names.append(name)
    return tuple(Named(name, source) for name, source in zip(names, dict.fromkeys(sources), strict=True))


def _short(source: str) -> str:
    parts = urlsplit(source)
    if parts.scheme in ("http", "grpc"):
        return f"{parts.path.strip('/') or 'model'} at {parts.netloc}"
    if "://" in source:
        return source.partition("://")[2]
    path = Path(source)
    stem = path.stem if path.suffix else path.name
    return path.resolve().parent.name if stem == "model" else stem


def _model_files(runs: Path) -> Iterator[Path]:
    for weights in [*runs.glob(f"*/{WEIGHTS}"), *runs.glob(f"*/*/{WEIGHTS}")]:
        exported = weights.with_name(EXPORTED)
        newer = exported.is_file() and exported.stat().st_mtime >= weights.stat().st_mtime
        yield exported if newer else weights
    for exported in [*runs.glob(f"*/{EXPORTED}"), *runs.glob(f"*/*/{EXPORTED}")]:
        if not exported.with_name(WEIGHTS).is_file():
            yield exported
