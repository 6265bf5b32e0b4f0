"""Weights as integers: which axis is the output channel, which scale fits, and the rounding itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .plan import INTEGER_RANGES, WeightEncoding
from .saturation.pair_limits import MATRIX_RANK, as_matrix, limited, rows_of, weight_of
from .scheme import WeightType

SMALLEST_SCALE = float(np.finfo(np.float32).tiny) * 2**24
"""Of a channel of zeros; small enough to mean nothing, large enough for a bias to be divided by it and the input's."""

WEIGHT_ZERO_POINT: dict[str, int] = {"int8": 0, "uint8": 128, "int4": 0}
CHUNK_ELEMENTS = 1 << 18
"""Rounded at a time: what is made on the way then stays in the processor's caches."""
LARGEST_INTEGER: dict[str, int] = {"int8": 127, "uint8": 127, "int4": 7}
"""Away from the zero point; symmetric, so that -128 is not used."""


def channel_axis(node: ir.Node) -> int:
    """The axis of output channels in the weight of a Conv, ConvTranspose, Gemm or MatMul node."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    weight = node.inputs[1]
    rank = len(weight.shape) if weight is not None and weight.shape is not None else 2
    return rank - 1


def input_channels(node: ir.Node, weight: NDArray[Any]) -> int:
    """How many channels a Conv, Gemm or MatMul node with such a weight reads, all groups together."""
    if node.op_type == "Conv":
        return int(weight.shape[1]) * node.attributes.get_int("group", 1)
    return weight.size // int(weight.shape[channel_axis(node)])


def weight_array(node: ir.Node) -> NDArray[np.float32] | None:
    """The constant weight of a node (its second input), or None where it is computed."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return None
    return value.const_value.numpy()


def is_finite(array: NDArray[Any]) -> bool:
    """Whether it holds neither NaN nor infinity; takes no memory, however large the array is."""
    return bool(np.isfinite([array.min(initial=0), array.max(initial=0)]).all())


def symmetric_encoding(weight: NDArray[Any], kind: WeightType, axis: int | None) -> WeightEncoding:
    """Full range: the largest weight of each channel becomes the largest integer."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peaks = np.maximum(weight.max(axis=others, initial=0), -weight.min(axis=others, initial=0)).reshape(-1)
    scales = np.maximum(peaks.astype(np.float64) / LARGEST_INTEGER[kind], SMALLEST_SCALE).astype(np.float32)
    return WeightEncoding(type=kind, axis=axis, scale=tuple(float(scale) for scale in scales))


def rounded(weight: NDArray[Any], encoding: WeightEncoding) -> NDArray[Any]:
    """The integers of a weight, in its own shape; int8 or uint8. Rounds half to even, as QuantizeLinear does.

    With `pair_peaks`, errors are balanced in convolutions, and weights whose pairs could overflow 16 bits move towards
    zero until they cannot.
    """
    scales = spread(encoding, weight.ndim).astype(np.float32)
    if encoding.axis is not None and encoding.pair_peaks:
        return _within_pair_limits(weight / scales, encoding.axis, encoding.pair_peaks)
    low, high = INTEGER_RANGES[encoding.type]
    zero_point = WEIGHT_ZERO_POINT[encoding.type]
    integers = np.empty(weight.shape, np.uint8 if encoding.type == "uint8" else np.int8)
    rows = max(1, CHUNK_ELEMENTS * len(weight) // max(1, weight.size))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        steps = weight[part] / (scales[part] if encoding.axis == 0 else scales)
        integers[part] = np.clip(np.rint(steps) + zero_point, low, high)
    return integers


def _within_pair_limits(steps: NDArray[Any], axis: int, pair_peaks: tuple[int, ...]) -> NDArray[np.int8]:
    peaks, positions = as_matrix(steps.shape, axis, pair_peaks)
    rows = limited(rows_of(steps, axis), peaks, positions, balance=steps.ndim > MATRIX_RANK)
    return weight_of(rows, steps.shape, axis).astype(np.int8)


def restored(integers: NDArray[Any], encoding: WeightEncoding) -> NDArray[np.float32]:
    """The float weights that the integers stand for."""
    steps = integers.astype(np.float32) - WEIGHT_ZERO_POINT[encoding.type]
    return (steps * spread(encoding, integers.ndim).astype(np.float32)).astype(np.float32)


def spread(encoding: WeightEncoding, rank: int) -> NDArray[np.float64]:
    """The scales in a shape that broadcasts over the weight; not for blocked encodings."""
    scales = np.asarray(encoding.scale, dtype=np.float64)
    if encoding.axis is None:
        return scales.reshape(())
    shape = [1] * rank
    shape[encoding.axis] = len(scales)
    return scales.reshape(shape)
