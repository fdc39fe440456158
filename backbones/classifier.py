"""A network with its normalization: uint8 pixels in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbones.building import build_backbone
from backbones.classification import PictureClassifier
from backbones.contract import Backbone
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.images import Picture
from backbones.metadata import ModelMetadata
from backbones.normalization import Normalize
from backbones.weights.file_content import FileContent
from backbones.weights.loading import load_weights
from backbones.weights.reading import read_source, read_weights
from backbones.weights.variant_names import name_of


class Classifier(PictureClassifier, nn.Module):
    """[B, 3, H, W] uint8 RGB -> logits [B, K], in the order of ``classes``.

    Args:
        backbone: the network's name.
        network: from ``build_backbone``.
        normalize: pixels to its input.
        classes: names.
    """

    task = "classification"

    def __init__(self, backbone: str, network: Backbone, normalize: Normalize, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.network = network
        self.normalize = normalize
        self.classes = classes

    @property
    def convention(self) -> InputConvention:
        """What it expects of its pixels."""
        return self.normalize.convention

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalize(images))
        return logits

    @torch.inference_mode()
    def logits(self, images: Picture) -> NDArray[np.floating]:
        """``forward`` for numpy, in evaluation mode: [B, H, W, 3] uint8 -> [B, K]."""
        training = self.training
        self.eval()
        batch = torch.from_numpy(images).to(self.normalize.mean.device).permute(0, 3, 1, 2)
        logits: NDArray[np.floating] = self(batch).float().cpu().numpy()
        self.train(training)
        return logits


def describe(classifier: Classifier) -> ModelMetadata:
    """What a file says of a classifier."""
    return ModelMetadata(
        task="classification",
        architecture={"backbone": classifier.backbone},
        classes=classifier.classes,
        input=classifier.convention,
    )


def load_classifier(source: str | Path, arch: str | None = None, classes: Sequence[str] = ()) -> Classifier:
    """A trained classifier, ready to predict.

    Args:
        source: a run folder, a ``.safetensors`` of ours, a run's ``last.pt``, another project's file, or a published
            name such as ``torchvision://resnet18``.
        arch: the network, for files that do not say, and whose tensors do not tell it.
        classes: names in the order of the classifier, for files that do not say.

    Raises:
        InputError: the file does not fit, or does not say what it is.
    """
    return classifier_of(read_source(source), arch, classes)


def classifier_of(content: FileContent, arch: str | None = None, classes: Sequence[str] = ()) -> Classifier:
    """The classifier that a file holds; arguments and errors as for ``load_classifier``."""
    weights, source = read_weights(content), content.origin
    name = weights.backbone or arch or name_of(weights.tensors, weights.stride_on)
    if name is None:
        raise InputError(f"{source}: the file does not name its network, nor do its tensors tell it; give --arch")
    biases = (value for key, value in reversed(weights.tensors.items()) if key.endswith(("fc.bias", "fc8.bias")))
    logits = len(next(biases, ()))
    if not logits:
        raise InputError(f"{source}: holds a backbone without a classifier; train one on it (--weights) to classify")
    names = tuple(weights.classes or classes or (str(number) for number in range(logits)))
    if len(names) != logits:
        raise InputError(f"{source}: {logits} classes, but {len(names)} names are given")
    network = build_backbone(name, logits)
    load_weights(network, weights)
    return Classifier(name, network, Normalize(weights.convention, weights.mean_image), names).eval()
