"""Detectors as the page asks them: numpy detections of pictures, whatever runs behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from backbones.images import Picture
from demo.model.servers import FLAGS, asked, check_task, read_address
from detection.detections import Detections
from detection.metrics.thresholds import thresholds_by_class

if TYPE_CHECKING:
    from deploy.serving.connection import Client


class ObjectFinder(Protocol):
    """Something that finds objects.

    Attributes:
        name: for people.
        classes: names by label.
        score_thresholds: the least score of each class that the model stores; empty if it stores none.
    """

    name: str
    classes: tuple[str, ...]
    score_thresholds: tuple[float, ...]

    def find(self, pictures: Sequence[Picture]) -> list[Detections]:
        """All detections of each picture [H, W, 3], in its pixels, as numpy.

        Raises:
            InputError: there is no answer; the message says why.
        """
        ...


class LocalFinder:
    """A trained detector, or a runtime.

    Args:
        name: for people.
        detector: from ``deploy.models.open_model``.
    """

    def __init__(self, name: str, detector: Any) -> None:
        self.name, self._detector = name, detector
        self.classes = detector.classes
        stored = detector.settings.score_thresholds
        self.score_thresholds = stored if len(stored) == len(self.classes) else ()

    def find(self, pictures: Sequence[Picture]) -> list[Detections]:
        found = dict(self._detector.predict_each(pictures, batch_size=4))
        return [found[number] for number in range(len(pictures))]


class ServedFinder:
    """A detector behind a server's address."""

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        about = asked(client.about)
        self.classes, self.score_thresholds = about.classes, about.score_thresholds

    def find(self, pictures: Sequence[Picture]) -> list[Detections]:
        return asked(lambda: self._client.detect(pictures))


def open_finder(source: str, name: str, device: str = "cpu", engine: str | None = None) -> ObjectFinder:
    """A detector from a file, a published name, or a server's address.

    Raises:
        InputError: it cannot be opened, or is no detector.
    """
    address = read_address(source)
    if address is not None:
        client = address.connect()
        check_task(source, client, "detection")
        return ServedFinder(name, client)
    from deploy.models import open_model

    return LocalFinder(name, open_model(source, tasks=("detection",), elsewhere=FLAGS, device=device, engine=engine))


def start_threshold(finder: ObjectFinder) -> float:
    """Where the slider stands at first: the mean of the model's own thresholds, or 0.5."""
    least = thresholds_by_class(finder)
    return round(sum(least) / len(least), 2)
