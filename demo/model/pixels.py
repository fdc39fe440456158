"""Segmenters as the page asks them: the class of every pixel, whatever runs behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from backbones.images import Picture
from demo.model.servers import FLAGS, asked, check_task, read_address
from detection.segmentation.maps import SegmentationMap

if TYPE_CHECKING:
    from deploy.serving.connection import Client


class PixelFinder(Protocol):
    """Something that labels pixels.

    Attributes:
        name: for people.
        classes: names by label; 0 is the background.
    """

    name: str
    classes: tuple[str, ...]

    def label(self, pictures: Sequence[Picture]) -> list[SegmentationMap]:
        """Labels and scores [H, W] of each picture [H, W, 3], as numpy.

        Raises:
            InputError: there is no answer; the message says why.
        """
        ...


class LocalSegmenter:
    """A trained segmenter, or a runtime.

    Args:
        name: for people.
        segmenter: from ``deploy.models.open_model``.
    """

    def __init__(self, name: str, segmenter: Any) -> None:
        self.name, self._segmenter, self.classes = name, segmenter, segmenter.classes

    def label(self, pictures: Sequence[Picture]) -> list[SegmentationMap]:
        found = dict(self._segmenter.predict_each(pictures, batch_size=2))
        return [found[number] for number in range(len(pictures))]


class ServedSegmenter:
    """A segmenter behind a server's address."""

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        self.classes = asked(client.classes)

    def label(self, pictures: Sequence[Picture]) -> list[SegmentationMap]:
        return asked(lambda: self._client.predict(pictures))


def open_pixel_finder(source: str, name: str, device: str = "cpu", engine: str | None = None) -> PixelFinder:
    """A segmenter from a file, a published name, or a server's address.

    Raises:
        InputError: it cannot be opened, or is no segmenter.
    """
    address = read_address(source)
    if address is not None:
        client = address.connect()
        check_task(source, client, "segmentation")
        return ServedSegmenter(name, client)
    from deploy.models import open_model

    return LocalSegmenter(
        name, open_model(source, tasks=("segmentation",), elsewhere=FLAGS, device=device, engine=engine)
    )
