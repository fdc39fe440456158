"""Files in, drawn pictures and JSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, read_image
from backbones.running.atomic_write import atomic_path, write_json
from detection.detections import Detections
from detection.drawing import draw_detections


class Predictor(Protocol):
    """A trained detector or a runtime."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def predict_each(self, images: Any, batch_size: int = 8) -> Iterator[tuple[int, Detections]]: ...


def find_pictures(inputs: Sequence[str]) -> list[Path]:
    """The pictures that files and folders name, folders searched through, in order.

    Raises:
        InputError: something does not exist, or nothing is a picture.
    """
    files: list[Path] = []
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            files += sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{entry}: no such file or folder")
    if not files:
        raise InputError(f"no pictures given ({', '.join(SUFFIXES)}); name files or folders")
    return files


def predict_files(
    detector: Predictor,
    files: Sequence[Path],
    output: Path,
    threshold: float,
    batch_size: int,
    enlarge: int,
    advance: Callable[[], None],
) -> list[InputError]:
    """Detect in files, and write a drawn copy of each and ``detections.json``.

    Args:
        detector: any.
        files: pictures.
        output: the folder to write to.
        threshold: least score.
        batch_size: pictures at once.
        enlarge: scale of the drawn copies.
        advance: called after each picture.

    Returns:
        Why pictures could not be read; the others are done.
    """
    faulty: list[InputError] = []
    names = distinct_names(files)
    waiting: dict[int, tuple[Path, Picture]] = {}
    entries: dict[Path, list[dict[str, Any]]] = {}
    output.mkdir(parents=True, exist_ok=True)
    for place, found in detector.predict_each(_readable(files, waiting, faulty), batch_size):
        path, picture = waiting.pop(place)
        kept = found.above(threshold)
        entries[path] = kept.to_json(detector.classes)
        drawn = draw_detections(picture, kept, detector.classes, enlarge=enlarge)
        with atomic_path(output / names[path]) as partial:
            Image.fromarray(drawn).save(partial, format="PNG")
        advance()
    listing = [{"file": str(path), "detections": entries[path]} for path in files if path in entries]
    write_json(output / "detections.json", {"classes": list(detector.classes), "pictures": listing})
    return faulty


def _readable(
    files: Sequence[Path], waiting: dict[int, tuple[Path, Picture]], faulty: list[InputError]
) -> Iterator[Picture]:
    """The pictures that can be read; each is remembered under its place until it has been drawn on."""
    place = 0
    for path in files:
        try:
            picture = read_image(path)
        except InputError as error:
            faulty.append(error)
            continue
        waiting[place] = (path, picture)
        place += 1
        yield picture


def distinct_names(files: Sequence[Path]) -> dict[Path, str]:
    """A file name for each drawn copy; where two would be the same, the later ones are numbered."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name, number = f"{path.stem}.png", 2
        while name in taken:
            name, number = f"{path.stem}-{number}.png", number + 1
        taken.add(name)
        names[path] = name
    return names
