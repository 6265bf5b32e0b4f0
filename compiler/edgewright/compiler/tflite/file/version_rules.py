"""Which version of an operator has what it uses.

Rules are those of LiteRT's tflite/tools/versioning/op_version.cc and tflite/converter/tools/versioning/op_signature.cc,
for the types of tensors that a Model has. Recurrent operators have none: they keep the version that they come with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from .model import Quantization
from .uses import Use

SHUFFLED_WEIGHTS: Final = 1
"""FullyConnectedOptionsWeightsFormat.SHUFFLED4x16INT8."""
CHANNELS: Final = 3
"""The axis of channels of pictures, and of depthwise filters."""

_INT8: Final = ("INT8", "INT8", "INT8")
_INT16: Final = ("INT16", "INT16", "INT16")
_INT16_BY_8: Final = ("INT16", "INT8", "INT16")
_HYBRID: Final = ("FLOAT32", "INT8", "FLOAT32")
"""Float data and results, integer weights."""


def _conv(use: Use) -> int:
    if use.types() == _INT16_BY_8 and use.option("quantizedBiasType"):
        return 8
    if use.shape(0)[CHANNELS:] != use.shape(1)[CHANNELS:]:
        return 6
    if use.types() == _HYBRID:
        return 5 if use.per_channel(1, 0) else 2
    return {_INT16: 4, _INT8: 3}.get(use.types(), 1)


def _depthwise(use: Use) -> int:
    if use.types() == _HYBRID:
        return 6 if use.per_channel(1, CHANNELS) else 4
    dilated = use.number("dilationWFactor", 1) != 1 or use.number("dilationHFactor", 1) != 1
    return {_INT16: 5, _INT8: 3}.get(use.types(), 2 if dilated else 1)


def _fully_connected(use: Use) -> int:
    types = use.types()
    if types == _HYBRID and use.per_channel(1, 0):
        return 12
    if types == _INT16_BY_8 and use.option("quantizedBiasType"):
        return 11
    if types == _INT16:
        return 7
    if len(use.operator.inputs) == 2:
        return 6
    if use.option("keepNumDims"):
        return 5
    if types == _HYBRID:
        return 9 if use.option("asymmetricQuantizeInputs") else 3
    if types == _INT8:
        return 4
    return 2 if use.number("weightsFormat", 0) == SHUFFLED_WEIGHTS else 1


def _transpose_conv(use: Use) -> int:
    """Inputs are the result's shape, the weight, the data, and maybe a bias."""
    if (use.input(0), use.input(1), use.output()) == _INT16_BY_8 and use.option("quantizedBiasType"):
        return 5
    if use.option("fusedActivationFunction"):
        return 4
    if len(use.operator.inputs) == 4 and use.input(3):
        return 3
    return 2 if use.input(1) == "INT8" else 1


def _batch_matmul(use: Use) -> int:
    if use.types() == _HYBRID and use.option("asymmetricQuantizeInputs"):
        return 4
    return {"INT16": 3, "INT8": 2}.get(use.input(0), 1)


def _add(use: Use) -> int:
    kind = use.input(0)
    if kind == "INT16" and use.quantization(0) is None:
        return 5
    if kind == "INT16" and use.output() == "INT16":
        return 3 if not use.operator.options.get("potScaleInt16", True) else 1
    return {"INT64": 4, "INT8": 2}.get(kind, 1)


def _sub(use: Use) -> int:
    kind = use.input(0)
    if kind == "INT16" and use.output() == "INT16" and not use.operator.options.get("potScaleInt16", True):
        return 5
    if kind == "INT64":
        return 4
    return 3 if use.broadcasts() else 2 if kind == "INT8" else 1


def _mul(use: Use) -> int:
    kind, quantized = use.input(0), use.quantization(0) is not None or use.quantization(1) is not None
    if kind == "UINT32" or (kind == "INT16" and not quantized):
        return 7
    if kind in {"INT64", "INT16"}:
        return {"INT64": 5, "INT16": 4}[kind]
    if _rescales_up(use):
        return 3
    return 2 if kind == "INT8" else 1


def _rescales_up(use: Use) -> bool:
    """Whether one step of a product of integers is a step of the result or more."""
    one, other, result = use.quantization(0), use.quantization(1), use.quantization(0, output=True)
    if one is None or other is None or result is None:
        return False
    step = np.float32(one.scales[0]) * np.float32(other.scales[0]) / np.float32(result.scales[0])
    return bool(step >= 1)


def _div(use: Use) -> int:
    return 2 if use.broadcasts() else 1


