"""Model repositories: written whole or not at all, and served only as they were written.

Triton runs whatever Python a repository holds, and no sandbox is around it: so only what ``deploy/repository.py`` wrote
is served, with no other Python in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from backbones.metadata import CALLED, ModelMetadata
from backbones.running.atomic_write import PARTIAL
from backbones.running.command_line import flag_of
from backbones.running.outputs import Outputs
from backbones.running.progress import start_logging
from deploy.engines.binding import RTX
from deploy.engines.building import check_flavour
from deploy.engines.plan_metadata import read_plan, sidecar_of
from deploy.runtimes import load_runtime
from deploy.runtimes.engines import choose_engine
from deploy.serving.configuration import CONFIG, PARAMETERS, as_text, configure, configure_graph, from_text, texts_of
from deploy.serving.installation import PROJECT
from deploy.serving.options import ServiceOptions
from deploy.serving.service import ABOUT, MODEL_FILES, About

if TYPE_CHECKING:
    from deploy.repository import RepositoryOptions

logger = logging.getLogger("shortcut")

PYTHON = "model.py"
TEXT = f'''"""Written by deploy/repository.py: what to run stands in config.pbtxt and in the files beside this one."""

import os
import sys

sys.path[:0] = filter(None, [os.environ.get("{PROJECT}")])  # the code that serves, before one that is installed
from deploy.serving.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
"""The only Python file that a served repository may hold."""
_SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()
_PARAMETERS = {*PARAMETERS, "task", "classes", "score_thresholds", "category_ids"}
_FILES = {PYTHON, ABOUT, *MODEL_FILES, "model.plan.json"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBERS = {"max_batch_size": 1, "instances": 1, "threads": 0, "queue_delay": 0, "max_pixels": 1}
"""Options that are numbers, and the least that each may be."""


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
    _, metadata, record = read_plan(path)  # the plan itself loads only on its own GPU
    if record.strip_weights:
        raise InputError(f"{path}: was built without weights, which no server puts back; build it with them")
    return metadata


def write(options: RepositoryOptions) -> Path:
    """Write the repository that the options ask for (``deploy/repository.py``).

    Raises:
        InputError: a model cannot be read or served, or the folder holds something else.
    """
    start_logging(options.quiet)
    if not options.output:
        raise InputError("give --output: the folder to write")
    target = Path(options.output)
    sources = read_sources(options.model, options.name, options.engine)
    if options.version < 1:
        raise InputError(f"--version {options.version}: at least 1")
    if options.plans == "tensorrt":
        for source in sources:
            if source.path.suffix == ".onnx":
                check_flavour(source.path, source.metadata)
    write_repository(sources, target, options, options.version, native=options.plans != "python")
    for source in sources:
        logger.info("%s: %s, version %d of %s", target, source.name, options.version, source.path)
    return target


def write_repository(
    sources: list[ModelSource], target: Path, options: ServiceOptions, version: int = 1, native: bool = False
) -> None:
    """Write models into a repository. Other models and versions that lie there stay.

    All is first written beside ``target`` and then takes its place.

    Args:
        sources: the models.
        target: the repository's folder.
        options: how to serve them.
        version: of the models; Triton serves the latest.
        native: a ``.plan`` runs in Triton's own TensorRT backend, not in our runtime.

    Raises:
        InputError: a number is out of its range, a model cannot be served, or the folder holds something else.
    """
    for name, least in _NUMBERS.items():
        if getattr(options, name) < least:
            raise InputError(f"{flag_of(name)} {getattr(options, name)}: at least {least}")
    Outputs().folder("--output", target)
    target = target.resolve()  # a link stays one
    if target.exists() and any(target.iterdir()):
        _check_tasks(sources, check_repository(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", suffix=PARTIAL, dir=target.parent) as folder:
        draft = Path(folder) / "new"
        if target.exists():
            shutil.copytree(target, draft, copy_function=_link)
        draft.mkdir(exist_ok=True)
        for source in sources:
            _write_model(source, draft, options, version, native and source.path.suffix == ".plan")
        _exchange(draft, target)


def _check_tasks(sources: list[ModelSource], configs: Mapping[str, protobuf.ModelConfig]) -> None:
    """Raises:
    InputError: a source would make another task of a model, whose versions share one configuration.
    """
    for source in sources:
        task = About.from_texts(texts_of(configs[source.name])).task if source.name in configs else source.metadata.task
        if task != source.metadata.task:
            raise InputError(
                f"{source.path}: is {source.metadata.called}, but {source.name} of this repository is {CALLED[task]}; "
                "give another --name"
            )


def _write_model(source: ModelSource, repository: Path, options: ServiceOptions, version: int, native: bool) -> None:
    metadata, profiles = source.metadata, []
    if native:
        assert metadata.exported is not None and metadata.exported.engine is not None
        if metadata.exported.engine["library"] == RTX:
            raise InputError(f"{source.path}: Triton's own backend runs no TensorRT-RTX engines; --plans python does")
        profiles = metadata.exported.engine["profiles"]
        most = [int(profile["max"]["images"][0]) for profile in profiles]  # no larger batch than the plan takes
        options = replace(options, max_batch_size=min([options.max_batch_size, *most]))
    folder = _write_folder(repository, configure(source.name, metadata, options), version)
    (folder / PYTHON).write_text(TEXT, encoding="utf-8")
    if native:
        (folder / ABOUT).write_text(json.dumps(metadata.to_dict(), indent=2) + "\n", encoding="utf-8")
        folder = _write_folder(repository, configure_graph(source.name, metadata, options, len(profiles)), version)
    elif (graph := repository / f"{source.name}_graph").is_dir() and _read_config(graph).platform:
        shutil.rmtree(graph)  # the plan that an earlier version asked
    file = folder / f"model{source.path.suffix}"
    shutil.copyfile(source.path, file)
    if source.path.suffix == ".plan":
        shutil.copyfile(sidecar_of(source.path), sidecar_of(file))


def _write_folder(repository: Path, config: protobuf.ModelConfig, version: int) -> Path:
    folder: Path = repository / config.name / str(version)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder.parent / CONFIG
    path.unlink(missing_ok=True)  # it may be a link to the old repository's file
    path.write_text(as_text(config), encoding="utf-8")
    return folder


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _exchange(draft: Path, target: Path) -> None:
    """Put ``draft`` in the place of ``target``, and that in the draft's folder; it is away only between two renames."""
    if target.exists():
        target.rename(draft.with_name("old"))
    draft.rename(target)


