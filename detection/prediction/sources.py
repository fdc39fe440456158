"""Which files a command line means: names, folders, patterns and lists, each file once."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.images import SUFFIXES

logger = logging.getLogger("shortcut")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif")
STANDARD_INPUT = "-"
_LONGEST = 200
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """A file to detect in.

    Attributes:
        path: where it is.
        name: its place below the folder or pattern that was given; its file name, if it was given itself.
        stem: ``name`` without suffix, numbered where an earlier file has the same; what is made of it is called so.
    """

    path: Path
    name: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """A video, by its name."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


class _Collection:
    """Sources without repetition, and what could not be found."""

    def __init__(self, output: Path) -> None:
        self.sources: list[Source] = []
        self.faults: list[InputError] = []
        self._given_output, self._output = output, Path(os.path.realpath(output))
        self._files: set[Path] = set()
        self._stems: set[str] = set()

    def add(self, entry: str) -> None:
        """A name of the command line or of a list."""
        path = Path(entry)
        if _is_folder(path):
            self._add_all(self._walk(path, set()), path, f"{entry}: no pictures or videos in this folder", entry)
        elif os.path.lexists(path) or not _MAGIC.search(entry):
            self._add_file(path, Path(path.name))
        else:
            try:
                root, matches = _match(entry)
            except (ValueError, NotImplementedError, re.error) as error:
                self.faults.append(InputError(f"{entry}: not a pattern ({error})"))
                return
            self._add_all(matches, root, f"{entry}: no pictures or videos match this pattern", entry)

    def _add_all(self, files: Iterable[Path], root: Path, nothing: str, entry: str) -> None:
        if Path(os.path.realpath(root)) == self._output:
            raise InputError(f"--output {self._given_output}: this folder is read; choose another, or one within it")
        files = [file for file in files if not self._is_output(file, root)]
        chosen = [file for file in files if _is_known(file)]
        _say_unread(entry, [file for file in files if not _is_known(file) and _is_file(file)])
        if not chosen:
            self.faults.append(InputError(nothing))
        for file in chosen:
            self._add_file(file, file.relative_to(root))

    def _add_file(self, path: Path, name: Path) -> None:
        # Links to one file are several pictures; several ways to one link are not.
        place = Path(os.path.realpath(path.parent)) / path.name
        if place in self._files:
            return
        self._files.add(place)
        if _is_file(path):
            self.sources.append(Source(path, name, self._distinct_stem(name)))
        else:
            self.faults.append(InputError(f"{path}: {'not a file' if os.path.lexists(path) else 'no such file'}"))

    def _distinct_stem(self, name: Path) -> Path:
        plain = stem = name.with_name(_shortened(name.stem))
        number = 2
        while str(stem).casefold() in self._stems:  # some file systems take A.png for a.png
            stem, number = plain.with_name(f"{plain.name}-{number}"), number + 1
        self._stems.add(str(stem).casefold())
        return stem

    def _walk(self, folder: Path, entered: set[str]) -> Iterator[Path]:
        """The files below a folder; links are followed, no folder is entered twice, hidden ones never."""
        place = os.path.realpath(folder)
        if place in entered:
            return
        entered.add(place)
        try:
            entries = sorted(folder.iterdir(), key=_natural_order)
        except OSError as error:
            self.faults.append(InputError(f"{folder}: {error.strerror}"))
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from self._walk(entry, entered)
            else:
                yield entry

    def _is_output(self, file: Path, root: Path) -> bool:
        """A picture that an earlier run drew, in an output folder within the one that is read."""
        within = Path(os.path.realpath(root)) in self._output.parents
        return within and Path(os.path.realpath(file.parent)).is_relative_to(self._output)


def find_sources(entries: Sequence[str], listing: str | None, output: Path) -> tuple[list[Source], list[InputError]]:
    """The files that are meant, in the order given; folders and patterns in natural order (2 before 10).

    Args:
        entries: files, folders (searched through), patterns (``**`` for any depth), ``-`` for names on standard input.
        listing: a file of such names, or ``-``.
        output: the folder to write to; what lies in it is no input, where a folder around it is searched.

    Files of folders and patterns that are of no kind that is read are counted in a line of the log.

    Returns:
        The files, and what does not exist.

    Raises:
        InputError: no name is given, the listing cannot be read, or the output would lie among what is read.
    """
    collection = _Collection(output)
    names = [*entries, *([] if listing is None else _read_names(listing))]
    for entry in names:
        for name in _read_names(STANDARD_INPUT) if entry == STANDARD_INPUT else [entry]:
            collection.add(name)
    if not names:
        raise InputError("nothing to detect in: name pictures, videos, folders, patterns, or a --list")
    return collection.sources, collection.faults


def _say_unread(entry: str, files: Sequence[Path]) -> None:
    """How many files of a folder or pattern are of no kind that is read, by suffix, the most frequent first."""
    suffixes = Counter(file.suffix.lower() or "no suffix" for file in files)
    if suffixes:
        listed = ", ".join(f"{suffix} {count}" for suffix, count in suffixes.most_common())
        logger.warning("%s: %d file%s not read (%s)", entry, len(files), " is" if len(files) == 1 else "s are", listed)


def _shortened(name: str) -> str:
    """A file name that leaves room for longer suffixes; file systems take 255 bytes."""
    return os.fsencode(name)[:_LONGEST].decode(sys.getfilesystemencoding(), "ignore") if len(name) > 50 else name


def _read_names(listing: str) -> list[str]:
    """Names from a file or from standard input, one on each line, or ended by zeros as ``find -print0`` does."""
    try:
        data = sys.stdin.buffer.read() if listing == STANDARD_INPUT else Path(listing).read_bytes()
    except OSError as error:
        raise InputError(f"--list {listing}: {error.strerror}") from error
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if not names:
        raise InputError(f"{'standard input' if listing == STANDARD_INPUT else f'--list {listing}'} names no files")
    return names


def _match(pattern: str) -> tuple[Path, list[Path]]:
    """The folder before a pattern's first wildcard, and the files below it that match."""
    parts = Path(pattern).parts
    first = next(place for place, part in enumerate(parts) if _MAGIC.search(part))
    root = Path(*parts[:first])
    found = sorted(root.glob(str(Path(*parts[first:]))), key=_natural_order)
    return root, [path for path in found if not _is_hidden(path.relative_to(root))]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (unlike Path.is_dir it raises for no name, however long or looped)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (as above)


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _natural_order(path: Path) -> tuple[Any, ...]:
    """A key that orders by the parts of a path, and numbers in them by value."""
    parts = [
        [
            (0, int(piece), "") if piece.isascii() and piece.isdigit() else (1, 0, piece.casefold())
            for piece in re.split(r"([0-9]+)", part)
        ]
        for part in path.parts
    ]
    return parts, str(path)
