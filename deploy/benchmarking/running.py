"""The benchmark command."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.extras import require
from backbones.images import Size
from backbones.running.known_files import is_figure, measurement_of
from backbones.running.outputs import Kind, output_files
from backbones.running.progress import progress, start_logging
from deploy.benchmarking.memory import Memory, measure_memory
from deploy.benchmarking.options import BenchmarkOptions
from deploy.benchmarking.subjects import Subject, make_images, open_subject, pairs
from deploy.benchmarking.timing import WORK, Timing, Turns, limited_threads, matrix_product, summarize, take_turns
from deploy.benchmarking.work import multiply_adds
from deploy.engine_names import takes_hint

logger = logging.getLogger("shortcut")
PEAK = "matrix product"
WHAT = (
    "latency of a batch in milliseconds, images per second, times faster than the first turn by turn, and the share of "
    "the machine's rate of fp32 matrix products"
)


@dataclass(frozen=True)
class Measured:
    """A model in an engine at one batch.

    Attributes:
        subject: which.
        timing: how fast.
        memory: how much, or None.
        multiply_adds: of one image, or None.
    """

    subject: Subject
    timing: Timing
    memory: Memory | None
    multiply_adds: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        session = getattr(self.subject.model, "session", None)
        return {
            "model": self.subject.path,
            "engine": getattr(session, "engine", self.subject.engine),
            **({"hint": self.subject.hint} if self.subject.hint else {}),
            "precision": session.metadata.exported.precision if session else "fp32",
            **self.timing.to_dict(),
            "multiply_adds": self.multiply_adds,
            "memory_mib": asdict(self.memory) if self.memory else None,
        }


def benchmark(options: BenchmarkOptions) -> list[Measured]:
    """Measure, print a table, and write what is asked for.

    Raises:
        InputError: a model cannot be read, or does something else than the others.
    """
    from deploy.benchmarking.showing import draw, table

    options = output_files(
        options,
        reads=(*options.model, options.against),
        data=(options.images,),
        output=Kind("benchmark.json", measurement_of(WHAT)),
        plot=Kind("benchmark.png", is_figure),
    )
    if options.plot:
        require("matplotlib")
    start_logging(options.quiet)
    hints = options.hints_at(options.batch[0])
    subjects = _open(options, hints)
    size: Size = (options.size[0], options.size[1]) if options.size else subjects[0].size
    work = _count(subjects, size)
    measured: list[Measured] = []
    with limited_threads(options.threads):
        for batch in options.batch:
            if options.hints_at(batch) != hints:
                hints = options.hints_at(batch)
                subjects = _open(options, hints)
            turns, peak = _turns(subjects, batch, size, options)
            for subject in subjects:
                base = turns[subjects[0].name]
                timing = summarize(turns[subject.name], batch, base, batch, work[subject.name], peak, WORK)
                measured.append(Measured(subject, timing, None, work[subject.name]))
    if options.memory:
        measured = [_with_memory(item, size, options) for item in measured]
    rate = WORK * 2 / min(min(turn) for turn in peak) / 1e9
    print("\n".join(table(measured, subjects[0].name)))
    print(f"Images of {size[0]}x{size[1]}; the peak is {rate:.0f} GFLOP/s, a product of fp32 matrices in the same run.")
    if _asks_openvino(measured):
        told = ", ".join(f"{' and '.join(options.hints_at(batch))} at batch {batch}" for batch in options.batch)
        print(f"OpenVINO's hint: {told}.")
    if options.output:
        _write(options, measured, size, rate)
    if options.plot:
        draw(measured, Path(options.plot))
    return measured


def _open(options: BenchmarkOptions, hints: Sequence[str]) -> list[Subject]:
    """All of them, the one that others are compared with first."""
    named = [*([options.against] if options.against else []), *options.model]
    files: dict[Path, str] = {}
    for name in named:
        files.setdefault(Path(name).resolve(), name)
    models = list(files.values())
    subjects = []
    chosen = pairs(models, options.engine)
    if options.hint and not any(takes_hint(engine) for _, engine in chosen):
        raise InputError(f"--hint {' '.join(options.hint)}: OpenVINO's, which runs none of the models here")
    for model, engine in chosen:
        for hint in hints if takes_hint(engine) else hints[:1]:
            subject = open_subject(model, engine, options.threads, hint)
            subjects.append(replace(subject, hint=hint) if takes_hint(engine) and len(hints) > 1 else subject)
    for subject in subjects[1:]:
        if subject.task != subjects[0].task:
            raise InputError(
                f"{subject.path}: {subject.task}, but {subjects[0].path}: {subjects[0].task}; compare alike"
            )
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):  # files of the same name in several folders
        return [replace(subject, title=os.path.relpath(subject.path)) for subject in subjects]
    return subjects


def _asks_openvino(measured: Sequence[Measured]) -> bool:
    return any(takes_hint(item.subject.engine) for item in measured)


def _count(subjects: Sequence[Subject], size: Size) -> dict[str, float | None]:
    """Multiply-adds by name. One count serves every precision of an architecture: some of their graphs do not tell."""
    work = {subject.name: multiply_adds(subject, size) for subject in subjects}
    exported = [subject for subject in subjects if hasattr(subject.model, "metadata")]
    known = {_architecture(subject): work[subject.name] for subject in exported if work[subject.name]}
    return work | {subject.name: known.get(_architecture(subject)) for subject in exported if not work[subject.name]}


def _architecture(subject: Subject) -> str:
    return json.dumps(subject.model.metadata.architecture, sort_keys=True)


def _turns(
    subjects: Sequence[Subject], batch: int, size: Size, options: BenchmarkOptions
) -> tuple[dict[str, Turns], Turns]:
    calls = {subject.name: subject.call(make_images(batch, size, options.images)) for subject in subjects}
    calls[PEAK] = matrix_product()
    with progress(f"batch {batch}", options.rounds * len(calls), quiet=options.quiet) as bar:
        turns = take_turns(calls, options.rounds, options.seconds, lambda: bar.advance(1))
    return turns, turns.pop(PEAK)


def _with_memory(item: Measured, size: Size, options: BenchmarkOptions) -> Measured:
    subject = item.subject
    memory = measure_memory(
        subject.path, subject.engine, item.timing.batch, size, options.images, options.threads,
        subject.hint or options.hints_at(item.timing.batch)[0],
    )  # fmt: skip
    return Measured(subject, item.timing, memory, item.multiply_adds)


def _write(options: BenchmarkOptions, measured: Sequence[Measured], size: Size, rate: float) -> None:
    from backbones.running.measurement import write_measurement

    assert options.output is not None
    told = _asks_openvino(measured)
    write_measurement(
        options.output,
        what=WHAT,
        settings={
            "size": list(size),
            "threads": options.threads,
            "rounds": options.rounds,
            "seconds": options.seconds,
            **({"hint": {str(batch): options.hints_at(batch) for batch in options.batch}} if told else {}),
        },
        against=measured[0].subject.name,
        matrix_product_gflops=round(rate, 1),
        results=[item.to_dict() for item in measured],
    )
