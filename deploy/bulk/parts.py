"""A folder of parts: each whole or absent, so that what is in them is done, and what is not is not.

One process writes, and holds a lock while it does. A run that is killed leaves whole parts; the next one reads which
pictures they hold and goes on with the others. Those that were looked at and not yet written are looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.running.atomic_write import PARTIAL, atomic_path, write_json
from deploy.bulk.worker import Row

ABOUT = "run.json"
_LOCK = ".lock"


@dataclass
class Done:
    """What is in the parts.

    Attributes:
        files: their pictures.
        faults: for each that could not be read, the reason.
        objects: found in all.
    """

    files: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)
    objects: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Count the rows of a part.

        Raises:
            InputError: a picture is in two rows.
        """
        for row in rows:
            if row["file"] in self.files:
                raise InputError(f"{row['file']}: is twice in the output; it was not written by one run after another")
            self.files.add(row["file"])
            if row["error"] is not None:
                self.faults[row["file"]] = row["error"]
            self.objects += len(row["detections"])


class PartFolder:
    """Parts in a folder, and ``run.json`` with what they were made by.

    Args:
        folder: need not exist.
        suffix: ``parquet`` or ``jsonl``.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self._next = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; a killed run's lock is gone with it.

        Raises:
            InputError: one is at work.
        """
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"{self.folder}: another run is writing here; wait, or choose another --output"
                ) from error
            yield

    def begin(self, about: dict[str, Any]) -> Done:
        """Start a run, or go on with one.

        Args:
            about: what the rows depend on, as plain values.

        Returns:
            What is already there.

        Raises:
            InputError: the folder holds a run of something else, or something that is no run.
        """
        path = self.folder / ABOUT
        if path.is_file():
            _check_same(path, about)
        elif any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise InputError(f"{self.folder}: holds files of something else; choose another --output")
        else:
            write_json(path, about)
        for left in self.folder.glob(f"*{PARTIAL}"):
            left.unlink()
        done = Done()
        for part in self.parts():
            done.add(self.read(part))
            self._next = int(part.stem.rpartition("-")[2]) + 1
        return done

    def parts(self) -> list[Path]:
        """In the order in which they were written."""
        return sorted(self.folder.glob(f"part-*.{self.suffix}"))

    def read(self, part: Path) -> list[Row]:
        """The rows of a part.

        Raises:
            InputError: it is damaged.
        """
        try:
            if self.suffix == "jsonl":
                return [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
            import pyarrow.parquet

            rows: list[Row] = pyarrow.parquet.read_table(part).to_pylist()
            return [_without_missing_masks(row) for row in rows]
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise InputError(
                f"{part}: damaged ({' '.join(str(error).split())[:120]}); delete it to have it made again"
            ) from error

    def write(self, rows: Sequence[Row]) -> Path:
        """One more part."""
        path = self.folder / f"part-{self._next:06d}.{self.suffix}"
        self._next += 1
        with atomic_path(path) as partial:
            if self.suffix == "jsonl":
                partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            else:
                _write_parquet(rows, partial)
        return path


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), _schema()), path, compression="zstd")


def _schema() -> Any:
    import pyarrow as arrow

    mask = arrow.struct([("size", arrow.list_(arrow.int32(), 2)), ("counts", arrow.string())])
    found = [
        ("class", arrow.string()),
        ("score", arrow.float64()),
        ("box", arrow.list_(arrow.float64(), 4)),
        ("mask", mask),
    ]
    columns = [("file", arrow.string()), ("height", arrow.int32()), ("width", arrow.int32()), ("error", arrow.string())]
    return arrow.schema([*columns, ("detections", arrow.list_(arrow.struct(found)))])


def _without_missing_masks(row: Row) -> Row:
    for item in row["detections"]:
        if item["mask"] is None:
            del item["mask"]
    return row


def _check_same(path: Path, about: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); choose another --output") from error
    for name, value in about.items():
        if before.get(name) != value:
            raise InputError(
                f"{path.parent}: holds a run with another {name.replace('_', ' ')} "
                f"({before.get(name)}, now {value}); choose another --output"
            )
