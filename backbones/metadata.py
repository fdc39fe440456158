"""What a model file says of itself: the one place that knows the fields, the number of their version, and older ones.

Weights, training states, exported files and the sidecars of engines carry the same fields, as JSON. No torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from backbones.convention import InputConvention
from backbones.errors import InputError

logger = logging.getLogger("shortcut")

KEY = "shortcut"
"""Under which the text stands in safetensors and ONNX files."""
FORMAT = 3
"""Before, weights had 1 and exported files 1 and 2, with the same fields; training states had none."""
_OLDEST_EXPORTED = 2
TASKS = ("classification", "detection", "segmentation")
CALLED = {"classification": "a classifier", "detection": "a detector", "segmentation": "a segmenter"}


_UNDECIDED = {
    "classification": "a classifier gives every class its probability",
    "segmentation": "a segmenter labels every pixel",
}
"""Why nothing counts as found with one of these."""


class DamagedMetadata(InputError):
    """Metadata that no version wrote so."""

    def __init__(self, origin: object, reason: str, advice: str = "get the file again") -> None:
        super().__init__(f"{origin}: its metadata are damaged ({reason}); {advice}")
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What only an exported file says.

    Attributes:
        precision: of its layers.
        flavour: ``ops`` or ``portable``.
        outputs: names, in the graph's order.
        resize: what resizing does here, as the pictures were resized that the file was verified with.
        dense: a classifier's graph takes pictures of any size, as section 3.4 wants it.
        proposals: of a detector: how many it looks at, and was trained to.
        views: the sizes and mirror images that a detector's graph takes.
        engine: how the engine of a ``.plan`` was built.
    """

    precision: str
    flavour: str
    outputs: tuple[str, ...]
    resize: str
    dense: bool = False
    proposals: dict[str, Any] | None = None
    views: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What a model is, whoever holds its tensors.

    Attributes:
        task: one of ``TASKS``.
        architecture: plain values from which it is built: its settings, or the network's name.
        classes: names, in the order of the labels.
        input: what a classifier expects of its pixels; detectors and segmenters have it in their settings.
        sha256: over the tensors of weights, over the bytes of exported files.
        exported: None of trained models.
        more: whatever else travels along: recipe, metrics, origin, verification.
        file: where it was read, for messages; it is written nowhere.
    """

    task: str
    architecture: dict[str, Any]
    classes: tuple[str, ...]
    input: InputConvention | None = None
    sha256: str | None = None
    exported: Exported | None = None
    more: dict[str, Any] = field(default_factory=dict)
    file: str = field(default="the model", compare=False)

    @property
    def called(self) -> str:
        """``a detector``."""
        return CALLED[self.task]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under the newest number."""
        values: dict[str, Any] = {
            "format": FORMAT, "task": self.task, "architecture": self.architecture, "classes": list(self.classes),
        }  # fmt: skip
        if self.input is not None:
            values["input"] = self.input.to_dict()
        if self.exported is not None:
            own = {item.name: getattr(self.exported, item.name) for item in fields(Exported)}
            values |= {name: value for name, value in own.items() if value not in (None, False)}
            values["outputs"] = list(self.exported.outputs)
        if self.sha256 is not None:
            values["sha256"] = self.sha256
        return values | self.more

    def to_text(self) -> str:
        """``to_dict`` as JSON, for a file's field of that name."""
        return json.dumps(self.to_dict())

    def with_more(self, **values: Any) -> ModelMetadata:
        """The same with further plain values."""
        return replace(self, more={**self.more, **values})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: object, oldest: int = 1) -> ModelMetadata:
        """From plain values.

        Args:
            values: what ``to_dict`` gave, here or in another version.
            origin: how messages call the file.
            oldest: the first format that is read.

        Raises:
            InputError: a newer version wrote them, or one so old that nothing here reads it; or they are damaged.
        """
        number = values.get("format") if isinstance(values, Mapping) else None
        if type(number) is not int:
            raise DamagedMetadata(origin, "no format")
        if number > FORMAT:
            raise InputError(f"{origin}: format {number} is newer than this version reads ({FORMAT}); update")
        if number < oldest:
            raise InputError(f"{origin}: format {number} is older than {oldest}; export the model again")
        try:
            return replace(cls._read(values), file=str(origin))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedMetadata(origin, f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from error

    @classmethod
    def from_text(cls, text: str, origin: object, oldest: int = 1) -> ModelMetadata:
        """From the JSON that stands in a file; arguments and errors as for ``from_dict``."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DamagedMetadata(origin, "not JSON") from error
        return cls.from_dict(values, origin, oldest)

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> ModelMetadata:
        left = dict(values)
        del left["format"]
        if left["task"] not in TASKS:
            raise ValueError(f"task {left['task']}")
        exported = None
        if "precision" in left:
            own = {item.name: left.pop(item.name) for item in fields(Exported) if item.name in left}
            exported = Exported(**{**own, "outputs": tuple(own["outputs"])})
        convention = left.pop("input", None)
        return cls(
            task=left.pop("task"),
            architecture=dict(left.pop("architecture")),
            classes=tuple(left.pop("classes")),
            input=InputConvention.from_dict(convention) if convention else None,
            sha256=left.pop("sha256", None),
            exported=exported,
            more=left,
        )


def refuse_threshold(task: str, threshold: Any) -> None:
    """Raises:
    InputError: a threshold for a model that is no detector.
    """
    if threshold is not None and task in _UNDECIDED:
        raise InputError(f"threshold: {_UNDECIDED[task]}; leave it out")


def read_exported(text: str | None, origin: object) -> ModelMetadata:
    """The metadata of an exported file, from the JSON that stands in it under ``KEY``.

    A picture resized differently from the ones that the model was exported with gives other results, so a difference
    is logged.

    Raises:
        InputError: there is none, or ``ModelMetadata.from_text`` refuses it.
    """
    if text is None:
        raise InputError(f"{origin}: has no metadata of this project; export it with deploy/export.py")
    metadata = ModelMetadata.from_text(text, origin, oldest=_OLDEST_EXPORTED)
    if metadata.exported is None:
        raise DamagedMetadata(origin, "no precision", "export the model again")
    from backbones.resize_fingerprint import resize_fingerprint  # needs numpy, which --help does without

    if metadata.exported.resize != resize_fingerprint():
        logger.warning("%s: pictures are resized differently here (another version of Pillow?)", origin)
    return metadata
