"""What another project's detector is in our terms, and what a format of such files is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from backbones.weights.file_content import FileContent
from detection.settings import DetectorSettings
from detection.weights.class_names import ClassNames


@dataclass(frozen=True)
class Facts:
    """What no file of tensors says, but its publisher, or the person who gives it, may.

    Attributes:
        classes: in the order of its labels; None where they are told by their number (80 are COCO's), or unknown.
        norm_eps: what frozen batch normalization adds to its variances.
    """

    classes: ClassNames | None = None
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class ForeignDetector:
    """A detector of another project.

    Attributes:
        tensors: under our names, in our layouts.
        settings: with which ours detects the same.
        dropped: the file's tensors that have no place here because nothing depends on them.
        origin: where it comes from, for messages.
    """

    tensors: dict[str, Tensor]
    settings: DetectorSettings
    dropped: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class DetectorFormat:
    """One project's way to name and lay out a detector's tensors.

    Attributes:
        owner: whose it is, for messages.
        recognises: whether a file with these names is one.
        convert: the file's content in our terms. Tensors that nobody knows keep their names, and loading refuses them;
            raises ``InputError`` for detectors of another design.
    """

    owner: str
    recognises: Callable[[Collection[str]], bool]
    convert: Callable[[FileContent, Facts], ForeignDetector]
