"""What a folder of detection data looks like, for the message where it is another than asked for."""

from __future__ import annotations

from pathlib import Path

from backbones.errors import InputError

_MARKS = (
    ("voc", "Annotations"), ("voc", "annotations/*.xml"), ("coco", "annotations"), ("coco", "*/_annotations.coco.json"),
    ("yolo", "data.yaml"), ("yolo", "data.yml"), ("yolo", "classes.txt"), ("voc", "*.xml"), ("voc", "*/*.xml"),
    ("yolo", "labels"),
)  # fmt: skip
"""What a layout is recognised by; the surest first."""
_TITLES = {"voc": "VOC", "coco": "COCO", "yolo": "YOLO"}
_EXPECTED = {
    "voc": "name the folder that holds Annotations, ImageSets and JPEGImages, or pictures and XML files",
    "coco": "name the folder that holds annotations/*.json and the pictures",
    "yolo": "name the folder that holds images, labels and data.yaml (or classes.txt with one name a line)",
}


def refused(root: Path, layout: str, missing: str) -> InputError:
    """The error for a folder that lacks a part of its layout, with the name that fits if there is one near."""
    found = name_near(root)
    advice = f"did you mean --dataset {found}?" if found and found != f"{layout}:{root}" else _EXPECTED[layout]
    return InputError(f"{root}: not in {_TITLES[layout]} layout (there is no {missing}); {advice}")


def name_near(root: Path) -> str | None:
    """``voc:DIR``, ``coco:DIR`` or ``yolo:DIR`` for this folder, the one above it, or the only one that fits below."""
    for folder in (root, root.parent):
        if name := _name_of(folder, loosely=folder == root):
            return name
    below = [name for folder in sorted(root.iterdir()) if (name := _name_of(folder, loosely=False))]
    return below[0] if len(below) == 1 else None


def _name_of(folder: Path, loosely: bool) -> str | None:
    """The layout by the names in a folder; ``loosely`` also by the files in it and in folders below."""
    if not folder.is_dir():
        return None
    try:
        names = {path.name for path in folder.iterdir()}  # listed: some file systems take one case for the other
        for layout, mark in _MARKS:
            if mark in names or ("*" in mark and loosely and next(folder.glob(mark), None)):
                return f"{layout}:{folder}"
    except OSError:
        return None
    return None