def check_repository(repository: Path) -> dict[str, protobuf.ModelConfig]:
    """The configurations of a repository's models, by name.

    Compiled Python in it is removed: it would be run in the place of the ``model.py`` that is checked here.

    Raises:
        InputError: it holds something that the generator does not write; the message names it. Of a repository that an
            earlier version wrote, the message is the command that writes it anew.
    """
    if not repository.is_dir():
        raise InputError(f"{repository}: no such folder; deploy/repository.py makes one")
    folders = sorted(repository.iterdir())
    for folder in folders:
        if not folder.is_dir() or folder.is_symlink():
            raise _foreign(folder)
    configs = {folder.name: _read_config(folder) for folder in folders}
    if not configs:
        raise InputError(f"{repository}: no models in it; deploy/repository.py writes them")
    if any(config.platform == "ensemble" for config in configs.values()):
        command = _command_anew(repository, configs)
        raise InputError(f"{repository}: an earlier version wrote it, with four folders for a model; anew: {command}")
    for folder in folders:
        _check_model(folder, configs[folder.name])
    return configs


def latest_version(folder: Path) -> Path:
    """The version of a model that is served."""
    versions = sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    return versions[-1] if versions else folder / "1"


def _read_config(folder: Path) -> protobuf.ModelConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: has no {CONFIG}; deploy/repository.py writes one")
    return from_text(path.read_text(encoding="utf-8"), path)


def _check_model(folder: Path, config: protobuf.ModelConfig) -> None:
    path = folder / CONFIG
    if config.name != folder.name:
        raise InputError(f"{path}: is of a model called {config.name!r}")
    kind = config.backend or config.platform
    if kind not in ("python", "tensorrt_plan") or (config.backend and config.platform):
        raise InputError(f"{path}: backend {kind!r} is none that deploy/repository.py writes")
    foreign = set(config.parameters) - _PARAMETERS
    if foreign or (kind == "python" and config.default_model_filename):
        raise InputError(f"{path}: {min(foreign, default='default_model_filename')} is nothing that is served")
    if kind == "python" and not {"task", "classes", "threads", "hint", "max_pixels"} <= set(config.parameters):
        raise InputError(f"{path}: says not what is served; deploy/repository.py writes it")
    versions = [entry for entry in folder.iterdir() if entry != path]
    for version in versions:
        if not (version.is_dir() and version.name.isdigit()) or version.is_symlink():
            raise _foreign(version)
        _check_files(version)
    if not versions:
        raise InputError(f"{folder}: has no version; write the repository again")


def _check_files(version: Path) -> None:
    for file in version.iterdir():
        if file.name == "__pycache__" and file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
            continue
        if file.name not in _FILES or not file.is_file() or file.is_symlink():
            raise _foreign(file)
        if file.name == PYTHON and hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
            raise InputError(
                f"{file}: is not what this version of deploy/repository.py writes, so it is not run; write it again"
            )


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: deploy/repository.py writes no such thing, so this repository is not served")


def _command_anew(repository: Path, configs: Mapping[str, protobuf.ModelConfig]) -> str:
    """What writes the models of a repository of the old form again, in a new folder, to be served in the same way."""
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, config in configs.items():
        if config.platform == "ensemble" and f"{name}_graph" in configs:
            version = latest_version(repository / f"{name}_graph")
            file = next((version / file for file in MODEL_FILES if (version / file).exists()), version / MODEL_FILES[0])
            given = [] if version.name == "1" else ["--version", version.name]
            given += _old_flags(configs[f"{name}_graph"], configs.get(f"{name}_picture"), file.suffix == ".plan")
            groups.setdefault(tuple(given), []).append((name, str(file)))
    commands = []
    for flags, models in groups.items():
        words = ["python", "deploy/repository.py", "--model", *(file for _, file in models)]
        words += ["--name", *(name for name, _ in models), *flags, "--output", f"{repository}-new"]
        commands.append(shlex.join(words))
    return " && ".join(commands)


def _old_flags(graph: protobuf.ModelConfig, picture: protobuf.ModelConfig | None, plan: bool) -> list[str]:
    usual = ServiceOptions()
    given = texts_of(graph) | ({} if picture is None else texts_of(picture))
    old = {
        "max_batch_size": graph.max_batch_size, "instances": graph.instance_group[0].count,
        "threads": int(given.get("threads", usual.threads)), "hint": given.get("hint", usual.hint),
        "queue_delay": graph.dynamic_batching.max_queue_delay_microseconds,
        "max_pixels": int(given.get("max_pixels", usual.max_pixels)),
    }  # fmt: skip
    flags = ["--plans", "python"] if plan and not graph.platform else []
    for name, value in old.items():
        if value != getattr(usual, name):
            flags += [flag_of(name), str(value)]
    return flags
