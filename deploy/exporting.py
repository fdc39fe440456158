"""The export command: load, trace, quantise, verify, and only then let the file have its name."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image
from backbones.running.atomic_write import write_json
from backbones.running.progress import start_logging
from deploy.engine_names import TABLE
from deploy.engines.binding import INSTALL
from deploy.export_names import check_suffix, decide_names, draft_of, onnx_target
from deploy.export_options import AUTO, ExportOptions
from deploy.exportable import Exportable, open_exportable
from deploy.gates import GATES, Verdict
from deploy.graph_check import check_graph
from deploy.onnx_export import trace, write_onnx
from deploy.precision.accuracy import LabelledData, Marks
from deploy.precision.calibration import PICTURES
from deploy.precision.layer_choice import LayerChoice, Quantiser
from deploy.precision.quantization import QUANTISED
from deploy.runtimes import load_runtime
from deploy.verification import Verification, together

logger = logging.getLogger("shortcut")


def export(options: ExportOptions) -> Path:
    """Export a model and verify the file against the model.

    The file, and a ``.json`` of the same name with metadata, checksum and the comparison, appear only if the
    comparison passes.

    Returns:
        The ONNX file, or the engine.

    Raises:
        InputError: the model cannot be read, or the exported file disagrees with it.
    """
    start_logging(options.quiet)
    if not options.model:
        raise InputError("give --model: a run folder or a weights file")
    check_suffix(options)
    if options.format == "tensorrt":
        _check_tensorrt(options)
    if options.model.endswith(".onnx"):
        source = _exported_already(options)
        return _build_plan(options, source, decide_names(options, source, plan_only=True))
    kind = open_exportable(options)
    target = onnx_target(options, kind.flavour)
    plan = decide_names(options, target)
    data = LabelledData(kind.judged, options.dataset, options.split, options.data_dir) if options.dataset else None
    pictures = verification_pictures(options.images) if options.images or data is None else data.some(PICTURES)
    draft = draft_of(target)
    try:
        about = _make(options, kind, pictures, data, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    write_json(target.with_suffix(".json"), about)
    logger.info("%s: %.1f MB", target, target.stat().st_size / 1e6)
    return _build_plan(options, target, plan) if options.format == "tensorrt" else target


def verification_pictures(folder: str | None) -> list[Picture]:
    """Real pictures: those of a folder, or two photographs that come with scikit-learn and digit scenes.

    Raises:
        InputError: the folder has none.
    """
    if folder is not None:
        files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"--images {folder}: no pictures there ({', '.join(SUFFIXES)})")
        return [read_image(path) for path in files[:PICTURES]]
    from sklearn.datasets import load_sample_images

    from detection.data.digits import compose_scene

    photographs = [np.ascontiguousarray(image) for image in load_sample_images().images]
    return [*(compose_scene("val", number).image for number in range(6)), *photographs]


def _make(
    options: ExportOptions, kind: Exportable, pictures: list[Picture], data: LabelledData | None, draft: Path
) -> dict[str, Any]:
    """Write the draft and judge it; what is known of it.

    Raises:
        InputError: it disagrees with the model.
    """
    precision, flavour = options.precision, kind.flavour or "portable"
    metadata = kind.metadata(precision, flavour)
    graph = kind.graph(precision)
    model = trace(graph, kind.example, graph.outputs, kind.shapes, precision, kind.argument)
    operators = check_graph(model, kind.shapes, flavour)
    logger.info("traced: %d operators of %d kinds", sum(operators.values()), len(operators))

    def judge(candidate: Any) -> tuple[Verification, Marks | None]:
        write_onnx(candidate, metadata, draft)
        return _judge(kind, precision, pictures, data, draft)

    choice: LayerChoice | None = None
    if precision in QUANTISED:
        quantiser = Quantiser(model, kind.feeds(pictures), precision, options.int8_style)
        model, choice, (verification, marks) = quantiser.choose(judge, lambda result: _passed(precision, *result))
        check_graph(model, kind.shapes, flavour)
    else:
        verification, marks = judge(model)
    decision = _decide(precision, verification, marks)
    _report(verification, marks, decision)
    if decision is not None and not decision.passed:
        raise InputError(f"the exported file disagrees with the model and is removed: {decision.summary}")
    content = draft.read_bytes()
    about = {
        **replace(metadata, sha256=hashlib.sha256(content).hexdigest()).to_dict(), "bytes": len(content)
    }  # fmt: skip
    about["verification"] = {**verification.to_dict(), "gate": asdict(GATES[precision])}
    about["decided_by"] = asdict(decision) if decision else None
    if marks is not None:
        about["accuracy"] = {"dataset": options.dataset, "split": options.split, **asdict(marks), "loss": marks.loss}
    if choice is not None:
        both, judged = _seen_twice(options, pictures, data)
        about["quantisation"] = {"style": options.int8_style, **asdict(choice), "judged_too": both, "judged": judged}
    return about


def _judge(
    kind: Exportable, precision: str, pictures: list[Picture], data: LabelledData | None, draft: Path
) -> tuple[Verification, Marks | None]:
    """Compare with the trained model in every engine that runs the precision; the marks are the worst engine's."""
    runtimes = [
        load_runtime(draft, engine=name)
        for name, engine in TABLE.items()
        if precision in engine.verifies and any(map(find_spec, engine.packages))
    ]
    verification = together([kind.verify(runtime, pictures, GATES[precision]) for runtime in runtimes])
    if data is None or not runtimes:
        return verification, None
    return verification, max((data.compare(runtime) for runtime in runtimes), key=lambda marks: marks.loss)


