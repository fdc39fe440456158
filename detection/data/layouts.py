"""What a folder of detection data looks like, for the message where it is another than asked for."""

from __future__ import annotations

from pathlib import Path

from backbones.errors import InputError

MARKS = {"voc": "Annotations", "coco": "annotations"}
TITLES = {"voc": "VOC", "coco": "COCO"}
_EXPECTED = {
    "voc": "name the folder that holds Annotations, ImageSets and JPEGImages",
    "coco": "name the folder that holds annotations/*.json and the pictures",
}


def refused(root: Path, layout: str, missing: str) -> InputError:
    """The error for a folder that lacks a part of its layout, with the name that fits if there is one near."""
    found = name_near(root)
    advice = f"did you mean --dataset {found}?" if found and found != f"{layout}:{root}" else _EXPECTED[layout]
    return InputError(f"{root}: not in {TITLES[layout]} layout (there is no folder {missing}); {advice}")


def name_near(root: Path) -> str | None:
    """``voc:DIR`` or ``coco:DIR`` for this folder, the one above it, or the only one that fits below it."""
    for folder in (root, root.parent):
        if name := _name_of(folder):
            return name
    below = [name for folder in sorted(root.iterdir()) if (name := _name_of(folder))]
    return below[0] if len(below) == 1 else None


def _name_of(folder: Path) -> str | None:
    if not folder.is_dir():
        return None
    try:
        names = {path.name for path in folder.iterdir()}  # listed: some file systems take one case for the other
    except OSError:
        return None
    return next((f"{layout}:{folder}" for layout, mark in MARKS.items() if mark in names), None)
