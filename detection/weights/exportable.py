"""Settings that every engine can run, for detectors that were trained with others."""

from __future__ import annotations

from dataclasses import replace

from detection.settings import DetectorSettings, InputSettings, PoolSettings

SAMPLES = 2
"""Along each side of a bin, as torchvision and this project take them."""


def exportable_settings(settings: DetectorSettings) -> DetectorSettings:
    """The nearest settings that an exported graph can have.

    RoIAlign with as many samples as a region has pixels becomes RoIAlign with a fixed number, and pictures are padded
    to multiples of 32, which detectron2's C4 detectors leave as they are.
    """
    masks = settings.masks
    return replace(
        settings,
        input=replace(settings.input, multiple=max(settings.input.multiple, InputSettings().multiple)),
        pool=_fixed(settings.pool),
        masks=masks and replace(masks, pool=_fixed(masks.pool)),
    )


def _fixed(pool: PoolSettings) -> PoolSettings:
    return pool if pool.sampling_ratio else replace(pool, sampling_ratio=SAMPLES)
