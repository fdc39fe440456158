"""Optimization profiles: the ranges of shapes for which an engine is built, one profile for each scale of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbones.errors import InputError
from backbones.metadata import ModelMetadata
from detection.settings import InputSettings

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

CLASSIFICATION_SCALES = (224, 256, 384, 480, 640)
"""Shorter sides of section 3.4's dense test, and 256, the side before the central crop."""
DETECTION_SCALES = (200, 400, 600, 800, 1000)
"""Shorter sides of appendix B's test at several scales."""
LONGEST_RATIO = 2
"""A classifier's pictures may be so many times as long as they are wide; longer ones have a profile of their own."""
LONGEST_SIDE = 4096
"""The limit of exported graphs."""
_OWN_CLASSIFICATION, _OWN_DETECTION = 224, 800


@dataclass(frozen=True)
class Profile:
    """For each input the smallest, the usual and the largest shape.

    Attributes:
        name: for people: ``s800`` is for a shorter side of 800.
        min, opt, max: by input name. Kernels are chosen for ``opt`` and hold from ``min`` to ``max``.

    Raises:
        InputError: they name different inputs, differ in rank, or are not in order.
    """

    name: str
    min: Shapes
    opt: Shapes
    max: Shapes

    def __post_init__(self) -> None:
        if not self.min.keys() == self.opt.keys() == self.max.keys():
            raise InputError(f"profile {self.name}: min, opt and max must name the same inputs")
        for key, low in self.min.items():
            usual, high = self.opt[key], self.max[key]
            if not len(low) == len(usual) == len(high):
                raise InputError(f"profile {self.name}: {key}: {low}, {usual} and {high} differ in rank")
            if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
                raise InputError(f"profile {self.name}: {key}: needs min <= opt <= max, got {low}, {usual}, {high}")

    def holds(self, shapes: Shapes) -> bool:
        """Whether inputs of these shapes lie in its range."""
        return shapes.keys() == self.min.keys() and all(
            len(shape) == len(self.min[name])
            and all(a <= side <= b for a, side, b in zip(self.min[name], shape, self.max[name], strict=True))
            for name, shape in shapes.items()
        )

    @property
    def volume(self) -> int:
        """Elements of its largest inputs: what its memory grows with."""
        return sum(math.prod(shape) for shape in self.max.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ranges = {"min": self.min, "opt": self.opt, "max": self.max}
        return {"name": self.name} | {
            key: {name: list(shape) for name, shape in shapes.items()} for key, shapes in ranges.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """The inverse of ``to_dict``."""
        ranges = ({name: tuple(shape) for name, shape in values[key].items()} for key in ("min", "opt", "max"))
        return cls(values["name"], *ranges)


def tightest(profiles: Sequence[Profile], shapes: Shapes) -> int | None:
    """The place of the smallest profile that holds these shapes, or None."""
    fitting = [(profile.volume, number) for number, profile in enumerate(profiles) if profile.holds(shapes)]
    return min(fitting)[1] if fitting else None


def largest_part(profiles: Sequence[Profile], shapes: Shapes) -> int:
    """How many pictures of a batch some profile takes at once: all, fewer, or 0 where none takes even one of this size.

    The batch is the first dimension of every input.
    """
    batch = next(iter(shapes.values()))[:1]
    if not batch:
        return 0
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    most = max((next(iter(p.max.values()))[0] for p in profiles if p.holds(one)), default=0)
    return min(batch[0], most)


def profiles_for(
    inputs: Shapes, metadata: ModelMetadata, scales: Sequence[int] = (), max_batch: int = 8, usual_batch: int = 1
) -> tuple[Profile, ...]:
    """One profile for each scale of pictures that a model is used at.

    Args:
        inputs: shapes of the graph's inputs, with -1 for free dimensions; ``images`` is [B, H, W, 3].
        metadata: of the exported model.
        scales: shorter sides; by default the paper's where they surround the model's own side (which joins them), else
            the paper's in proportion to it.
        max_batch: the largest batch.
        usual_batch: the batch that kernels are chosen for.

    Raises:
        InputError: a scale or a batch makes no sense, or an input has a free dimension that pictures do not explain.
    """
    if not 1 <= usual_batch <= max_batch:
        raise InputError(f"--usual-batch {usual_batch} and --max-batch {max_batch}: needs 1 <= usual <= max")
    if metadata.exported and metadata.exported.views:
        return (_every_view(inputs, metadata, (1, usual_batch, max_batch)),)
    height, width = inputs["images"][1:3]
    if height > 0 and width > 0:
        sides = [("fixed", (height, width), (height, width), (height, width))]
    else:
        sides = [(f"s{scale}", *ranges) for scale, *ranges in _side_ranges(metadata, scales)]
    built = []
    if metadata.task == "classification" and sides[0][0] != "fixed":
        sides.append(_one_long_picture(sides[-1], max_batch))
    for name, *ranges in sides:
        batches = (1, 1, 1) if name == "long" else (1, usual_batch, max_batch)
        shapes = [
            {key: _filled(key, shape, batch, side) for key, shape in inputs.items()}
            for batch, side in zip(batches, ranges, strict=True)
        ]
        built.append(Profile(name, *shapes))
    return tuple(built)


def _every_view(inputs: Shapes, metadata: ModelMetadata, batches: tuple[int, int, int]) -> Profile:
    """One profile for a detector that takes each picture at several sizes: every input ranges around its own side."""
    own = InputSettings.of(metadata).shorter
    filled: tuple[dict[str, Shape], ...] = ({}, {}, {})
    for key, shape in inputs.items():
        kind, _, side = key.partition("_")
        ((_, *ranges),) = _side_ranges(metadata, (int(side or own),))
        for shapes, batch, sides in zip(filled, batches, ranges, strict=True):
            shapes[key] = _filled(kind, shape, batch, sides)
    return Profile("views", *filled)


def _side_ranges(metadata: ModelMetadata, scales: Sequence[int]) -> list[tuple[Any, ...]]:
    """(scale, smallest, usual, largest) heights and widths. Either side may be the longer one."""
    if metadata.task == "classification":
        size = metadata.input.size if metadata.input else None
        own = min(size) if size else _OWN_CLASSIFICATION
        chosen = scales or _scales_around(own, CLASSIFICATION_SCALES, _OWN_CLASSIFICATION)
        multiple, smallest, ratio = 1, max(own // 7, 1), float(LONGEST_RATIO)  # a 32nd of 224 is 7
    else:
        sides = InputSettings.of(metadata)
        own, multiple = sides.shorter, sides.multiple
        chosen = scales or _scales_around(own, DETECTION_SCALES, _OWN_DETECTION)
        smallest, ratio = multiple, sides.longer / own
    if min(chosen) < smallest:
        raise InputError(
            f"--profile-scales {min(chosen)}: too small for this model, which sees at least {smallest} pixels"
        )

    def up(side: float) -> int:
        return math.ceil(side / multiple) * multiple

    return [
        (side, (smallest, smallest), (up(side), up(side * min(4 / 3, ratio))), (up(side * max(ratio, 1)),) * 2)
        for side in sorted(set(chosen))
    ]


def _one_long_picture(largest: tuple[Any, ...], max_batch: int) -> tuple[Any, ...]:
    """A batch of one, with as many pixels as the largest profile has in all: panoramas, in no more memory."""
    _, smallest, usual, most = largest
    side = min(int(max(most) * math.sqrt(max_batch)), LONGEST_SIDE)
    return ("long", smallest, usual, (side, side))


def _scales_around(own: int, scales: Sequence[int], standard: int) -> tuple[int, ...]:
    if scales[0] <= own <= scales[-1]:
        return tuple(sorted({*scales, own}))
    return tuple(round(scale * own / standard) for scale in scales)


def _filled(name: str, shape: Shape, batch: int, side: tuple[int, int]) -> Shape:
    """A shape with its free dimensions filled: the batch in front, height and width of pictures behind it."""
    sides = (batch, *side) if name == "images" else (batch,)
    filled = tuple(
        known if known >= 0 else sides[axis] if axis < len(sides) else -1 for axis, known in enumerate(shape)
    )
    if -1 in filled:
        raise InputError(
            f"input {name} {list(shape)}: dimension {filled.index(-1)} is free, and no scale says how long"
        )
    return filled
