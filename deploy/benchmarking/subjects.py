"""Models as what they are called with: one padded batch in, nothing kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.images import SUFFIXES, Picture, Size, padded_size, read_image, resize
from deploy.engine_names import SUFFIXES as ENGINES_OF
from deploy.models import TORCH, is_exported, open_model
from deploy.runtimes.engines import choose_engine

Call = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A model in an engine.

    Attributes:
        path: its file or run folder.
        engine: one of those of ``load_runtime``, or ``torch``.
        model: a runtime, or the trained model.
        hint: OpenVINO's, where it is compared with another one.
        title: what tables call the file, where its name alone is not enough.
    """

    path: str
    engine: str
    model: Any
    hint: str | None = None
    title: str | None = None

    @property
    def name(self) -> str:
        """How tables call it."""
        return " ".join(filter(None, (self.title or Path(self.path).name, self.engine, self.hint)))

    @property
    def task(self) -> str:
        """What it does: its batches have the same form as those of others that do the same."""
        task: str = self.model.task
        return task

    @property
    def size(self) -> Size:
        """That of its pictures, where nothing else is asked for."""
        if self.task == "classification":
            size: Size = self.model.convention.size or (224, 224)
            return size
        shorter = self.model.settings.input.shorter
        return shorter, shorter

    def call(self, images: Picture) -> Call:
        """One forward pass over [B, H, W, 3]; all pixels are valid, and padding is added where the model wants it."""
        if self.task == "classification":
            return lambda: self.model.logits(images)
        valid = np.array([images.shape[1:3]] * len(images), np.int64)
        padded = pad(images, self.model.settings.input.multiple)
        method = self.model.detect_arrays if self.task == "detection" else self.model.segment_arrays
        return lambda: method(padded, valid)


def pad(images: Picture, multiple: int) -> Picture:
    """To multiples, below and to the right."""
    height, width = padded_size((images.shape[1], images.shape[2]), multiple)
    return np.pad(images, ((0, 0), (0, height - images.shape[1]), (0, width - images.shape[2]), (0, 0)))


def pairs(models: Sequence[str], engines: Sequence[str]) -> list[tuple[str, str]]:
    """Which model runs in which engine.

    Raises:
        InputError: a model runs in none of those that are asked for, or an engine runs none of the models.
    """
    chosen = [(model, engine) for model in models for engine in _engines(model, engines)]
    idle = [engine for engine in engines if engine not in {used for _, used in chosen}]
    if idle:
        raise InputError(f"--engine {idle[0]}: runs none of the models")
    return chosen


def _engines(model: str, wanted: Sequence[str]) -> list[str]:
    if not is_exported(model):
        if wanted and TORCH not in wanted:
            raise InputError(f"{model}: a trained model runs in torch; add it to --engine, or export it")
        return [TORCH]
    if not wanted:
        return [choose_engine(Path(model))]
    fitting = [engine for engine in wanted if engine in ENGINES_OF[Path(model).suffix]]
    if not fitting:
        raise InputError(
            f"{model}: none of {', '.join(wanted)} runs it; {', '.join(ENGINES_OF[Path(model).suffix])} do"
        )
    return fitting


def open_subject(model: str, engine: str, threads: int | None, hint: str = "latency") -> Subject:
    """Load a model into an engine. Arguments as for ``load_runtime``.

    Raises:
        InputError: it cannot be read, or the engine is not installed.
    """
    return Subject(model, engine, open_model(model, engine=engine, threads=threads, hint=hint))


def make_images(batch: int, size: Size, folder: str | None) -> Picture:
    """[B, H, W, 3]: the pictures of a folder in turn, resized, or noise that is always the same.

    Raises:
        InputError: the folder has no pictures, or one cannot be read.
    """
    if folder is None:
        return np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in SUFFIXES)[:batch]
    if not files:
        raise InputError(f"--images {folder}: no pictures there ({', '.join(SUFFIXES)})")
    pictures = [resize(read_image(file), size) for file in files]
    return np.stack([pictures[number % len(pictures)] for number in range(batch)])
