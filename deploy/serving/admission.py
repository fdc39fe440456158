"""Which repositories are served: those that ``deploy/repository.py`` wrote, with no other Python in them.

Triton runs whatever Python a repository holds, and no sandbox is around it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as protobuf

from backbones.errors import InputError
from deploy.serving import model_file
from deploy.serving.configuration import CONFIG, STAGES, from_text

_PARAMETERS = {"stage", "threads", "hint", "max_pixels", "task", "classes"}
_FILES = {model_file.NAME, "about.json", "model.onnx", "model.plan", "model.plan.json", ".keep"}


def check_repository(repository: Path) -> dict[str, protobuf.ModelConfig]:
    """The configurations of a repository's models, by name.

    Compiled Python in it is removed: it would be run in the place of the ``model.py`` that is checked here.

    Raises:
        InputError: it holds something that the generator does not write; the message names it.
    """
    if not repository.is_dir():
        raise InputError(f"{repository}: no such folder; deploy/repository.py makes one")
    configs = {}
    for folder in sorted(repository.iterdir()):
        if not folder.is_dir() or folder.is_symlink():
            raise _foreign(folder)
        configs[folder.name] = _check_model(folder)
    if not configs:
        raise InputError(f"{repository}: no models in it; deploy/repository.py writes them")
    return configs


def _check_model(folder: Path) -> protobuf.ModelConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: has no {CONFIG}; deploy/repository.py writes one")
    config = from_text(path.read_text(encoding="utf-8"), path)
    if config.name != folder.name:
        raise InputError(f"{path}: is of a model called {config.name!r}")
    kind = config.backend or config.platform
    if kind not in ("python", "ensemble", "tensorrt_plan") or (config.backend and config.platform):
        raise InputError(f"{path}: backend {kind!r} is none that deploy/repository.py writes")
    foreign = set(config.parameters) - _PARAMETERS
    if foreign or (kind == "python" and config.default_model_filename):
        raise InputError(f"{path}: {min(foreign, default='default_model_filename')} is nothing that is served")
    if kind == "python" and config.parameters["stage"].string_value not in STAGES:
        raise InputError(f"{path}: has no stage; deploy/repository.py writes it")
    versions = [entry for entry in folder.iterdir() if entry != path]
    for version in versions:
        if not (version.is_dir() and version.name.isdigit()) or version.is_symlink():
            raise _foreign(version)
        _check_files(version)
    if not versions:
        raise InputError(f"{folder}: has no version; write the repository again")
    return config


def _check_files(version: Path) -> None:
    for file in version.iterdir():
        if file.name == "__pycache__" and file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
            continue
        if file.name not in _FILES or not file.is_file() or file.is_symlink():
            raise _foreign(file)
        if file.name == model_file.NAME and hashlib.sha256(file.read_bytes()).hexdigest() != model_file.SHA256:
            raise InputError(
                f"{file}: is not what this version of deploy/repository.py writes, so it is not run; write it again"
            )


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: deploy/repository.py writes no such thing, so this repository is not served")
