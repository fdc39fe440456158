"""What a format of weight files is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from backbones.convention import InputConvention
from backbones.resnet import CAFFE_POOL
from backbones.variants import StridePlacement
from backbones.weights.file_content import FileContent


@dataclass(frozen=True)
class BackboneWeights:
    """A network's tensors under our names, and what is known of them.

    Attributes:
        tensors: by parameter name; names that nobody knows stay, and loading refuses them. ``pool.caffe`` among them
            asks for Caffe's max pooling.
        convention: the input that they expect.
        stride_on: where bottlenecks carry their stride; None for networks without bottlenecks, and where it is unknown.
        backbone: the network's name, where the file says it or the format leaves no doubt.
        classes: names in the order of the classifier; empty where the file does not say.
        unread: tensors of a detector around the network, which are left aside.
        mean_image: a per-pixel mean [3, H, W] that goes before the network, or None.
        origin: where they come from, for messages.
    """

    tensors: dict[str, Tensor]
    convention: InputConvention
    stride_on: StridePlacement | None = None
    backbone: str | None = None
    classes: tuple[str, ...] = ()
    unread: int = 0
    mean_image: Tensor | None = None
    origin: str = ""

    @property
    def caffe_pool(self) -> bool:
        """Whether the network pools on Caffe's grid after conv1 (see ``backbones.resnet.StemPool``)."""
        return CAFFE_POOL in self.tensors


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
    convert: Callable[[FileContent], BackboneWeights]
