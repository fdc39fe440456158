"""The data check: what a data set holds, and which pictures cannot be read."""

from __future__ import annotations

import numpy as np

from backbones.errors import InputError
from detection.data.annotations import Annotations, DetectionData
from detection.data.faults import Fault


def describe(annotations: Annotations) -> list[str]:
    """Counts, a line each."""
    objects = annotations.objects
    per_image = np.diff(annotations.first)
    lines = [
        f"images            {len(annotations)}, {int((per_image == 0).sum())} of them without objects",
        f"objects           {len(objects.labels)}, {int(objects.ignored.sum())} of them crowds or difficult",
    ]
    if len(annotations):
        (least_h, least_w), (most_h, most_w) = annotations.sizes.min(0), annotations.sizes.max(0)
        lines.append(f"picture sizes     {least_w} x {least_h} to {most_w} x {most_h}")
    if len(objects.labels):
        sides = np.sqrt((objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1))
        low, middle, high = np.percentile(sides, (5, 50, 95))
        lines.append(f"object sizes      {middle:.0f} pixels in the median, {low:.0f} to {high:.0f} for nine of ten")
    counts = np.bincount(objects.labels, minlength=len(annotations.classes))
    width = max((len(name) for name in annotations.classes), default=0)
    return [*lines, *(f"  {name:<{width}}  {count}" for name, count in zip(annotations.classes, counts, strict=True))]


def check_pictures(data: DetectionData) -> list[Fault]:
    """Read every picture; those that cannot be read, or have another size than annotated."""
    faults = []
    for image in range(len(data)):
        try:
            data.pictures[image]
        except InputError as error:
            name = str(data.annotations.names[image])
            what = str(error)
            faults.append(Fault(name, what.split(f"{name}: ", 1)[-1], "file"))
    return faults
