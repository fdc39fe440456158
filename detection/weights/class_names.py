"""Classes that other projects' files mean without naming them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from detection.data.named import VOC_CLASSES


@dataclass(frozen=True)
class ClassNames:
    """The classes of a detector, in the order of its labels.

    Attributes:
        names: of them.
        category_ids: by which annotation files call them.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Of the 90 ids of COCO's categories those that no object has."""

COCO = ClassNames(
    (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
        "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
        "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
        "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
        "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
        "hair drier", "toothbrush",
    ),
    tuple(number for number in range(1, 91) if number not in COCO_UNUSED_IDS),
)  # fmt: skip


def numbered(names: tuple[str, ...]) -> ClassNames:
    """Names whose ids are 1, 2, ..., as files with one class after another have them."""
    return ClassNames(names, tuple(range(1, len(names) + 1)))


VOC = numbered(VOC_CLASSES)


def unknown(count: int) -> ClassNames:
    """Names "class 1", "class 2", ..., where a file is all there is."""
    return numbered(tuple(f"class {number}" for number in range(1, count + 1)))