def _extreme(use: Use) -> int:
    if use.input(0) == "INT16" and use.output() == "INT16":
        return 4
    return 3 if use.broadcasts() else 2 if use.input(0) == "INT8" else 1


def _abs(use: Use) -> int:
    if use.input(0) == "INT16":
        return 3 if use.quantization(0) is not None else 4
    return {"INT32": 5, "INT8": 2, "UINT8": 2}.get(use.input(0), 1)


def _dequantize(use: Use) -> int:
    if use.input(0) in {"INT16", "FLOAT16"}:
        return 3
    if use.input(0) != "INT8":
        return 1
    return 5 if _several(use.quantization(0)) else 2


def _quantize(use: Use) -> int:
    if _several(use.quantization(0, output=True)):
        return 3
    return 2 if use.output() == "INT16" else 1


def _several(quantization: Quantization | None) -> bool:
    return quantization is not None and len(quantization.scales) > 1


def _transpose(use: Use) -> int:
    rank = len(use.shape(0))
    if rank > 5:
        return 6
    if use.input(0) == "INT16":
        return 5
    return 4 if rank > 4 else {"BOOL": 3, "INT8": 2}.get(use.input(0), 1)


def _slice(use: Use) -> int:
    if use.input(0) == "UINT32":
        return 6
    return 5 if len(use.shape(0)) > 4 else {"INT16": 4, "INT8": 2}.get(use.input(0), 1)


def _strided_slice(use: Use) -> int:
    if use.option("offset"):
        return 8
    if use.input(0) == "UINT32":
        return 7
    if use.option("ellipsisMask") or use.option("newAxisMask"):
        return 6
    return 4 if len(use.shape(0)) > 4 else {"BOOL": 3, "INT8": 2}.get(use.input(0), 1)


def _pad(use: Use) -> int:
    if use.input(0) == "BOOL":
        return 5
    return 4 if len(use.shape(0)) > 4 else {"INT16": 3, "INT8": 2}.get(use.input(0), 1)


def _resize(use: Use, *options: str) -> int:
    if use.input(0) == "INT16":
        return 4
    return 3 if any(use.option(name) for name in options) else 2 if use.input(0) == "INT8" else 1


def _resize_bilinear(use: Use) -> int:
    return _resize(use, "halfPixelCenters")


def _resize_nearest(use: Use) -> int:
    return _resize(use, "halfPixelCenters", "alignCorners")


def _space_and_batch(use: Use) -> int:
    if use.input(0) == "INT16":
        return 4
    return 3 if len(use.shape(0)) != 4 else 2 if use.input(0) == "INT8" else 1


def _gather(use: Use) -> int:
    if use.input(1) == "INT16":
        return 6
    if use.option("batchDims"):
        return 5
    return {"INT16": 4, "BOOL": 3, "INT8": 2}.get(use.input(0), 1)


def _gather_nd(use: Use) -> int:
    if use.input(0) == "BOOL":
        return 5
    return 4 if use.input(1) == "INT16" else 3 if use.input(0) == "INT16" else 1


def _select(use: Use) -> int:
    if use.input(0) == "UINT32":
        return 4
    if any(len(use.shape(index)) == 5 for index in range(3)):
        return 3
    return 2 if use.input(0) == "INT8" else 1


def _top_k(use: Use) -> int:
    if "INT16" in {use.input(0), use.input(1), use.output(1)}:
        return 3
    return 2 if use.input(0) == "INT8" else 1


_CASTS: Final = (("FLOAT64", 5), ("FLOAT16", 5), ("UINT16", 4), ("INT8", 3), ("UINT32", 2))


def _cast(use: Use) -> int:
    return next((version for kind, version in _CASTS if kind in {use.input(0), use.output()}), 1)


def _split(use: Use) -> int:
    """The data are the second input; the first is the axis."""
    return {"INT16": 4, "INT32": 3, "INT8": 2}.get(use.input(1), 1)


def _fill(use: Use) -> int:
    return {"FLOAT16": 4, "INT8": 3, "INT16": 3, "BOOL": 2}.get(use.input(1), 1)


RULES: Final[Mapping[str, Callable[[Use], int]]] = {
    "ABS": _abs,
    "ADD": _add,
    "BATCH_MATMUL": _batch_matmul,
    "BATCH_TO_SPACE_ND": _space_and_batch,
    "CAST": _cast,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "FILL": _fill,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "MAXIMUM": _extreme,
    "MINIMUM": _extreme,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SELECT": _select,
    "SLICE": _slice,
    "SPACE_TO_BATCH_ND": _space_and_batch,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "TOPK_V2": _top_k,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
}
