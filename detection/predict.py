#!/usr/bin/env python
"""Objects in pictures and videos, or the class of every pixel: drawn copies, and listings as JSON, COCO, CSV, YOLO.

A detector finds objects, a segmenter labels pixels; either may be trained or exported.
"""

import os
import sys

if __package__ in (None, ""):  # run as a script: the project's root, not this folder, belongs on the path
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here)] + [p for p in sys.path if os.path.abspath(p or ".") != _here]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from backbones.errors import InputError, did_you_mean
from backbones.running.command_line import option, run_command
from deploy.engine_names import ENGINES
from detection.inference_switches import Switches

if TYPE_CHECKING:
    from detection.prediction.listings import Labelling
    from detection.prediction.sources import Source

    Looking = tuple[tuple[float, ...] | None, Callable[..., Any], Labelling]

EXAMPLES = (
    "python detection/predict.py --model runs/digits-resnet20 street.jpg holiday/",
    "python detection/predict.py --model model.onnx 'photos/**/*.jpg' --save pictures,coco,csv --output found",
    "python detection/predict.py --model model.onnx film.mp4 --every 5 --classes car,person",
)
SAVED = {"detection": ("pictures", "json", "coco", "csv", "yolo"), "segmentation": ("pictures", "json", "labels")}
ALL_SAVED = tuple(dict.fromkeys(kind for kinds in SAVED.values() for kind in kinds))


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(Switches):
    """Which model, on what, and what comes out."""

    inputs: tuple[str, ...] = option(
        (), "pictures, videos, folders, patterns in quotes, or - for names on standard input",
        group="data", positional=True,
    )  # fmt: skip
    list: str | None = option(None, "a file of such names, one on each line; - for standard input",
                              group="data", metavar="FILE")  # fmt: skip
    every: int = option(1, "look at each so many-th frame of videos", group="data")
    fps: float | None = option(None, "look at most at so many frames of a second", group="data")
    model: str = option("", "a run folder, a .safetensors, an .onnx or a .plan file", group="model")
    ensemble: str | None = option(None, "further trained models, with commas between them", group="model",
                                  metavar="B,C")  # fmt: skip
    threshold: float | None = option(None, "least score; by default each class's own, if the model has them, or 0.5",
                                     group="model")  # fmt: skip
    classes: str | None = option(None, "find these only, with commas between them", group="model", metavar="A,B")
    max_detections: int | None = option(None, "at most so many, the best, of each picture", group="model")
    batch_size: int = option(8, "pictures at once", group="machine")
    device: str = option("auto", "auto, cpu, cuda or cuda:N", group="machine")
    precision: str = option("fp32", "of a trained model", group="machine", choices=("fp32", "bf16", "fp16"))
    engine: str | None = option(None, "of an exported model (by default the first installed)", group="machine",
                                choices=ENGINES)  # fmt: skip
    workers: int = option(2, "threads that read, and as many that draw", group="machine")
    output: str = option("detections", "folder for what is saved", group="output", metavar="DIR")
    save: str = option(
        "", "any of " + " ".join(ALL_SAVED) + ", with commas between them", group="output", metavar="A,B",
        otherwise="pictures,json, and of a segmenter labels too",
    )  # fmt: skip
    format: str = option("png", "of drawn pictures", group="output", choices=("png", "jpg"))
    enlarge: int = option(1, "draw on pictures so many times larger", group="output")
    coco_images: str | None = option(None, "image ids for COCO: annotations, or {file name: id}",
                                     group="output", metavar="FILE.json")  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("every", "max_detections", "batch_size", "enlarge"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"--fps {self.fps}: must be above 0")
        names = self.named
        for name in names:
            if name not in ALL_SAVED:
                raise InputError(f"--save: no {name!r}{did_you_mean(name, ALL_SAVED)}; any of {', '.join(ALL_SAVED)}")
        if self.save and not names:
            raise InputError(f"--save: name at least one of {', '.join(ALL_SAVED)}")
        if self.coco_images is not None and "coco" not in names:
            raise InputError("--coco-images goes with --save coco")

    @property
    def named(self) -> tuple[str, ...]:
        """What ``--save`` names."""
        return tuple(name.strip() for name in self.save.split(",") if name.strip())

    def saved(self, task: str) -> tuple[str, ...]:
        """What is to be saved by a model for a task.

        Raises:
            InputError: something that only models for another task give.
        """
        for name in self.named:
            if name not in SAVED[task]:
                raise InputError(f"--save {name}: {self.model} gives {', '.join(SAVED[task])}")
        return self.named or (("pictures", "json") if task == "detection" else SAVED[task])


