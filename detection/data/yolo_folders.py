"""Where YOLO's pictures, labels and class names lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.data.splits import seeded_split
from backbones.errors import InputError, did_you_mean
from backbones.images import SUFFIXES
from detection.data.layouts import refused
from detection.data.splits import words_for

CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_SPLITS = ("train", "val", "test")
_LARGEST = 5_000_000


@dataclass(frozen=True)
class YoloFiles:
    """One split.

    Attributes:
        pictures: their paths.
        classes: names by the number that labels call them.
        made_split: the split was made.
    """

    pictures: tuple[Path, ...]
    classes: dict[int, str]
    made_split: bool


def find_yolo(root: Path, split: str) -> YoloFiles:
    """The pictures of a split and the names of the classes.

    The split is what the YAML file names, a folder (``images/train``, ``train/images``, ``train``) or a list
    (``train.txt``); a folder without any split is divided.

    Raises:
        InputError: the folder has another layout, or there is no such split.
    """
    config = _read_config(root)
    classes = _class_names(root, config)
    sources = {name: source for name in _SPLITS if (source := _source(root, config, name))}
    if not sources:
        folder = root / "images" if (root / "images").is_dir() else root
        named = {path.relative_to(root).as_posix(): path for path in _pictures_below(folder)}
        if not named:
            raise refused(root, "yolo", "folder images")
        chosen = seeded_split(list(named), split)
        return YoloFiles(tuple(named[name] for name in chosen), classes, True)
    if split not in sources:
        raise InputError(f"{root}: no split {split!r}{did_you_mean(split, sources)}; there are {', '.join(sources)}")
    pictures = dict.fromkeys(path for source in sources[split] for path in _pictures_of(root, source))
    if not pictures:
        raise InputError(f"{sources[split][0]}: no pictures of split {split!r} ({', '.join(SUFFIXES)})")
    return YoloFiles(tuple(pictures), classes, False)


def label_path(picture: Path) -> Path:
    """The text file of a picture: in ``labels`` for one in ``images``, or beside it."""
    parts = list(picture.parent.parts)
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        beside = Path(*parts[:place], "labels", *parts[place + 1 :], f"{picture.stem}.txt")
        if beside.exists() or not picture.with_suffix(".txt").exists():
            return beside
    return picture.with_suffix(".txt")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        InputError: it is no text, or too large.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: larger than {_LARGEST} bytes")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error


def _read_config(root: Path) -> dict[str, Any]:
    """The YAML file of the folder that names classes, or nothing."""
    import yaml

    paths = [root / name for name in CONFIGS if (root / name).is_file()] or sorted(root.glob("*.y*ml"))
    for path in paths:
        text = "\n".join(read_lines(path))
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            raise InputError(f"{place}: not YAML ({getattr(error, 'problem', error)})") from error
        if isinstance(content, dict) and "names" in content:
            return content
    return {}


def _class_names(root: Path, config: dict[str, Any]) -> dict[int, str]:
    """Names by number.

    Raises:
        InputError: there are none, or a name is missing or occurs twice.
    """
    source = "the YAML file"
    names = config.get("names")
    if names is None:
        path = next((root / name for name in CLASS_LISTS if (root / name).is_file()), None)
        if path is None:
            raise refused(root, "yolo", "data.yaml or classes.txt")
        source, names = str(path), [line for line in read_lines(path) if line.strip()]
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    found = {}
    for number, name in pairs:
        if isinstance(name, bool):
            raise InputError(
                f"{root}: {source}: a class is named {name!r}; YAML takes yes, no, on and off so: quote it"
            )
        if type(number) is not int or number < 0 or not isinstance(name, str | int | float):
            raise InputError(f"{root}: {source}: names must be a list of names, or names by numbers from 0")
        found[number] = str(name).strip()
    twice = next((name for name in found.values() if list(found.values()).count(name) > 1), None)
    if not found or twice is not None:
        raise InputError(f"{root}: {source}: " + ("no class names" if not found else f"class {twice!r} occurs twice"))
    return dict(sorted(found.items()))


def _source(root: Path, config: dict[str, Any], split: str) -> tuple[Path, ...]:
    """The folders and lists that make up a split."""
    for word in words_for(split):
        entries = config.get(word)
        found = [_resolved(root, config, str(entry)) for entry in (entries if isinstance(entries, list) else [entries])]
        existing = tuple(path for path in found if path is not None)
        if entries and existing:
            return existing
        for folder in (root / "images" / word, root / word / "images", root / word):
            if _has_pictures(folder):
                return (folder,)
        if (root / f"{word}.txt").is_file():
            return (root / f"{word}.txt",)
    return ()


def _resolved(root: Path, config: dict[str, Any], entry: str) -> Path | None:
    """What a YAML file names, wherever its author's folder was (some write ``../train/images`` for what lies below)."""
    inside = entry
    while inside.startswith(("../", "./")):
        inside = inside.partition("/")[2]
    base = config.get("path")
    bases = [Path(base).expanduser(), root / base, root] if isinstance(base, str) else [root]
    candidates = [folder / path for folder in bases for path in (entry, inside)]
    return next((path for path in candidates if path.exists()), None)


def _pictures_of(root: Path, source: Path) -> Iterator[Path]:
    """Pictures of a folder, or of a list of paths."""
    if source.is_dir():
        yield from _pictures_below(source)
        return
    for line in read_lines(source):
        if line.strip():
            path = Path(line.strip())
            places = (source.parent / path, root / path)
            yield next((place for place in places if place.exists()), places[0])


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(_is_picture(path) for path in folder.rglob("*"))


def _pictures_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
