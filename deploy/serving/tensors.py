"""Tensors by the Open Inference Protocol: names of types, and values from JSON. Numpy only.

No strings: models of ours neither take nor give them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import InputError

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32,
}  # fmt: skip
"""The protocol's types that models of ours use."""


def from_bytes(data: memoryview, datatype: str, shape: list[int]) -> NDArray[Any]:
    """A tensor from its bytes, row by row, little-endian.

    Raises:
        InputError: the bytes do not fill the shape.
    """
    dtype = np.dtype(DTYPES[datatype])
    if len(data) % dtype.itemsize:
        raise InputError(f"{len(data)} bytes are no whole number of {datatype}")
    return _in_shape(np.frombuffer(data, dtype), shape)


def from_json(data: Any, datatype: str, shape: list[int]) -> NDArray[Any]:
    """A tensor from a list of numbers, nested or flat.

    Raises:
        InputError: something else is in it, or not as many as the shape says.
    """
    flat: list[Any] = []
    _flatten(data, flat)
    try:
        exact = np.array(flat)
        values = exact.astype(DTYPES[datatype])
        if not flat or exact.dtype.kind not in "biuf" or (values.dtype.kind in "biu" and (values != exact).any()):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"its data are no {datatype} numbers") from None
    return _in_shape(values, shape)


def _in_shape(values: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    if any(type(side) is not int or side < 0 for side in shape) or values.size != math.prod(shape):
        raise InputError(f"got {values.size} values for the shape {shape}")
    return values.reshape(shape)


def _flatten(data: Any, flat: list[Any]) -> None:
    if not isinstance(data, list):
        flat.append(data)
        return
    for item in data:
        _flatten(item, flat)
