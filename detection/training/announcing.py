"""What a run says before its first step."""

from __future__ import annotations

import logging

from backbones.running.run_folder import RunFolder
from detection.data.annotations import DetectionData
from detection.detector import Detector
from detection.training.job import make_schedule
from detection.training.options import TrainingOptions
from detection.training.recipes import REFERENCE_BATCH

logger = logging.getLogger("shortcut")
_MANY_PASSES = 200
"""COCO's schedules see each image at most 60 times."""


def announce(
    options: TrainingOptions, data: DetectionData, val: DetectionData | None, detector: Detector, run: RunFolder
) -> None:
    """Log data, model, and the batch and learning rate as they are used.

    Args:
        options: resolved.
        data, val: to train on, and to choose by.
        detector: ready for training.
        run: its folder.
    """
    logger.info("run folder: %s", run.path)
    logger.info(
        "data: %s, %d images, %d objects, %d classes; choosing by %s",
        data.name, len(data), len(data.annotations.objects.labels), len(data.annotations.classes),
        f"{options.metric} on {len(val)} images" if val and options.metric != "last" else "nothing",
    )  # fmt: skip
    learned = sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad)
    branches = " with masks" * options.masks + " with global context" * options.context
    logger.info(
        "model: %s %s%s, %.1f M learned parameters; recipe %s", options.backbone, str(options.head).upper(), branches,
        learned / 1e6, options.recipe,
    )  # fmt: skip
    _announce_schedule(options, len(data))


def _announce_schedule(options: TrainingOptions, images: int) -> None:
    assert options.batch_size is not None and options.images is not None
    schedule, batch = make_schedule(options), options.batch_size
    passes = options.images / images
    logger.info(
        "learning rate: %.4g (%.4g for %d images, scaled to %d); %s iterations, %s images, %.3g passes over the data",
        schedule.scaled_peak(batch), schedule.peak, REFERENCE_BATCH, batch, options.iterations, options.images, passes,
    )  # fmt: skip
    if options.accumulate > 1:
        logger.info("batch: %d images, computed in %d parts", batch, options.accumulate)
    if options.ema:
        logger.info("evaluated and kept: the moving average of the weights, decay %g", options.ema)
    if passes > _MANY_PASSES:
        logger.warning(
            "recipe %s sees each of these %d images %d times; --recipe quick is made for a few hundred",
            options.recipe, images, passes,
        )  # fmt: skip
