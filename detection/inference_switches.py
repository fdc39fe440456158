"""What can be set at test time, in place of what a detector was trained with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from backbones.errors import InputError
from detection.settings import DetectorSettings


@dataclass(frozen=True)
class Switches:
    """Values that replace fields of ``DetectorSettings.output`` and ``.input``; None leaves them.

    Attributes:
        refine: box refinement.
        vote: IoU of box voting, 0 for none.
        soft_nms: width of soft suppression's Gaussian, 0 for hard suppression.
        nms: IoU above which the weaker of two boxes of one class goes.
        max_detections: of each image.
        test_shorter: the shorter side, in pixels.
    """

    refine: bool | None = None
    vote: float | None = None
    soft_nms: float | None = None
    nms: float | None = None
    max_detections: int | None = None
    test_shorter: int | None = None

    def given(self) -> list[str]:
        """The flags of what is set."""
        names = (item.name for item in fields(self) if getattr(self, item.name) is not None)
        return ["--" + name.replace("_", "-") for name in names]


def with_switches(settings: DetectorSettings, switches: Switches) -> DetectorSettings:
    """The settings with what is switched.

    The longer side's limit grows with the shorter side, so that shapes are cut as before.

    Raises:
        InputError: a value out of its range.
    """
    _check(switches)
    output: dict[str, Any] = {
        "refine": switches.refine,
        "vote": switches.vote,
        "soft": switches.soft_nms,
        "nms_threshold": switches.nms,
        "max_detections": switches.max_detections,
    }
    sizes = settings.input
    if switches.test_shorter is not None:
        longer = round(sizes.longer * switches.test_shorter / sizes.shorter)
        sizes = replace(sizes, shorter=switches.test_shorter, longer=longer)
    changed = {name: value for name, value in output.items() if value is not None}
    return replace(settings, input=sizes, output=replace(settings.output, **changed))


def _check(switches: Switches) -> None:
    """Comparisons are such that not-a-number fails them."""
    ranges = {
        "--vote": (switches.vote, 0.0, 1.0),
        "--soft-nms": (switches.soft_nms, 0.0, 1e3),
        "--nms": (switches.nms, 0.0, 1.0),
        "--max-detections": (switches.max_detections, 1, 10_000),
        "--test-shorter": (switches.test_shorter, 32, 10_000),
    }
    for flag, (value, least, most) in ranges.items():
        if value is not None and not least <= value <= most:
            raise InputError(f"{flag} {value:g}: must lie in {least:g} to {most:g}")
