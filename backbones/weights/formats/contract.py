"""What a format of weight files is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from backbones.convention import InputConvention
from backbones.variants import StridePlacement
from backbones.weights.file_content import FileContent


@dataclass(frozen=True)
class ForeignNetwork:
    """Another project's network in our terms.

    Attributes:
        tensors: under our names; names that nobody knows stay, and loading refuses them.
        convention: the input that they expect.
        stride_on: where bottlenecks carry their stride; None for networks without bottlenecks.
        backbone: the network's name, where the format leaves no doubt.
        classes: names in the order of the classifier, where they are known.
        unread: tensors of a detector around the network, which are left aside.
    """

    tensors: dict[str, Tensor]
    convention: InputConvention
    stride_on: StridePlacement | None = None
    backbone: str | None = None
    classes: tuple[str, ...] = ()
    unread: int = 0


@dataclass(frozen=True)
class Format:
    """One project's way to name and lay out its tensors.

    Attributes:
        owner: whose it is, for messages.
        recognises: whether a file with these names is one.
        convert: the file's content in our terms.
    """

    owner: str
    recognises: Callable[[Collection[str]], bool]
    convert: Callable[[FileContent], ForeignNetwork]
