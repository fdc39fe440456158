"""Models and data agree on classes by name, never by position alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether the names are only 0, 1, 2, ...: those of a file that does not say."""
    return tuple(classes) == tuple(str(number) for number in range(len(classes)))


def columns_for(classes: Sequence[str], own: Sequence[str], name: str) -> NDArray[np.int64]:
    """Where a model that knows its classes as ``own`` scores each of ``classes``: [K] columns.

    Args:
        classes: the wanted order.
        own: the model's.
        name: of the model, for messages.

    Raises:
        InputError: they are not the same classes.
    """
    place = {class_name: column for column, class_name in enumerate(own)}
    lacking = [class_name for class_name in classes if class_name not in place]
    if lacking or len(own) != len(classes):
        what = f"has no class {lacking[0]!r}" if lacking else "has others besides"
        raise InputError(
            f"{name}: models are averaged over the same classes; this one has {len(own)}, the first {len(classes)}, "
            f"and it {what}; --classes FILE names them for files that do not say"
        )
    return np.array([place[class_name] for class_name in classes], np.int64)


def labels_for(labels: NDArray[np.int64], given: Sequence[str], classes: Sequence[str], name: str) -> NDArray[np.int64]:
    """Labels [N] that count in the data's classes ``given``, as they count in the model's ``classes``.

    A model that does not name its classes is taken to list them in the order of the data, if there are as many.

    Raises:
        InputError: the model lacks a class of the data; ``name`` is the data's, for the message.
    """
    place = {class_name: number for number, class_name in enumerate(classes)}
    lacking = [class_name for class_name in given if class_name not in place]
    if not lacking:
        return np.array([place[class_name] for class_name in given], np.int64)[labels]
    if are_numbers(classes) and len(classes) == len(given):
        return labels
    raise InputError(
        f"{name}: the model has no class {lacking[0]!r} (it has {len(classes)}, the data {len(given)}); give "
        "--classes FILE with one name a line, in the order of the classifier"
    )
