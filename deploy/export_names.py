"""What an export's files are called, and that none of them takes the place of something else. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from backbones.running.known_files import json_with
from backbones.running.outputs import Kind, Outputs
from deploy.engines.onnx_metadata import is_exported
from deploy.engines.plan_metadata import sidecar_of
from deploy.export_options import ExportOptions

ONNX = Kind("model.onnx", is_exported, beside=(".json", json_with("format", "task", "sha256", "bytes")))
_is_plan_sidecar = json_with("format", "task", "sha256", "engine")
PLAN = Kind("model.plan", lambda path: _is_plan_sidecar(sidecar_of(path)), beside=(".plan.json", _is_plan_sidecar))


def check_suffix(options: ExportOptions) -> None:
    """Raises:
    InputError: ``--output`` is no folder, and does not end as the format's files do.
    """
    if options.output:
        (PLAN if options.format == "tensorrt" else ONNX).named("--output", options.output)


def onnx_target(options: ExportOptions, flavour: str | None) -> Path:
    """Where the ONNX file comes to lie: ``--output``, or beside the weights, named after what is not the default.

    Args:
        options: the command's.
        flavour: of a detector's graph, None of others.
    """
    given = _given_file(options)
    if given is not None:
        if options.format != "tensorrt":
            return given
        own = "-portable" if flavour == "portable" and not given.stem.endswith("-portable") else ""
        return given.with_name(f"{given.stem}{own}.onnx")  # model.onnx may be the other flavour's
    marks = [flavour] if flavour == "portable" else []
    marks += [options.precision] if options.precision != "fp32" else []
    marks += [options.int8_style] if options.precision == "int8" and options.int8_style != "tensorrt" else []
    if "://" in options.model:  # a published name: the file comes to lie here
        folder, stem = Path(), options.model.rpartition("/")[2].split(".")[0]
    else:
        source = Path(options.model)
        folder = source if source.is_dir() else source.parent
        stem = "model" if source.is_dir() else source.name.split(".")[0]
    return (Path(options.output) if options.output else folder) / f"{'-'.join([stem, *marks])}.onnx"


def draft_of(onnx_path: Path) -> Path:
    """Where an ONNX file lies until it is verified; engines know it by its suffix."""
    return onnx_path.with_name(f"{onnx_path.stem}.unverified.onnx")


def _given_file(options: ExportOptions) -> Path | None:
    """``--output``, unless it is a folder."""
    given = options.output
    return Path(given) if given and not given.endswith(os.sep) and not Path(given).is_dir() else None


def plan_target(options: ExportOptions, onnx_path: Path) -> Path:
    """Where the engine comes to lie: as ``--output`` says, or beside the ONNX file."""
    given = _given_file(options)
    if given is not None:
        return given
    folder = Path(options.output) if options.output else onnx_path.parent
    return folder / f"{onnx_path.stem.replace('-portable', '')}.plan"  # a plan has no other flavour


def decide_names(options: ExportOptions, onnx_path: Path, plan_only: bool = False) -> Path:
    """Make sure that all that is written may be, before work starts; the engine's name.

    Args:
        options: the command's.
        onnx_path: the ONNX file, which is read if ``plan_only`` and else written.

    Raises:
        InputError: a file that is read, or something else's, would be replaced.
    """
    outputs = Outputs((options.model, options.classes), (options.images, options.dataset), options.overwrite)
    plan = plan_target(options, onnx_path)
    if not plan_only:
        outputs.file("--output", onnx_path, ONNX)
        outputs.check("--output", draft_of(onnx_path), is_exported)
    if options.format == "tensorrt":
        outputs.file("--output", plan, PLAN)
        if options.timing_cache:  # TensorRT refuses what is no cache of its own
            outputs.check("--timing-cache", Path(options.timing_cache), lambda _: True)
    return plan
