"""Operators that change how numbers are stored."""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import TensorProto, helper

from ...file.model import NUMPY
from ..step import Step
from .row import Row

ONNX_TYPES: Final = {name: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, kind in NUMPY.items()}


def quantize(step: Step) -> None:
    """QuantizeLinear, after DequantizeLinear where the input is quantized too."""
    if step.reading.encoding(step.operator.outputs[0]) is None:
        step.wrong("its result has no scale")
    order = step.native(0)
    step.finish(step.real(0, order), order)


def dequantize(step: Step) -> None:
    """DequantizeLinear, or Cast of half floats; nothing for constants, which are read as what they mean."""
    source, result = step.input(0), step.operator.outputs[0]
    if step.result_type() != "FLOAT32" or step.shape(0) != step.result_shape():
        step.wrong(f"it gives {step.result_type()} of shape {step.result_shape()}, expected FLOAT32 {step.shape(0)}")
    encoding, kind = step.reading.encoding(source), step.type(0)
    if kind != "FLOAT16" and encoding is None:
        step.wrong(f"its input is {kind} without a scale")
    if step.reading.known(source) is not None:
        step.reading.alias(result, source)
        return
    order = step.native(0)
    if encoding is None:
        step.finish(step.node("Cast", step.real(0, order), to=TensorProto.FLOAT), order)
        return
    integers = step.reading.integers(source, order)
    step.finish(step.reading.dequantized(integers, kind, encoding, step.reading.model.tensors[result].name), order)


def cast(step: Step) -> None:
    """Cast."""
    order = step.native(0)
    step.finish(step.node("Cast", step.real(0, order), to=ONNX_TYPES[step.result_type()]), order)


def shape(step: Step) -> None:
    """Shape."""
    y = step.node("Shape", step.real(0))
    step.finish(step.node("Cast", y, to=TensorProto.INT32) if step.result_type() == "INT32" else y)


TABLE = {
    "QUANTIZE": Row(quantize, 1, 1),
    "DEQUANTIZE": Row(dequantize, 1, 1),
    "CAST": Row(cast, 1, 1),
    "SHAPE": Row(shape, 1, 1),
}
