"""From an ONNX file to a TensorRT engine.

TensorRT since version 11 is strongly typed: the engine computes in the precisions that the ONNX file states. Most of
its calls report a failure by what they return, so everything returned is looked at.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from backbones.running.atomic_write import atomic_path, write_json
from backbones.running.command_line import as_plain_values
from deploy.engines.binding import RTX, TITLES, import_trt, library_log, said
from deploy.engines.device_memory import find_gpu
from deploy.engines.onnx_metadata import read_onnx_metadata
from deploy.engines.options import BuildOptions
from deploy.engines.plan_metadata import EngineRecord, Gpu, sha256_of, sidecar_of
from deploy.engines.profiles import Profile, profiles_for

logger = logging.getLogger("shortcut")
_RTX_TIMINGS = b"ptrt"
"""How TensorRT-RTX's timings begin."""


def build_plan(
    onnx_path: Path,
    plan_path: Path,
    options: BuildOptions | None = None,
    profiles: Sequence[Profile] | None = None,
    trt: Any = None,
) -> Path:
    """Build an engine, and write it with a ``.plan.json`` beside it that says what it is.

    Args:
        onnx_path: from ``deploy/export.py``, in the precision that the engine shall have.
        plan_path: the engine, ``.plan``; it appears only when it is whole.
        options: how to build.
        profiles: ranges of shapes; by default one for each scale of ``options``.
        trt: the bindings; by default those that ``options`` name or that are installed.

    Returns:
        ``plan_path``.

    Raises:
        InputError: the file is none of ours or of the flavour ops, TensorRT is missing, or it refuses the graph, a
            profile or an option.
    """
    options = options or BuildOptions()
    options.check()
    metadata = read_onnx_metadata(onnx_path)
    check_flavour(onnx_path, metadata)
    trt = trt or import_trt(options.library)
    gpu = find_gpu()
    _check_gpu(trt, gpu, options)
    began = time.perf_counter()
    plan, used = _build(trt, onnx_path, metadata, options, profiles)
    record = EngineRecord(
        library=trt.__name__, version=trt.__version__, gpu=gpu,
        hardware_compatibility=options.hardware_compatibility, version_compatible=options.version_compatible,
        refit=options.refit, strip_weights=options.strip_weights, profiles=used, onnx=onnx_path.name,
        onnx_sha256=sha256_of(onnx_path), seconds=round(time.perf_counter() - began, 2),
        rebuild=options.command(onnx_path, plan_path), options=as_plain_values(options),
    )  # fmt: skip
    with atomic_path(plan_path) as partial:
        partial.write_bytes(plan)
    assert metadata.exported is not None
    exported = replace(metadata.exported, engine=record.to_dict())
    about = replace(metadata, sha256=sha256_of(plan_path), exported=exported)
    write_json(sidecar_of(plan_path), about.to_dict())
    logger.info("%s: %.1f MB, %d profiles, built in %.0f s", plan_path, len(plan) / 1e6, len(used), record.seconds)
    return plan_path


def check_flavour(onnx_path: Path, metadata: ModelMetadata) -> None:
    """Raises:
    InputError: the file is a detector with operators whose results have no fixed shape.
    """
    if metadata.exported and metadata.exported.flavour == "ops" and metadata.task == "detection":
        raise InputError(
            f"{onnx_path}: is of the flavour ops, and TensorRT engines are built from the portable one: "
            "python deploy/export.py --model RUN --flavour portable"
        )


def _check_gpu(trt: Any, gpu: Gpu | None, options: BuildOptions) -> None:
    """Say what needs a GPU before minutes are spent; TensorRT-RTX would abort the whole process."""
    if gpu is not None:
        return
    if trt.__name__ != RTX:
        raise InputError("TensorRT builds engines on the GPU that runs them, and here is none; --library tensorrt_rtx")
    if options.needing_gpu:
        raise InputError(f"{', '.join(options.needing_gpu)}: needs a GPU even to build, and here is none")


