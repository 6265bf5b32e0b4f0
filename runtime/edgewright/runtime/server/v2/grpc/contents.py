"""Tensors as `InferTensorContents`: one repeated field per kind of number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE

from ...refusal import Refusal

FIELD_OF_DATATYPE = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""FP16 and BF16 have none: they travel raw."""

_WIDE = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}


def from_contents(contents: Any, datatype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return the tensor in an `InferTensorContents`.

    Raises:
        Refusal: another field than that of the datatype is filled, or its length or a number does not fit.
    """
    field = FIELD_OF_DATATYPE.get(datatype)
    if field is None:
        raise Refusal(400, f"input '{name}': {datatype} has no typed form in the protocol; send raw_input_contents")
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise Refusal(400, f"input '{name}': {descriptor.name} is given, expected {field} for {datatype}")
    values = getattr(contents, field)
    count = math.prod(shape)
    if len(values) != count:
        raise Refusal(400, f"input '{name}': {len(values)} elements, expected {count} for {list(shape)}")
    if datatype == "BYTES":
        texts = np.empty(count, np.object_)
        texts[:] = values
        return texts.reshape(shape)
    dtype = NUMPY_OF_DATATYPE[datatype]
    array: NDArray[Any] = np.fromiter(values, _WIDE.get(field, dtype), count)
    if array.dtype != dtype:
        array = _narrowed(array, dtype, datatype, name)
    return array.reshape(shape)


def _narrowed(array: NDArray[Any], dtype: np.dtype[Any], datatype: str, name: str) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise Refusal(400, f"input '{name}': a number does not fit {datatype} [{limits.min}, {limits.max}]")
    return array.astype(dtype)


def to_contents(array: NDArray[Any], datatype: str) -> dict[str, list[Any]]:
    """Return what an `InferTensorContents` is made of."""
    values: list[Any] = array.ravel().tolist()
    if datatype == "BYTES":
        values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return {FIELD_OF_DATATYPE[datatype]: values}
