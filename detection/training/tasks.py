"""What training a detector and training a segmenter differ in: a class each."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from backbones.errors import InputError
from backbones.running import distributed
from backbones.running.run_folder import RunFolder
from backbones.running.run_options import Resolved
from backbones.weights.file_content import FileContent
from detection.building import build_detector, detector_of, load_detector
from detection.data.annotations import DetectionData
from detection.data.batches import BatchPlanner, TrainingBatches
from detection.data.datasets import read_checked
from detection.detector import Detector
from detection.evaluation import detect_all, diagnose, score
from detection.head_table import HEADS
from detection.operators import COMPILED
from detection.report import write_report
from detection.score_thresholds import store_thresholds
from detection.segmentation.building import build_segmenter, load_segmenter, segmenter_of
from detection.segmentation.crops import CropPlanner, TrainingCrops
from detection.segmentation.datasets import read_segmentation, refuse_faulty_labels
from detection.segmentation.evaluation import evaluate_segmenter
from detection.segmentation.labelled_images import SegmentationData
from detection.segmentation.report import write_report as write_pixel_report
from detection.segmentation.segmenter import Segmenter
from detection.segmentation.settings import SegmenterSettings
from detection.settings import DetectorSettings
from detection.tables import as_json
from detection.training.options import facts_of
from detection.weights import is_detector


class Losses(nn.Module):
    """A model as the module that is wrapped for several processes and compiled: (images, targets) -> losses."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Any, *counts: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.losses(images, targets, *counts)
        return losses


def compile_losses(model: Any, **how: Any) -> Losses:
    """The losses as one graph for each padded size, for any number of slots (``Targets.with_free_slots``).

    Sizes are not free: a graph for all of them takes minutes to trace and runs slower, and a planner of ``few_sizes``
    makes three at most.

    Args:
        model: a detector whose operators fit a graph (``COMPILED``), or a segmenter.
        **how: further arguments of ``torch.nn.Module.compile``, such as ``backend``.
    """
    losses_of = Losses(model)
    losses_of.compile(fullgraph=distributed.world_size() == 1, dynamic=False, **how)
    return losses_of


class _RunTask:
    """What tasks do alike.

    Args:
        options: resolved.
    """

    def __init__(self, options: Resolved) -> None:
        self.options = options

    def compiled(self, model: Any) -> nn.Module:
        """Its losses as graphs."""
        return compile_losses(model)


class DetectionTask(_RunTask):
    """Boxes, and masks, for each object.

    Attributes:
        shown, reported: marks of the log, on the way and at the end, and how it calls them.
        evaluation_batch: pictures at once.
        most_workers: each holds two batches ahead; more only fill the memory.
        many_passes: over the data; COCO's schedules see each image at most 60 times.
    """

    settings_class = DetectorSettings
    make, load, of = staticmethod(build_detector), staticmethod(load_detector), staticmethod(detector_of)
    starts_whole = staticmethod(is_detector)
    shown, reported = {"AP": "AP", "AP50": "AP50", "AP75": "AP75"}, ("AP", "AP50", "mask_AP")
    evaluation_batch, most_workers, many_passes = 8, 8, 200.0

    def compiled(self, model: Any) -> nn.Module:
        model.operators = COMPILED
        return super().compiled(model)

    def read(self, split: str, known: DetectionData | None = None) -> DetectionData:
        """A split, after the data check.

        Args:
            split: its name.
            known: the split to learn from, which names the classes; None where this is it.

        Raises:
            InputError: it is missing or has faulty files, or there is nothing to learn in it.
        """
        options, dataset = self.options, self.options.dataset
        classes = known.annotations.classes if known else None
        data = read_checked(dataset, split, classes, masks=options.masks, data_dir=options.data_dir)
        if known is None and not len(data.annotations.objects.labels):
            raise InputError(f"{dataset}: split {split} has no object to learn from")
        if known is None and options.masks and data.annotations.objects.masks is None:
            raise InputError(f"--masks: {dataset} has boxes only; leave --masks out")
        return data

    def pictures(self, data: DetectionData) -> DetectionData:
        """Names, sizes and pictures of a split."""
        return data

    def classes_of(self, data: DetectionData) -> dict[str, Any]:
        """The fields of the settings that the data decides."""
        return {"classes": data.annotations.classes, "category_ids": data.annotations.category_ids}

    def batches(self, data: DetectionData) -> TrainingBatches:
        """This process's parts of the batches, by step."""
        options = self.options
        planner = BatchPlanner(
            data.annotations.sizes, options.batch_size, options.seed, shorter=options.shorter, longer=options.longer,
            mirrored=data.mirrored, few_sizes=options.compile,
        )  # fmt: skip
        return TrainingBatches(
            data, planner, distributed.rank(), distributed.world_size(), learn_ignored=options.learn_ignored,
            masks=options.masks,
        )  # fmt: skip

    def measure(self, detector: Detector, val: DetectionData) -> dict[str, float]:
        """Marks on a split, the same on all processes."""
        found = detect_all(detector.predict_each, val, self.evaluation_batch)
        marks = score(found, val.annotations, self.options.eval_backend) if distributed.is_main() else None
        metrics: dict[str, float] = distributed.gather_objects(marks and marks.metrics)[0]
        return metrics

    def describe(self, data: DetectionData, detector: Detector) -> tuple[str, str]:
        """Data and model in words."""
        options = self.options
        branches = " with masks" * options.masks + " with global context" * options.context
        objects, classes = len(data.annotations.objects.labels), len(data.annotations.classes)
        return f"{objects} objects, {classes} classes", f"{options.backbone} {options.head.upper()}{branches}"

    def report(self, detector: Detector, run: RunFolder, val: DetectionData) -> dict[str, float]:
        """Metrics, report, and each class's score of the best F1, into the weights. Returns the marks."""
        options = self.options
        found = detect_all(detector.predict_each, val, self.evaluation_batch)
        if not distributed.is_main():
            return {}
        evaluation = score(found, val.annotations, options.eval_backend)
        thresholds = evaluation.best_thresholds
        diagnosis = diagnose(found, val.annotations, thresholds)
        store_thresholds(run.path, thresholds)
        run.write_metrics({"split": options.val_split, **as_json(evaluation, diagnosis.errors)})
        title = f"{options.backbone} {detector.settings.head.upper()} on {options.dataset}"
        write_report(run.report, title, evaluation, found, val, run.read_records(), facts_of(options), diagnosis)
        return evaluation.metrics


