"""What is to be served: the model file, its name, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from deploy.runtimes import load_runtime
from deploy.runtimes.engines import choose_engine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ModelSource:
    """One exported model.

    Attributes:
        name: under which it is served.
        path: the ``.onnx`` or ``.plan`` file.
        metadata: what the export wrote.
    """

    name: str
    path: Path
    metadata: ModelMetadata


def read_sources(models: tuple[str, ...], names: tuple[str, ...], engine: str | None = None) -> list[ModelSource]:
    """The models to serve; a run folder stands for the exported file in it.

    Raises:
        InputError: a file is missing, no exported model or not for the engine; a name is taken twice or cannot be one.
    """
    if not models:
        raise InputError("give --model: exported models (.onnx or .plan)")
    if names and len(names) != len(models):
        raise InputError(f"--name: {len(names)} names for {len(models)} models")
    paths = [_file(Path(model)) for model in models]
    chosen = names or tuple(map(default_name, paths))
    for name in chosen:
        if not _NAME.fullmatch(name):
            raise InputError(f"--name {name}: letters, digits and _ . - only")
        if chosen.count(name) > 1:
            raise InputError(f"two models would be called {name}; tell them apart by --name")
    return [ModelSource(name, path, _metadata(path, engine)) for name, path in zip(chosen, paths, strict=True)]


def default_name(path: Path) -> str:
    """The file's own name, or its folder's where it is only called ``model``."""
    name = path.resolve().parent.name if path.stem == "model" else path.stem
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name) or "model"


def _file(path: Path) -> Path:
    if path.is_dir():
        if not (path / "model.onnx").is_file():
            raise InputError(f"{path}: holds no model.onnx; make one with deploy/export.py --model {path}")
        return path / "model.onnx"
    if path.suffix not in (".onnx", ".plan"):
        raise InputError(f"{path}: not an exported model (.onnx, .plan); make one with deploy/export.py --model {path}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def _metadata(path: Path, engine: str | None) -> ModelMetadata:
    if path.suffix == ".onnx":
        return load_runtime(path, engine=engine).metadata
    choose_engine(path, engine)
    from deploy.engines.plan_metadata import read_plan

    _, metadata, record = read_plan(path)  # the plan itself loads only on its own GPU
    if record.strip_weights:
        raise InputError(f"{path}: was built without weights, which no server puts back; build it with them")
    return metadata
