"""The bulk command: what is still to do goes through Ray Data, and rows come back to the one that writes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.running.command_line import Interrupted
from backbones.running.interrupts import noticing_interrupts
from backbones.running.outputs import Outputs
from backbones.running.progress import advance_and_report, progress, start_logging
from deploy.bulk.cluster import check_installed, ray_running
from deploy.bulk.options import BulkOptions
from deploy.bulk.parts import Done, PartFolder
from deploy.bulk.worker import Row, Work, Worker, plain_thresholds, shown_name
from deploy.models import open_model
from deploy.runtimes.exported_models import DetectorRuntime
from detection.metrics.thresholds import thresholds_by_class, warn_of_limit
from detection.prediction.sources import Source, find_sources

logger = logging.getLogger("shortcut")
SHARE = 32  # pictures that a process takes at a time, in batches


def predict_in_bulk(options: BulkOptions) -> Done:
    """Detect in all pictures that the output does not hold yet.

    Returns:
        What the output holds now.

    Raises:
        InputError: the model or the output cannot be used; or, with all others done, pictures could not be read.
    """
    start_logging(options.quiet)
    check_installed()
    output = Outputs().folder("--output", options.output)  # whose files those in it are, the folder of parts knows
    sources, faults = _pictures(options, output)
    work, about = _plan(options)
    folder = PartFolder(output, options.format)
    with folder.locked():
        done = folder.begin(about)
        left = [source for source in sources if shown_name(source.path) not in done.files]
        if len(left) < len(sources):
            logger.info("%d of %d pictures are done already", len(sources) - len(left), len(sources))
        stopped = bool(left) and _run(
            options, work, left, _Writer(folder, done, options.part_size, options.part_seconds)
        )
    missing = [source for source in sources if shown_name(source.path) not in done.files]
    if stopped:
        raise Interrupted(
            f"{len(sources) - len(missing)} of {len(sources)} are done and written; the same command goes on"
        )
    if missing:
        raise InputError(f"{len(missing)} pictures came back without a row, such as {missing[0].path}; run it again")
    _say(options, done, faults, sources)
    return done


def _pictures(options: BulkOptions, output: Path) -> tuple[list[Source], list[InputError]]:
    """What is to be looked at, each once, and what cannot be."""
    sources, faults = find_sources(options.inputs, options.list, output)
    faults += [
        InputError(f"{source.path}: a video; detection/predict.py looks at videos")
        for source in sources
        if source.is_video
    ]
    pictures = [source for source in sources if not source.is_video]
    names = {shown_name(source.path) for source in pictures}
    if len(names) < len(pictures):
        raise InputError("two of the files have names that look the same as text; rename one")
    if not pictures:
        for fault in faults:
            print(f"error: {fault}", file=sys.stderr)
        raise InputError("there is nothing to look at; nothing is written")
    return pictures, faults


def _plan(options: BulkOptions) -> tuple[Work, dict[str, Any]]:
    """How pictures are looked at, and what of that their rows depend on."""
    detector = open_model(
        options.model, tasks=("detection",), engine=options.engine, threads=options.threads, hint="throughput"
    )
    warn_of_limit(detector.settings, options.threshold)
    thresholds = thresholds_by_class(detector.settings, options.threshold, options.classes)
    model = os.path.abspath(options.model)
    work = Work(model, options.engine, options.threads, thresholds, options.max_detections, options.batch_size)
    about = {
        "model_sha256": _checksum(Path(options.model)),
        "engine": detector.session.engine if isinstance(detector, DetectorRuntime) else "torch",
        "classes": list(detector.classes),
        "thresholds": plain_thresholds(thresholds),
        "max_detections": options.max_detections,
        "format": options.format,
        "working_folder": str(Path.cwd()),  # names are kept as they were given, and mean something from here
    }
    return work, about


def _checksum(model: Path) -> str:
    file = model / "model.safetensors" if model.is_dir() else model
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass
class _Writer:
    """Gathers rows, and writes a part when there are enough of them, or they have waited long enough."""

    folder: PartFolder
    done: Done
    size: int
    seconds: float
    rows: list[Row] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if len(self.rows) >= self.size or time.monotonic() - self.since >= self.seconds:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.done.add(self.rows)
            self.folder.write(self.rows)
        self.rows = []
        self.since = time.monotonic()


def _run(options: BulkOptions, work: Work, sources: Sequence[Source], writer: _Writer) -> bool:
    """All of them through Ray Data; whether it was interrupted."""
    processors = os.cpu_count() or 1
    workers = options.workers or max(1, processors // options.threads)
    workers = min(workers, len(sources))
    total = len(sources) + len(writer.done.files)
    # Ray counts processors to place tasks; one more lets it read names while all workers are busy.
    with (
        ray_running(options.cluster, max(processors, workers * options.threads) + 1),
        noticing_interrupts() as interrupted,
        progress("detecting", total, len(writer.done.files), quiet=options.quiet) as bar,
    ):
        advance = advance_and_report(bar)
        try:
            for row in _rows(work, [str(source.path) for source in sources], workers):
                writer.add(row)
                advance(1)
                if interrupted():
                    break
        finally:
            writer.flush()
        return interrupted()


def _rows(work: Work, paths: Sequence[str], workers: int) -> Iterator[Row]:
    """Rows as workers finish them, in no certain order."""
    import ray.data

    share = min(SHARE * work.batch_size, max(work.batch_size, math.ceil(len(paths) / workers)))
    blocks = math.ceil(len(paths) / share)
    names = ray.data.from_items([{"file": json.dumps(path)} for path in paths], override_num_blocks=blocks)
    rows = names.map_batches(
        Worker, fn_constructor_args=(work,), batch_size=share, num_cpus=work.threads,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )  # fmt: skip
    for row in rows.iter_rows():
        yield json.loads(row["row"])


def _say(options: BulkOptions, done: Done, faults: Sequence[InputError], sources: Iterable[Source]) -> None:
    """What was found, and what could not be read.

    Raises:
        InputError: something could not.
    """
    asked = {shown_name(source.path) for source in sources}
    reasons = [*map(str, faults), *(reason for name, reason in done.faults.items() if name in asked)]
    if not options.quiet:
        looked = len(done.files) - len(done.faults)
        print(f"{done.objects} objects in {looked} pictures: {options.format} in {options.output}")
    for reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    if reasons:
        raise InputError(
            f"{len(reasons)} of the inputs could not be read; each is listed with its reason, the others are done"
        )
