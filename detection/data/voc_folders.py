"""Where VOC files and their pictures lie: as PASCAL's, or in the looser folders that tools write."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from backbones.data.splits import made_part, seeded_split
from backbones.errors import InputError, did_you_mean
from backbones.images import SUFFIXES
from detection.data.layouts import refused
from detection.data.splits import words_for

PICTURES = ("JPEGImages", "images", "Images", "imgs", "img")


@dataclass(frozen=True)
class VocFiles:
    """One split.

    Attributes:
        root: the data set's folder.
        annotations: the folder of the XML files.
        pictures: the folder of the pictures.
        stems: names of the split's files, without their endings.
        made_split: the split was made.
        xml: file names by stem.
        names: picture file names by stem.
        unlabelled: file names of the split's pictures without an XML file of their name, where no list says which
            pictures there are.
    """

    root: Path
    annotations: Path
    pictures: Path
    stems: tuple[str, ...]
    made_split: bool
    xml: dict[str, str]
    names: dict[str, str]
    unlabelled: tuple[str, ...] = ()

    def xml_path(self, stem: str) -> Path:
        """Where an XML file lies, or should."""
        return self.annotations / self.xml.get(stem, f"{stem}.xml")

    def shown(self, path: Path) -> str:
        """A path as faults show it."""
        return path.relative_to(self.root).as_posix()

    def picture(self, stem: str, filename: str) -> str | None:
        """The picture of an XML file: the one of the same name, or else the one that its ``<filename>`` tells."""
        told = filename.replace("\\", "/").rpartition("/")[2]
        for name in (stem, told, told.rpartition(".")[0]):
            if name in self.names:
                return self.names[name]
        return told if told and told in self.names.values() else None


def find_voc(root: Path, split: str, masks: bool = False) -> VocFiles:
    """The files of a split.

    The split is ``ImageSets/Main/SPLIT.txt`` (of ``ImageSets/Segmentation`` for masks), or a folder ``SPLIT``; without
    either it is made. XML files lie in ``Annotations`` or another folder, or beside the pictures.

    Raises:
        InputError: the folder has another layout, or there is no such split.
    """
    own = {} if (root / "Annotations").is_dir() else _split_folders(root)
    if own and split not in own:
        raise InputError(f"{root}: no split {split!r}{did_you_mean(split, own)}; there are {', '.join(own)}")
    base = own.get(split, root)
    annotations = _xml_folder(base)
    if annotations is None:
        raise refused(root, "voc", "folder Annotations")
    xml = by_stem(annotations, (".xml",))
    listed = None if own else _listed(root, split, masks, xml)
    made = listed is None and not own
    stems = tuple(seeded_split(list(xml), split)) if made else listed or tuple(xml)
    pictures = _picture_folder(root, base, annotations)
    names = by_stem(pictures, SUFFIXES)
    spare = [stem for stem in names if stem not in xml] if listed is None else []
    unlabelled = tuple(names[stem] for stem in spare if not made or made_part(stem) == split)
    return VocFiles(root, annotations, pictures, stems, made, xml, names, unlabelled)


def _split_folders(root: Path) -> dict[str, Path]:
    """Folders that are named like splits and hold XML files."""
    found = ((split, root / word) for split in ("train", "val", "test") for word in words_for(split))
    return {split: folder for split, folder in found if _xml_folder(folder) is not None}


def _xml_folder(base: Path) -> Path | None:
    """The folder of the XML files: PASCAL's, even if it is empty, or another one that has some."""
    if not base.is_dir():
        return None
    names = sorted(path.name for path in base.iterdir())  # listed: some file systems take one case for the other
    if "Annotations" in names:
        return base / "Annotations"
    folders = (base, *(base / name for name in names if (base / name).is_dir()))
    return next((folder for folder in folders if by_stem(folder, (".xml",))), None)


def _picture_folder(root: Path, base: Path, annotations: Path) -> Path:
    folders = (*(base / name for name in PICTURES), annotations, base)
    for folder in folders:
        if folder.is_dir() and (folder.name == PICTURES[0] or by_stem(folder, SUFFIXES)):
            return folder
    raise refused(root, "voc", f"folder {PICTURES[0]}")


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """File names by stem; hidden files are none (copies from a Mac come with ``._NAME.jpg``)."""
    names = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(suffixes))
    return {name.rpartition(".")[0]: name for name in names if not name.startswith(".")}


def _listed(root: Path, split: str, masks: bool, xml: dict[str, str]) -> tuple[str, ...] | None:
    """The names that a list of ``ImageSets`` has, or None without such lists."""
    lists = root / "ImageSets" / "Main"
    if masks and (root / "ImageSets" / "Segmentation").is_dir():
        lists = root / "ImageSets" / "Segmentation"
    return read_list(lists, split, xml) if lists.is_dir() else None


def read_list(lists: Path, split: str, known: Container[str] = ()) -> tuple[str, ...]:
    """The names in ``SPLIT.txt``, without endings.

    Args:
        lists: a folder of ``ImageSets``.
        split: such as ``train``.
        known: names that may have spaces; of other lines the first word is taken.

    Raises:
        InputError: there is no such list, or it is no text.
    """
    path = next((lists / f"{word}.txt" for word in words_for(split) if (lists / f"{word}.txt").exists()), None)
    if path is None:
        there = sorted(item.stem for item in lists.glob("*.txt") if "_" not in item.stem)  # cat_train lists one class
        raise InputError(
            f"{lists / split}.txt: no such split{did_you_mean(split, there)}; there are {', '.join(there)}"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of names ({error})") from error
    names = (line.strip() if line.strip() in known else line.split()[0] for line in lines if line.strip())
    stems = (name.rpartition(".")[0] if name.lower().endswith((*SUFFIXES, ".xml")) else name for name in names)
    return tuple(dict.fromkeys(stems))
