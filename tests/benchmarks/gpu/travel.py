"""What a tour leaves, as a few files of limited size: results, logs, and the states of trainings that go on."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from backbones.errors import InputError
from backbones.running.atomic_write import atomic_path
from backbones.running.run_folder import STATE
from tests.benchmarks.gpu.item import RESULTS

PART_SIZE, MOST_PARTS = 16 * 2**20, 8
RUNS, LOGS, STATUS = "runs", "logs", "status.json"
_NAME = re.compile(r"tour-(?P<digest>[0-9a-f]{12})-(?P<number>\d+)-of-(?P<count>\d+)")
_OF_TOUR = re.compile(rf"{re.escape(STATUS)}$|({RESULTS}|{LOGS}|{RUNS})/")
_OF_RUN = ("config.yaml", "env.json", "metrics.jsonl", "metrics.json", "log.txt", STATE)


def pack(output: Path, folder: Path) -> list[Path]:
    """Write a tour's output as parts, in place of those that the folder had.

    Where all would be more than ``MOST_PARTS``, the largest states are left out: their trainings begin anew.

    Args:
        output: of a tour.
        folder: for the parts, named ``tour-DIGEST-NUMBER-of-COUNT``.
    """
    states = sorted((output / RUNS).glob(f"*/{STATE}"), key=lambda path: path.stat().st_size)
    content = _archive(output, [*_small_files(output), *states])
    while len(content) > PART_SIZE * MOST_PARTS and states:
        states.pop()
        content = _archive(output, [*_small_files(output), *states])
    count = -(-len(content) // PART_SIZE)
    digest = hashlib.sha256(content).hexdigest()[:12]
    parts = [folder / f"tour-{digest}-{number}-of-{count}" for number in range(1, count + 1)]
    for number, part in enumerate(parts):
        with atomic_path(part) as partial:
            partial.write_bytes(content[number * PART_SIZE : (number + 1) * PART_SIZE])
    for old in parts_in(folder):
        if old not in parts:
            old.unlink()
    return parts


def take_over(unpacked: Path, output: Path) -> None:
    """Files of one output into another; of two of one name the newer one stays."""
    for path in sorted(path for path in unpacked.rglob("*") if path.is_file()):
        target = output / path.relative_to(unpacked)
        if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as partial:
                shutil.copy2(path, partial)


def unpack(folder: Path, output: Path) -> None:
    """The inverse of ``pack``: into a new folder.

    Raises:
        InputError: parts are missing or damaged.
    """
    sets: dict[str, list[Path]] = {}
    for part in parts_in(folder):
        sets.setdefault(part.name.split("-")[1], []).append(part)
    for digest, parts in sets.items():  # a kill between two packings leaves two sets, one of them whole
        parts.sort(key=lambda part: int(part.name.split("-")[2]))
        content = b"".join(part.read_bytes() for part in parts if part.is_file())
        if hashlib.sha256(content).hexdigest()[:12] == digest:
            try:
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    strange = [name for name in archive.getnames() if not _OF_TOUR.match(name)]
                    if strange:
                        raise InputError(f"{folder}: the parts are no archive of a tour (it has {strange[0]!r})")
                    archive.extractall(output, filter="data")
            except tarfile.TarError as error:
                reason = " ".join(str(error).split())
                raise InputError(f"{folder}: the parts are no archive of a tour ({reason})") from error
            return
    raise InputError(f"{folder}: no complete set of parts of a tour (tour-DIGEST-NUMBER-of-COUNT); copy all of them")


def parts_in(folder: Path) -> list[Path]:
    """The parts of tours in a folder."""
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []


def _small_files(output: Path) -> list[Path]:
    runs = [path for name in _OF_RUN if name != STATE for path in (output / RUNS).glob(f"*/{name}")]
    files = [output / STATUS, *(output / RESULTS).glob("*.json"), *(output / LOGS).glob("*.log"), *runs]
    return sorted(path for path in files if path.is_file())


def _archive(output: Path, files: Iterable[Path]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in files:
            archive.add(path, path.relative_to(output))
    return stream.getvalue()
