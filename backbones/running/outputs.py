"""Where a command writes. Every name is decided here, before work starts, so that no file is lost to a slip.

- A file's name ends as its kind does; a folder given in its place takes the file under its usual name.
- What the command reads is never written over, under whatever name, link or hard link it is given.
- A file that exists is replaced if the same kind of command wrote it earlier; any other only with ``--overwrite``, and
  within data that is read not even then. What a run folder keeps of its training counts as any other.
- Two outputs of one command have two names, and folders on the way are made, not replaced.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from backbones.errors import InputError
from backbones.running.atomic_write import write_json
from backbones.running.known_files import never

Options = TypeVar("Options")
RUN_CONFIG, WEIGHTS, STATE = "config.yaml", "model.safetensors", "last.pt"
RUN_FILES = (RUN_CONFIG, "env.json", "metrics.jsonl", "metrics.json", "log.txt", "report.html", WEIGHTS, STATE)
RECORD = ".outputs.json"
"""In a folder of outputs: the names that commands of ours wrote there."""


@dataclass(frozen=True)
class Kind:
    """A kind of file that commands write.

    Attributes:
        name: its usual one, which says how names end: ``metrics.json``.
        made_here: whether a file that exists is one that the same kind of command wrote.
        beside: another file that goes with it, as its suffix (in the place of the own one) and its ``made_here``.
    """

    name: str
    made_here: Callable[[Path], bool]
    beside: tuple[str, Callable[[Path], bool]] | None = None

    @property
    def suffix(self) -> str:
        """``.json``."""
        return Path(self.name).suffix

    def named(self, flag: str, given: str | Path) -> Path:
        """The file that is meant: as given, or under the usual name in the folder that is given.

        Raises:
            InputError: the name ends otherwise.
        """
        path = Path(given)
        if path.is_dir() or str(given).endswith(os.sep):
            return path / self.name
        if path.suffix != self.suffix:  # readers know files by it, and x.JSON would be none
            raise InputError(f"{flag} {given}: give a name that ends in {self.suffix}")
        return path


class Outputs:
    """The names that one command writes.

    Args:
        reads: files that it reads; a run folder stands for its weights. What is no file (a published name, None) counts
            for nothing.
        data: folders, files or ``layout:FOLDER`` in which all is read.
        overwrite: files of others may be replaced.
    """

    def __init__(
        self, reads: Iterable[str | Path | None] = (), data: Iterable[str | None] = (), overwrite: bool = False
    ) -> None:
        self._data = [Path(part) for given in data if given for part in (given, given.partition(":")[2]) if part]
        named = [Path(given) for given in reads if given]
        files = [path / WEIGHTS if path.is_dir() else path for path in named]
        self._read = {_identity(path) for path in (*files, *self._data) if path.is_file()}
        self._overwrite = overwrite
        self._decided: dict[str, str] = {}

    def file(self, flag: str, given: str | Path, kind: Kind) -> Path:
        """The name of one file; that beside it is checked too.

        Args:
            flag: that asks for it.
            given: its value.
            kind: of the file.

        Raises:
            InputError: the name cannot or must not be written.
        """
        path = kind.named(flag, given)
        self.check(flag, path, kind.made_here)
        if kind.beside:
            self.check(flag, path.with_suffix(kind.beside[0]), kind.beside[1])
        return path

    def folder(self, flag: str, given: str | Path, names: Iterable[str] = ()) -> Path:
        """A folder for files of certain names; others that lie in it stay.

        Args:
            flag: that asks for it.
            given: its value.
            names: of what will be written in it; with a slash at the end, folders that are written as a whole.

        Raises:
            InputError: it is no folder, or one of the names must not be written.
        """
        folder = _folder(flag, given)
        known = set(_recorded(folder))
        for name in names:
            self.check(flag, folder / name, (lambda _: True) if name in known else never, whole=name.endswith("/"))
        return folder

    def new_folder(self, flag: str, given: str | Path) -> Path:
        """A folder that is new or empty, but for hidden files; any other only with ``--overwrite``.

        Raises:
            InputError: it is no folder, or something lies in it.
        """
        folder = _folder(flag, given)
        entries = sorted(folder.iterdir()) if folder.exists() else []
        found = [entry.name for entry in entries if not entry.name.startswith(".")]
        if found and not self._overwrite:
            raise InputError(
                f"{flag} {given}: holds {found[0]}{' and more' if len(found) > 1 else ''}, and is no run; choose a new "
                "or an empty folder, or write into this one with --overwrite"
            )
        for name in RUN_FILES:
            self._refuse_read(flag, folder / name)
        return folder

    def check(self, flag: str, path: Path, made_here: Callable[[Path], bool], whole: bool = False) -> None:
        """Decide one name; ``whole`` for a folder.

        Raises:
            InputError: it cannot or must not be written.
        """
        place = os.path.realpath(path)
        if place in self._decided:
            raise InputError(f"{flag} {path}: {self._decided[place]} writes there too; give them different names")
        self._decided[place] = flag
        _check_way(flag, path, path.parents)
        if not os.path.lexists(path):
            return
        if path.is_dir() != whole:
            raise InputError(f"{flag} {path}: is a {'file' if whole else 'folder'}; choose another {flag}")
        self._refuse_read(flag, path)
        if whole and not any(path.iterdir()):
            return
        if made_here(path) and not _belongs_to_run(path):
            return
        if not self._overwrite:
            raise InputError(
                f"{flag} {path}: exists, and this command did not write it; choose another {flag}, or replace it with "
                "--overwrite"
            )
        if any(folder in Path(place).parents for folder in map(Path.resolve, self._data)):
            raise InputError(f"{flag} {path}: lies in the data that is read; choose another {flag}")

    def _refuse_read(self, flag: str, path: Path) -> None:
        if path.is_file() and _identity(path) in self._read:
            raise InputError(f"{flag} {path}: is read by this command; choose another {flag}")


def output_files(
    options: Options, *, reads: Iterable[str | Path | None] = (), data: Iterable[str | None] = (), **kinds: Kind
) -> Options:
    """The options of a command with the names of its files decided.

    Args:
        options: with ``overwrite``, and a field for each of ``kinds``; one that is empty asks for no file.
        reads, data: as for ``Outputs``.
        kinds: of each field that names a file.

    Raises:
        InputError: a name cannot or must not be written.
    """
    outputs = Outputs(reads, data, bool(getattr(options, "overwrite", False)))
    given = {name: getattr(options, name) for name in kinds if getattr(options, name)}
    decided = {name: str(outputs.file("--" + name.replace("_", "-"), given[name], kinds[name])) for name in given}
    changed: Any = dataclasses.replace(options, **decided)  # type: ignore[type-var]
    return changed  # type: ignore[no-any-return]


@contextmanager
def recording(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Note in a folder what is about to be written there; in the end, what has been."""
    earlier = _recorded(folder)
    _record(folder, [*earlier, *names])
    try:
        yield
    finally:
        _record(folder, [name for name in dict.fromkeys((*earlier, *names)) if os.path.lexists(folder / name)])


def _record(folder: Path, names: Iterable[str]) -> None:
    listed = sorted(set(names))
    if listed:
        write_json(folder / RECORD, {"about": "what this project's commands wrote here", "names": listed})
    else:
        (folder / RECORD).unlink(missing_ok=True)


def _recorded(folder: Path) -> list[str]:
    try:
        return list(map(str, json.loads((folder / RECORD).read_text(encoding="utf-8"))["names"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of one file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _belongs_to_run(path: Path) -> bool:
    return path.name in RUN_FILES and (path.parent / RUN_CONFIG).exists()


def _folder(flag: str, given: str | Path) -> Path:
    """Raises:
    InputError: it is a file, or cannot be made.
    """
    folder = Path(given)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{flag} {given}: is a file; name a folder")
    _check_way(flag, given, [folder, *folder.parents])
    return folder


def _check_way(flag: str, given: str | Path, folders: Sequence[Path]) -> None:
    """Raises:
    InputError: a folder on the way to a file is none, or nothing may be written into it.
    """
    folder = next(folder for folder in folders if os.path.lexists(folder))  # at last . or /
    if not folder.is_dir():
        raise InputError(f"{flag} {given}: {folder} is a file; choose another {flag}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {given}: {folder} cannot be written to; choose another {flag}")
