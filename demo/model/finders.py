"""Models as the page asks them: what they find in pictures, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbones.classification import Classification, probabilities
from backbones.convention import InputConvention
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import Picture, Size, fit_size
from backbones.metadata import CALLED
from demo.model.servers import FLAGS, asked, read_address
from deploy.runtimes.exported_models import ClassifierRuntime
from detection.metrics.thresholds import thresholds_by_class

if TYPE_CHECKING:
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


class Finder(Protocol):
    """A detector, classifier or segmenter.

    Attributes:
        name: for people.
        classes: names by label; a segmenter's 0 is the background.
        score_thresholds: of detectors the least score of each class that the model stores; empty if it stores none.
    """

    name: str
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...]

    def find(self, pictures: Sequence[Picture]) -> list[Any]:
        """Of each picture [H, W, 3], as numpy: all ``Detections`` in its pixels, whatever their scores; what it is
        ``Classified`` as; or its ``SegmentationMap``.

        Raises:
            InputError: there is no answer; the message says why.
        """
        ...


class LocalFinder:
    """A trained detector or segmenter, or the runtime of one.

    Args:
        name: for people.
        model: from ``deploy.models.open_model``.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.name, self._model, self.classes = name, model, model.classes
        stored = model.settings.score_thresholds if model.task == "detection" else ()
        self.score_thresholds = stored if len(stored) == len(self.classes) else ()

    def find(self, pictures: Sequence[Picture]) -> list[Any]:
        found = dict(self._model.predict_each(pictures, batch_size=4))
        return [found[number] for number in range(len(pictures))]


class LocalClassifier:
    """A trained classifier, with the activation map as its export would have it, or a runtime, whose file holds the
    map of residual networks.

    Args:
        name: for people.
        classifier: from ``deploy.models.open_model``.
        device: of a trained one.
    """

    score_thresholds: tuple[float, ...] = ()

    def __init__(self, name: str, classifier: Any, device: str = "cpu") -> None:
        self.name, self.classes, self._convention = name, classifier.classes, classifier.convention
        self._run = _graph_of(classifier, device)

    def find(self, pictures: Sequence[Picture]) -> list[Classified]:
        return [self._find(picture) for picture in pictures]

    def _find(self, picture: Picture) -> Classified:
        outputs = self._run(frame_for_classifier(picture, self._convention)[None])
        activation = outputs.get("activation_map")
        area = seen_area((picture.shape[0], picture.shape[1]), self._convention)
        row = None if activation is None else np.asarray(activation[0], np.float32)
        return Classified(probabilities(outputs["logits"])[0], row, area)


class ServedFinder:
    """A model behind a server's address; of classifiers it sends no maps."""

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        about = asked(client.about)
        self.task, self.classes, self.score_thresholds = about.task, about.classes, about.score_thresholds

    def find(self, pictures: Sequence[Picture]) -> list[Any]:
        everything = 0.0 if self.task == "detection" else None
        found = asked(lambda: self._client.predict(list(pictures), everything))
        return [Classified(one.probabilities) if isinstance(one, Classification) else one for one in found]


def open_finder(
    source: str, name: str, task: str = "detection", device: str = "cpu", engine: str | None = None
) -> Finder:
    """A model for a task from a file, a published name, or a server's address.

    Raises:
        InputError: it cannot be opened or asked, or is for another task; then the message says where it belongs.
    """
    address = read_address(source)
    if address is not None:
        served = ServedFinder(name, address.connect())
        if served.task != task:
            raise InputError(f"{source}: serves {CALLED[served.task]}, not {CALLED[task]}; {FLAGS[served.task]}")
        return served
    from deploy.models import open_model

    if task == "classification":  # its graph goes to the device with the map
        return LocalClassifier(name, open_model(source, tasks=(task,), elsewhere=FLAGS, engine=engine), device)
    return LocalFinder(name, open_model(source, tasks=(task,), elsewhere=FLAGS, device=device, engine=engine))


def start_threshold(finder: Finder) -> float:
    """Where the slider stands at first: the mean of the model's own thresholds, or 0.5."""
    least = thresholds_by_class(finder)
    return round(sum(least) / len(least), 2)


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


def _graph_of(classifier: Any, device: str) -> Callable[[Picture], dict[str, NDArray[Any]]]:
    """A classifier's graph on [B, H, W, 3], in its engine or in torch: outputs by name."""
    if isinstance(classifier, ClassifierRuntime):
        return lambda images: classifier.session.run({"images": images})
    import torch

    from backbones.running.precision import choose_device
    from deploy.graphs import ClassifierGraph

    place = choose_device(device)
    graph = ClassifierGraph(classifier).to(place).eval()

    @torch.inference_mode()
    def run(images: Picture) -> dict[str, NDArray[Any]]:
        parts = graph(torch.from_numpy(np.array(images)).to(place))
        return {name: part.cpu().numpy() for name, part in zip(graph.outputs, parts, strict=True)}

    return run