def _build(
    trt: Any, onnx_path: Path, metadata: ModelMetadata, options: BuildOptions, profiles: Sequence[Profile] | None
) -> tuple[bytes, tuple[Profile, ...]]:
    """The engine's bytes, and the profiles it has."""
    log = library_log(trt)
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:  # without a driver the bindings get no object
        raise InputError(f"{TITLES[trt.__name__]} cannot start here: {said(log.errors)}") from error
    network, parser = parse(trt, builder, onnx_path, log)
    inputs = {tensor.name: tuple(tensor.shape) for tensor in map(network.get_input, range(network.num_inputs))}
    if profiles is None:
        profiles = profiles_for(inputs, metadata, options.profile_scales, options.max_batch, options.usual_batch)
    config = _configure(trt, builder, options, log)
    _add_profiles(builder, config, inputs, profiles, log)
    cache = _timing_cache(trt, config, options.timing_cache)
    logger.info(
        "%s %s builds %d profiles (%s); this takes minutes",
        TITLES[trt.__name__], trt.__version__, len(profiles), ", ".join(wanted.name for wanted in profiles),
    )  # fmt: skip
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        hint = "; give it more --workspace, or a smaller --max-batch" if "OutOfMemory" in " ".join(log.errors) else ""
        raise InputError(f"{onnx_path}: {TITLES[trt.__name__]} builds no engine of it: {said(log.errors)}{hint}")
    if cache is not None and options.timing_cache:
        _keep_timings(cache, Path(options.timing_cache))
    del parser  # the network's weights are its own, so it lives until here
    return bytes(plan), tuple(profiles)


def parse(trt: Any, builder: Any, onnx_path: Path, log: Any) -> tuple[Any, Any]:
    """The network of an ONNX file, and the parser that owns its weights.

    Raises:
        InputError: TensorRT does not understand the file; the message names the first nodes it stops at.
    """
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(onnx_path)):
        return network, parser
    problems = []
    for number in range(min(parser.num_errors, 3)):
        error = parser.get_error(number)
        place = f"node {error.node_name()} ({error.node_operator()}): " if error.node_operator() else ""
        problems.append(place + " ".join(error.desc().split()))
    reason = "; ".join(dict.fromkeys(problems)) or said(log.errors)
    raise InputError(f"{onnx_path}: {TITLES[trt.__name__]} cannot read it: {reason}")


def _configure(trt: Any, builder: Any, options: BuildOptions, log: Any) -> Any:
    config = builder.create_builder_config()
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace * 2**30))
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    level = options.hardware_compatibility.upper()
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if not options.tf32:  # on unless told otherwise
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if log.errors:  # these calls return nothing
        raise InputError(f"{TITLES[trt.__name__]} refuses an option: {said(log.errors)}")
    return config


def _add_profiles(
    builder: Any, config: Any, inputs: dict[str, tuple[int, ...]], profiles: Sequence[Profile], log: Any
) -> None:
    free = sorted(name for name, shape in inputs.items() if -1 in shape)
    if free and not profiles:
        raise InputError(f"no optimization profile: the inputs {', '.join(free)} have free dimensions")
    for wanted in profiles:
        if wanted.min.keys() != inputs.keys():
            raise InputError(f"profile {wanted.name}: must name exactly the inputs {', '.join(sorted(inputs))}")
        optimization_profile = builder.create_optimization_profile()
        for name in inputs:
            optimization_profile.set_shape(name, wanted.min[name], wanted.opt[name], wanted.max[name])
        if config.add_optimization_profile(optimization_profile) < 0:
            raise InputError(f"profile {wanted.name}: refused: {said(log.errors)}")


def _timing_cache(trt: Any, config: Any, file: str | None) -> Any:
    """The kernels' timings of former builds, handed to this one; None if no file shall keep them."""
    if file is None:
        return None
    path = Path(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorRT-RTX takes the calls and keeps no timings
        timings = path.read_bytes() if path.is_file() else b""
        strange = bool(timings) and trt.__name__ == RTX and not timings.startswith(_RTX_TIMINGS)  # which takes anything
        cache = None if strange else config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, False):
            raise InputError(f"--timing-cache {path}: of another version or GPU, or damaged; delete it or name another")
    return cache


def _keep_timings(cache: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        timings = bytes(cache.serialize())
    with atomic_path(path) as partial:
        partial.write_bytes(timings)