class SegmentationTask(_RunTask):
    """A class for each pixel; attributes and methods are those of ``DetectionTask``."""

    settings_class = SegmenterSettings
    make, load, of = staticmethod(build_segmenter), staticmethod(load_segmenter), staticmethod(segmenter_of)
    shown, reported = {"mIoU": "mIoU", "pixel_accuracy": "pixels"}, ("mIoU",)
    evaluation_batch, most_workers, many_passes = 4, 16, float("inf")  # enlarging whole pictures to crop them is slow

    def starts_whole(self, weights: FileContent) -> bool:
        """``--weights`` gives the backbone alone; a whole segmenter is what ``--init-from`` takes."""
        return False

    def read(self, split: str, known: SegmentationData | None = None) -> SegmentationData:
        dataset = self.options.dataset
        classes = known.classes if known else None
        data, faults = read_segmentation(dataset, split, classes, data_dir=self.options.data_dir)
        refuse_faulty_labels(faults, dataset)
        if known is None and not len(data):
            raise InputError(f"{dataset}: split {split} has no image to learn from")
        return data

    def pictures(self, data: SegmentationData) -> DetectionData:
        return data.images

    def classes_of(self, data: SegmentationData) -> dict[str, Any]:
        return {"classes": data.classes}

    def batches(self, data: SegmentationData) -> TrainingCrops:
        options = self.options
        planner = CropPlanner(
            data.images.annotations.sizes, options.batch_size, options.seed, side=options.crop,
            shorter=options.shorter, longer=options.longer, scales=options.scales, mirrored=data.images.mirrored,
        )  # fmt: skip
        return TrainingCrops(data, planner, distributed.rank(), distributed.world_size())

    def measure(self, segmenter: Segmenter, val: SegmentationData) -> dict[str, float]:
        return evaluate_segmenter(segmenter.predict_each, val, self.evaluation_batch).metrics

    def describe(self, data: SegmentationData, segmenter: Segmenter) -> tuple[str, str]:
        *_, stride = segmenter.backbone.out_strides.values()
        classes = f"{len(data.classes)} classes with the background"
        return classes, f"{self.options.backbone} FCN, output stride {stride}"

    def report(self, segmenter: Segmenter, run: RunFolder, val: SegmentationData) -> dict[str, float]:
        options = self.options
        marks = evaluate_segmenter(segmenter.predict_each, val, self.evaluation_batch)
        if distributed.is_main():
            run.write_metrics({"split": options.val_split, **marks.metrics, "per_class": marks.per_class})
            title, facts = f"{options.backbone} FCN on {options.dataset}", facts_of(options)
            write_pixel_report(run.report, title, marks, segmenter.predict_each, val, run.read_records(), facts)
        return marks.metrics


Task = DetectionTask | SegmentationTask


def task_of(options: Resolved) -> Task:
    """The task of the head that options name; without one it is a detector's."""
    segments = options.head is not None and HEADS[options.head].task == "segmentation"
    return SegmentationTask(options) if segments else DetectionTask(options)
