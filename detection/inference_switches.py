"""What can be set at test time, in place of what a detector was trained with: the options of evaluate and predict."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from backbones.errors import InputError
from backbones.running.command_line import OutputOptions, option
from detection.settings import DetectorSettings

_GROUP = "test time"


@dataclass(frozen=True, kw_only=True)
class Switches(OutputOptions):
    """Improvements of appendix B and today's alternatives. None leaves what the detector's own settings say."""

    refine: bool | None = option(None, "box refinement (by default as the model says)", group=_GROUP)
    vote: float | None = option(None, "box voting among boxes with this IoU; 0 for none", group=_GROUP, metavar="IOU")
    maxout: tuple[int, ...] | None = option(
        None, "merge features of the two fitting of these shorter sides; the paper's: 200 400 600 800 1000",
        group=_GROUP, metavar="SIDE",
    )  # fmt: skip
    scales: tuple[int, ...] | None = option(
        None, "pool the detections of these shorter sides", group=_GROUP, metavar="SIDE"
    )
    flip: bool | None = option(None, "the mirror image too", group=_GROUP)
    soft_nms: float | None = option(None, "soft suppression of this width; 0 for hard", group=_GROUP, metavar="SIGMA")
    nms: float | None = option(None, "suppress boxes of one class that overlap more", group=_GROUP, metavar="IOU")
    max_detections: int | None = option(None, "of each picture", group=_GROUP)
    test_shorter: int | None = option(None, "the shorter side, in pixels", group=_GROUP)

    def given_switches(self) -> list[str]:
        """The flags of what is set."""
        names = (item.name for item in fields(Switches) if item.metadata.get("group") == _GROUP)
        return ["--" + name.replace("_", "-") for name in names if getattr(self, name) is not None]


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
    ranges: dict[str, tuple[Any, float, float]] = {
        "--vote": (switches.vote, 0.0, 1.0),
        "--soft-nms": (switches.soft_nms, 0.0, 1e3),
        "--nms": (switches.nms, 0.0, 1.0),
        "--max-detections": (switches.max_detections, 1, 10_000),
        "--test-shorter": (switches.test_shorter, 32, 10_000),
    }
    sides = {"--maxout": switches.maxout, "--scales": switches.scales}
    each = [(flag, (side, 32, 10_000)) for flag, values in sides.items() for side in values or ()]
    for flag, (value, least, most) in [*ranges.items(), *each]:
        if value is not None and not least <= value <= most:
            raise InputError(f"{flag} {value:g}: must lie in {least:g} to {most:g}")
