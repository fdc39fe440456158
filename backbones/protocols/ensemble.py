"""One model or several under a protocol: the mean of their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backbones.convention import InputConvention
from backbones.data.labelled import LabelledPictures
from backbones.images import Picture
from backbones.protocols.class_names import columns_for
from backbones.protocols.reading import map_ahead
from backbones.protocols.scoring import Logits, Scores, mean_scores, view_area
from backbones.protocols.views import check_protocol, views_of


@dataclass(frozen=True)
class Member:
    """A model as an ensemble sees it.

    Attributes:
        name: for messages.
        logits: [B, H, W, 3] uint8 -> [B, K].
        convention: what it expects of its pixels.
        classes: names in the order of its logits.
    """

    name: str
    logits: Logits
    convention: InputConvention
    classes: tuple[str, ...]


def ensemble_scores(
    members: Sequence[Member],
    data: LabelledPictures,
    protocol: str,
    batch_size: int = 32,
    workers: int = 0,
    advance: Callable[[int], object] = lambda pictures: None,
) -> Scores:
    """The mean of the models' scores [N, K], classes in the order of the first model's (section 4.1, Table 5).

    Each model sees its own views, framed as its convention says; one model alone is an ensemble of one.

    Args:
        members: the models.
        data: N pictures.
        protocol: ``center``, ``10-crop`` or ``multi-scale``.
        batch_size: views of 224 x 224 (or of the network's size, if smaller) at once; larger ones count by their area.
        workers: threads that read pictures ahead.
        advance: called with the number of pictures that a model has finished.

    Raises:
        InputError: models with different classes, a protocol that does not suit one, or a picture that can't be read.
    """
    columns = [columns_for(members[0].classes, member.classes, member.name) for member in members]
    for member in members:
        check_protocol(protocol, member.convention)
    count = len(data.labels)
    total: Scores | None = None
    for member, order in zip(members, columns, strict=True):

        def views(number: int, convention: InputConvention = member.convention) -> list[Picture]:
            return views_of(data.picture(number), protocol, convention)

        made = map_ahead(views, range(count), workers)
        scores = mean_scores(member.logits, made, count, batch_size * view_area(member.convention), advance)
        total = scores[:, order] if total is None else total + scores[:, order]
    assert total is not None
    return total / np.float32(len(members))
