"""Tensors of a file that may be hostile, with views of their data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ...faults import MAX_QUOTED_CHARACTERS, ModelError, UnsupportedModel
from .bounds import Bounds
from .model import NUMPY, Array, Quantization, Tensor
from .schema import TYPE_NAMES

MAX_TENSORS: Final = 50_000
MAX_RANK: Final = 8
MAX_ELEMENTS: Final = 2**31
INSIDE: Final = 1
"""Largest value of Buffer.offset that means nothing; larger ones point behind the flatbuffer."""


def read_tensors(root: Any, graph: Any, bounds: Bounds) -> Iterator[Tensor]:
    """The tensors of a subgraph, in order.

    Raises:
        ModelError: one is damaged.
        UnsupportedModel: one is of a type, or stored in a way, that nothing here computes.
    """
    for index in range(bounds.length(graph.TensorsLength(), MAX_TENSORS)):
        yield _tensor(root, graph.Tensors(index), index, bounds)


def _tensor(root: Any, table: Any, index: int, bounds: Bounds) -> Tensor:
    kind = TYPE_NAMES.get(table.Type(), str(table.Type()))
    name = bounds.text(table.Name()) or f"tensor{index}"
    where = f"{bounds.where}: tensor {name[:MAX_QUOTED_CHARACTERS]!r}"
    _check_kind(table, kind, where)
    shape = _shape(bounds.numbers(table.ShapeLength(), table.ShapeAsNumpy), where)
    free = bounds.numbers(table.ShapeSignatureLength(), table.ShapeSignatureAsNumpy)
    return Tensor(
        name=name,
        type=kind,
        shape=shape,
        free=free if _is_free(free, shape) else (),
        data=_data(root, table, kind, shape, where, bounds),
        quantization=_quantization(table.Quantization(), kind, shape, where, bounds),
        variable=bool(table.IsVariable()),
    )


def _check_kind(table: Any, kind: str, where: str) -> None:
    if kind not in NUMPY:
        raise UnsupportedModel(
            f"{where} is {kind}, which nothing here computes; export the model with float or 8- and 16-bit "
            "integer tensors"
        )
    if table.Sparsity() is not None:
        raise UnsupportedModel(f"{where} is stored sparse; export the model with dense weights")


def _shape(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(
            f"{where} has shape {shape[: MAX_RANK + 1]}; expected at most {MAX_RANK} sizes of at least 0 and at most "
            f"{MAX_ELEMENTS} elements"
        )
    return shape


def _is_free(free: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape with -1 for free sizes says more than the shape, and agrees with it."""
    fits = len(free) == len(shape) and all(each in (-1, size) for each, size in zip(free, shape, strict=True))
    return -1 in free and fits


def _data(root: Any, table: Any, kind: str, shape: tuple[int, ...], where: str, bounds: Bounds) -> Array | None:
    """A view of the file's bytes: many tensors may share one buffer, and copies would let a small file fill memory."""
    if not 0 <= table.Buffer() < root.BuffersLength():
        raise ModelError(f"{where} names buffer {table.Buffer()}, which is not there")
    if not table.Buffer():
        return None
    buffer = root.Buffers(table.Buffer())
    if buffer.Offset() > INSIDE or table.ExternalBuffer():
        raise UnsupportedModel(f"{where} has its data outside of the model; write the model as one flatbuffer")
    elements = math.prod(shape)
    if buffer.DataIsNone() or (elements and not buffer.DataLength()):
        return None
    content = buffer.DataAsNumpy() if buffer.DataLength() else np.empty(0, np.uint8)
    dtype = np.dtype(NUMPY[kind]).newbyteorder("<")
    if content.nbytes != elements * dtype.itemsize:
        raise ModelError(
            f"{where} of shape {shape} and type {kind} takes {elements * dtype.itemsize} bytes, its buffer has "
            f"{content.nbytes}"
        )
    if kind == "BOOL" and bool(np.any(content[: bounds.length(content.nbytes)] > 1)):
        raise ModelError(f"{where} is BOOL but has bytes other than 0 and 1")
    return content.view(dtype).reshape(shape)


def _quantization(table: Any, kind: str, shape: tuple[int, ...], where: str, bounds: Bounds) -> Quantization | None:
    """None where there is none, and where runtimes take what there is for none: on floats, or a single scale of 0."""
    if table is None:
        return None
    if table.DetailsType():
        raise UnsupportedModel(f"{where} is quantized in blocks or a custom way; quantize per tensor or channel")
    count = bounds.length(table.ScaleLength())
    scales = tuple(float(scale) for scale in table.ScaleAsNumpy()) if count else ()
    zero_points = bounds.numbers(table.ZeroPointLength(), table.ZeroPointAsNumpy) or (0,) * count
    if not np.issubdtype(NUMPY[kind], np.integer) or scales in ((), (0.0,)):
        return None
    axis = int(table.QuantizedDimension())
    fits = count == 1 or (0 <= axis < len(shape) and shape[axis] == count)
    positive = all(math.isfinite(scale) and scale > 0 for scale in scales)
    if not (fits and positive and len(zero_points) == count and _inside(zero_points, kind)):
        raise ModelError(
            f"{where} ({kind}, shape {shape}) has a quantization that does not fit: {count} scales, "
            f"{len(zero_points)} zero points along axis {axis}; expected positive scales and zero points of its type, "
            "one or one per index"
        )
    return Quantization(scales, zero_points, axis if count > 1 else 0)


def _inside(zero_points: tuple[int, ...], kind: str) -> bool:
    limits = np.iinfo(np.dtype(NUMPY[kind]))
    return all(limits.min <= zero <= limits.max for zero in zero_points)
