"""Writing a model repository: whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from backbones.running.atomic_write import PARTIAL
from backbones.running.outputs import Outputs
from backbones.running.progress import start_logging
from deploy.engines.building import check_flavour
from deploy.engines.plan_metadata import sidecar_of
from deploy.serving import model_file
from deploy.serving.admission import check_repository
from deploy.serving.configuration import CONFIG, Service, as_text, configure
from deploy.serving.model_source import ModelSource, read_sources
from deploy.serving.opening import ABOUT

if TYPE_CHECKING:
    from deploy.repository_options import RepositoryOptions, ServiceOptions

logger = logging.getLogger("shortcut")


def write(options: RepositoryOptions) -> Path:
    """Write the repository that the options ask for (``deploy/repository.py``).

    Raises:
        InputError: a model cannot be read or served, or the folder holds something else.
    """
    start_logging(options.quiet)
    if not options.output:
        raise InputError("give --output: the folder to write")
    target = Path(options.output)
    sources = read_sources(options.model, options.name)
    if options.version < 1:
        raise InputError(f"--version {options.version}: at least 1")
    if options.plans == "tensorrt":
        for source in sources:
            if source.path.suffix == ".onnx":
                check_flavour(source.path, source.metadata)
    service = replace(service_of(options), native=options.plans != "python")
    write_repository(sources, target, service, options.version)
    for source in sources:
        logger.info("%s: %s, version %d of %s", target, source.name, options.version, source.path)
    return target


def service_of(options: ServiceOptions) -> Service:
    """How the options want models served.

    Raises:
        InputError: a number is out of its range.
    """
    limits = {"max_batch_size": 1, "instances": 1, "threads": 0, "queue_delay": 0, "max_pixels": 1}
    for name, least in limits.items():
        if getattr(options, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)}: at least {least}")
    return Service(**{name: getattr(options, name) for name in limits}, hint=options.hint)


def write_repository(sources: list[ModelSource], target: Path, service: Service, version: int = 1) -> None:
    """Write models into a repository. Other models and versions that lie there stay.

    All is first written beside ``target`` and then takes its place.

    Args:
        sources: the models.
        target: the repository's folder.
        service: how to serve them.
        version: of the models; Triton serves the latest.

    Raises:
        InputError: a model cannot be served, or the folder holds something else.
    """
    Outputs().folder("--output", target)
    if target.exists() and any(target.iterdir()):
        check_repository(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", suffix=PARTIAL, dir=target.parent) as folder:
        draft = Path(folder) / "new"
        if target.exists():
            shutil.copytree(target, draft, copy_function=_link)
        draft.mkdir(exist_ok=True)
        for source in sources:
            _write_model(source, draft, service, version)
        _exchange(draft, target)


def _write_model(source: ModelSource, repository: Path, service: Service, version: int) -> None:
    native = service.native and source.path.suffix == ".plan"
    service = replace(service, native=native)
    if native:
        if source.metadata["engine"]["library"] != "tensorrt":
            raise InputError(f"{source.path}: Triton's own backend runs no TensorRT-RTX engines; --plans python does")
        service = _within_profiles(source.metadata, service)
    for name, config in configure(source.name, source.metadata, service).items():
        folder = repository / name / str(version)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_text(folder.parent / CONFIG, as_text(config))
        if config.backend == "python":
            _write_text(folder / model_file.NAME, model_file.TEXT)
        if config.platform != "ensemble":
            _write_text(folder / ABOUT, json.dumps(source.metadata, indent=2) + "\n")
        else:
            _write_text(folder / ".keep", "")  # Triton wants the version's folder, and copies lose empty ones
        if name == f"{source.name}_graph":
            file = folder / f"model{source.path.suffix}"
            shutil.copyfile(source.path, file)
            if source.path.suffix == ".plan":
                shutil.copyfile(sidecar_of(source.path), sidecar_of(file))


def _within_profiles(metadata: dict[str, Any], service: Service) -> Service:
    """No larger batch than the plan takes, and its profiles by number."""
    profiles = metadata["engine"]["profiles"]
    most = [int(profile["max"]["images"][0]) for profile in profiles]
    return replace(service, profiles=len(profiles), max_batch_size=min([service.max_batch_size, *most]))


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _write_text(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # it may be a link to the old repository's file
    path.write_text(text, encoding="utf-8")


def _exchange(draft: Path, target: Path) -> None:
    """Put ``draft`` in the place of ``target``, and that in the draft's folder; it is away only between two renames."""
    if target.exists():
        target.rename(draft.with_name("old"))
    draft.rename(target)
