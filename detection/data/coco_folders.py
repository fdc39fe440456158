"""Where COCO files and their pictures lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError, did_you_mean
from detection.data.layouts import refused
from detection.data.splits import names_a_split, words_for

ROBOFLOW = "_annotations.coco.json"
_SAMPLE = 20


@dataclass(frozen=True)
class CocoFiles:
    """One split.

    Attributes:
        path: the JSON file.
        made_split: it holds all pictures, and the split is to be made.
        folders: where its pictures may lie, the likeliest first.
    """

    path: Path
    made_split: bool
    folders: tuple[Path, ...]

    def picture_folder(self, names: Sequence[str]) -> Path:
        """The folder that has the first pictures, or else the first that exists."""
        existing = [folder for folder in self.folders if folder.is_dir()]
        fitting = (folder for folder in existing if any((folder / name).exists() for name in names[:_SAMPLE]))
        return next(fitting, existing[0])


def find_coco(root: Path, split: str) -> CocoFiles:
    """The JSON file of a split: ``annotations/instances_SPLIT.json`` or ``SPLIT/_annotations.coco.json``.

    A file's name may be longer than the split's (``train`` finds ``instances_train2017.json``). A folder with one file
    that is named like no split is divided.

    Raises:
        InputError: the folder has another layout, or there is no such split.
    """
    there = dict(_annotation_files(root))
    if not there and not (root / "annotations").is_dir():
        raise refused(root, "coco", "folder annotations")
    words = words_for(split)
    fitting = [name for name in there if name in words] or [name for name in there if name.startswith(words)]
    whole = len(there) == 1 and not names_a_split(next(iter(there)))
    if len(fitting) != 1 and not (whole and split in ("train", "val")):
        listing = ", ".join(there) or "none"
        raise InputError(f"{root}: no split {split!r}{did_you_mean(split, there)}; there are {listing}")
    name = fitting[0] if fitting else next(iter(there))
    path = there[name]
    if path.name == ROBOFLOW:
        return CocoFiles(path, False, (path.parent,))
    folders = (root / name, root / "images" / name, root / "images", root / "data", root)
    return CocoFiles(path, not fitting, folders)


def _annotation_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Files by the name of their split; beside COCO's instances lie captions and key points, which are not meant."""
    folder = root / "annotations" if (root / "annotations").is_dir() else root
    files = sorted(folder.glob("*.json"))
    instances = [path for path in files if path.name.startswith("instances_")]
    for path in instances or files:
        yield path.stem.removeprefix("instances_"), path
    for path in sorted(root.glob(f"*/{ROBOFLOW}")):
        yield path.parent.name, path
