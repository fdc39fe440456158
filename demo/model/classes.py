"""Classifiers as the page asks them: probabilities, and where the network looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.classification import probabilities
from backbones.convention import InputConvention
from backbones.framing import frame_for_classifier
from backbones.images import Picture, Size, fit_size
from demo.model.servers import FLAGS, asked, check_task, read_address
from deploy.runtimes.classifier import ClassifierRuntime

if TYPE_CHECKING:
    from backbones.classifier import Classifier
    from deploy.serving.connection import Client

Area = tuple[float, float, float, float]


@dataclass(frozen=True)
class Classified:
    """What a classifier says of one picture.

    Attributes:
        probabilities: [K] float.
        activation: [h, w] float, how much each place speaks for the best class; None where the model does not tell.
        area: (top, left, height, width) of what the network saw, in the picture's pixels; it may reach beyond the
            picture, which is then padded.
    """

    probabilities: NDArray[np.float32]
    activation: NDArray[np.float32] | None = None
    area: Area | None = None


class ClassFinder(Protocol):
    """Something that classifies.

    Attributes:
        name: for people.
        classes: names by label.
    """

    name: str
    classes: tuple[str, ...]

    def classify(self, pictures: Sequence[Picture]) -> list[Classified]:
        """One answer for each picture [H, W, 3].

        Raises:
            InputError: there is no answer; the message says why.
        """
        ...


class ExportedClassifier:
    """A runtime; its file holds the activation map for residual networks."""

    def __init__(self, name: str, runtime: ClassifierRuntime) -> None:
        self.name, self._runtime, self.classes = name, runtime, runtime.classes

    def classify(self, pictures: Sequence[Picture]) -> list[Classified]:
        return [self._classify(picture) for picture in pictures]

    def _classify(self, picture: Picture) -> Classified:
        convention = self._runtime.convention
        outputs = self._runtime.session.run({"images": frame_for_classifier(picture, convention)[None]})
        return _classified(outputs["logits"], outputs.get("activation_map"), picture, convention)


class TrainedClassifier:
    """A classifier in torch, with the map as its export would have it."""

    def __init__(self, name: str, classifier: Classifier, device: str) -> None:
        from backbones.running.precision import choose_device
        from deploy.graphs import ClassifierGraph

        self.name, self.classes, self._convention = name, classifier.classes, classifier.convention
        self._device = choose_device(device)
        self._graph = ClassifierGraph(classifier).to(self._device).eval()

    def classify(self, pictures: Sequence[Picture]) -> list[Classified]:
        return [self._classify(picture) for picture in pictures]

    def _classify(self, picture: Picture) -> Classified:
        import torch

        framed = torch.from_numpy(np.array(frame_for_classifier(picture, self._convention)))
        with torch.inference_mode():
            parts = [part.cpu().numpy() for part in self._graph(framed[None].to(self._device))]
        outputs: dict[str, Any] = dict(zip(self._graph.outputs, parts, strict=True))
        return _classified(outputs["logits"], outputs.get("activation_map"), picture, self._convention)


class ServedClassifier:
    """A classifier behind a server's address, which sends no maps."""

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        self.classes = asked(client.classes)

    def classify(self, pictures: Sequence[Picture]) -> list[Classified]:
        rows = asked(lambda: self._client.classify(pictures))
        return [Classified(np.asarray(row, np.float32)) for row in rows]


def open_class_finder(source: str, name: str, device: str = "cpu", engine: str | None = None) -> ClassFinder:
    """A classifier from a file, a published name, or a server's address.

    Raises:
        InputError: it cannot be opened, or is no classifier.
    """
    address = read_address(source)
    if address is not None:
        client = address.connect()
        check_task(source, client, "classification")
        return ServedClassifier(name, client)
    from deploy.models import open_model

    model = open_model(source, tasks=("classification",), elsewhere=FLAGS, engine=engine)
    if isinstance(model, ClassifierRuntime):
        return ExportedClassifier(name, model)
    return TrainedClassifier(name, model, device)


def seen_area(size: Size, convention: InputConvention) -> Area:
    """Which part of a picture ``frame_for_classifier`` shows to the network, in the picture's pixels.

    Args:
        size: (height, width) of the picture.
        convention: of the network.
    """
    height, width = size
    if convention.size is None:
        return 0.0, 0.0, float(height), float(width)
    crop = convention.size[0]
    resized = fit_size(size, convention.resize or crop)
    down, across = height / resized[0], width / resized[1]
    top, left = (resized[0] - crop) / 2, (resized[1] - crop) / 2
    return top * down, left * across, crop * down, crop * across


def _classified(
    logits: NDArray[Any], activation: NDArray[Any] | None, picture: Picture, convention: InputConvention
) -> Classified:
    area = seen_area((picture.shape[0], picture.shape[1]), convention)
    row = None if activation is None else np.asarray(activation[0], np.float32)
    return Classified(probabilities(logits)[0], row, area)