def run(options: PredictionOptions) -> None:
    """Look, draw, write; what cannot be read is named, left out and counted as a failure."""
    from backbones.running.command_line import Interrupted
    from backbones.running.interrupts import noticing_interrupts
    from backbones.running.outputs import Outputs, recording
    from backbones.running.progress import advance_and_report, progress, start_logging
    from deploy.models import open_tested
    from detection.prediction.copies import Copies
    from detection.prediction.listings import open_listings, result_names
    from detection.prediction.running import Outcome, Prediction, Settings
    from detection.prediction.sources import find_sources
    from detection.prediction.video import Sampling, expected_frames

    if not options.model:
        raise InputError("give --model: a run folder, a .safetensors, an .onnx or a .plan file")
    start_logging(options.quiet)
    outcome = Outcome()
    output = Outputs().folder("--output", options.output)
    sources, outcome.faults[:] = find_sources(options.inputs, options.list, output)
    if not sources:
        _refuse_nothing(outcome.faults)
    names = [options.model, *(options.ensemble.split(",") if options.ensemble else [])]
    switches = replace(options, max_detections=None)  # also of exported models: the rest is left out behind them
    model = open_tested(
        names, switches, tuple(SAVED), device=options.device, precision=options.precision, engine=options.engine
    )
    saved = options.saved(model.task)
    thresholds, drawn, labelling = _BY_TASK[model.task](options, model, sources)
    copies = Copies(output, model.classes, options.format, options.enlarge, drawn) if "pictures" in saved else None
    written = result_names(saved, options.format, sources, labelling.image_ids is not None, model.task)
    outcome.objects = None if thresholds is None else 0
    reads = (*names, options.list, options.coco_images, *(source.path for source in sources))
    Outputs(reads, overwrite=options.overwrite).folder("--output", output, written)
    sampling = Sampling(options.every, options.fps)
    settings = Settings(thresholds, options.max_detections, options.batch_size, options.workers, sampling)
    total = sum(expected_frames(source.path, sampling) if source.is_video else 1 for source in sources)
    with (
        noticing_interrupts() as interrupted,
        recording(output, written),
        progress("looking", total, quiet=options.quiet) as bar,
        open_listings(saved, output, labelling) as listings,
    ):
        Prediction(model, settings, copies, listings, advance_and_report(bar), interrupted, outcome).run(sources)
        stopped = interrupted()
        if stopped and not outcome.done:
            raise Interrupted("nothing was done")
        if not outcome.done:
            _refuse_nothing(outcome.faults)
    if not options.quiet:
        print(f"{outcome}: {', '.join(saved)} in {options.output}")
    _name(outcome.faults)
    if stopped:
        raise Interrupted(f"{outcome.done} of {total} are done and written")
    if outcome.faults:
        raise InputError(f"{len(outcome.faults)} of the inputs could not be read, or only in part; the others are done")


def _objects(options: PredictionOptions, detector: Any, sources: "Sequence[Source]") -> "Looking":
    """From which scores on objects count, how they are drawn, and what listings say of them."""
    from detection.drawing import draw_detections
    from detection.metrics.thresholds import thresholds_by_class, warn_of_limit
    from detection.prediction.listings import Labelling, read_image_ids

    ids = read_image_ids(Path(options.coco_images), sources) if options.coco_images else None
    warn_of_limit(detector.settings, options.threshold)
    thresholds = thresholds_by_class(detector.settings, options.threshold, options.classes)
    return thresholds, draw_detections, Labelling.of(detector.settings, sources, ids)


def _pixels(options: PredictionOptions, segmenter: Any, sources: "Sequence[Source]") -> "Looking":
    """The same of labelled pixels; every pixel has a class, so nothing is left out."""
    from detection.prediction.listings import Labelling
    from detection.segmentation.drawing import draw_map

    given = [flag for flag in ("threshold", "classes", "max_detections") if getattr(options, flag) is not None]
    if given:
        raise InputError(f"--{given[0].replace('_', '-')}: only detectors have it, and {options.model} is none")
    return None, draw_map, Labelling(segmenter.classes, task=segmenter.task)


_BY_TASK = {"detection": _objects, "segmentation": _pixels}


def _refuse_nothing(faults: Sequence[InputError]) -> NoReturn:
    _name(faults)
    raise InputError("nothing could be read; nothing is written")


def _name(faults: Sequence[InputError]) -> None:
    for fault in faults:
        print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and look."""
    return run_command(PredictionOptions, run, description=__doc__ or "", examples=EXAMPLES, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