def _decide(precision: str, verification: Verification, marks: Marks | None) -> Verdict | None:
    """The verdict that decides: labelled data's where there is some; of fp32, the agreement must hold besides.

    None where no engine here runs the precision.
    """
    verdicts = [verification.verdict] if verification.verdict and (marks is None or precision == "fp32") else []
    verdicts += [marks.verdict(GATES[precision].loss)] if marks is not None else []
    return max(verdicts, key=lambda verdict: verdict.used, default=None)


def _passed(precision: str, verification: Verification, marks: Marks | None) -> bool:
    decision = _decide(precision, verification, marks)
    return decision is None or decision.passed


def _seen_twice(options: ExportOptions, pictures: list[Picture], data: LabelledData | None) -> tuple[int | None, int]:
    """(how many of the pictures that judged the file calibrated it too, None where nobody looked; how many judged)."""
    judged = len(pictures) if data is None else len(data)
    if data is not None and options.images:
        return None, judged
    logger.warning("%d of the %d pictures that judged the file calibrated it too", len(pictures), judged)
    return len(pictures), judged


def _report(verification: Verification, marks: Marks | None, decision: Verdict | None) -> None:
    for line in verification.table() if verification.checks else ():
        logger.info("%s", line)
    if marks is not None:
        logger.info("beside the gate: %s", verification.summary)
    logger.info("the gate: %s", decision.summary if decision else verification.summary)


def _check_tensorrt(options: ExportOptions) -> None:
    if options.flavour == "ops":
        raise InputError("--flavour ops: TensorRT engines are built from the portable flavour; leave it out")
    if not (find_spec("tensorrt") or find_spec("tensorrt_rtx")):
        raise InputError(
            f"--format tensorrt needs TensorRT: {INSTALL}; --flavour portable writes the ONNX file to carry to a GPU"
        )


def _exported_already(options: ExportOptions) -> Path:
    """An ONNX file of ours, to build an engine from.

    Raises:
        InputError: anything else is asked of it.
    """
    if options.format != "tensorrt":
        raise InputError(f"{options.model}: is exported already; --format tensorrt builds an engine from it")
    if options.precision != "fp32" or options.flavour != AUTO:
        raise InputError(f"{options.model}: has its precision and flavour; leave out --precision and --flavour")
    return Path(options.model)


def _build_plan(options: ExportOptions, onnx_path: Path, plan: Path) -> Path:
    from deploy.engines.building import build_plan  # needs TensorRT
    from deploy.engines.options import BuildOptions

    build_plan(onnx_path, plan, BuildOptions.of(options))
    return plan
