"""Integer operators as ONNX Runtime computes them, and the quantizers that are left.

Formulas are those of MLAS on x86 with fused multiply-add (`qladd.cpp`, `qlmul.cpp`, `qlgavgpool.cpp`, `quantize.cpp`
of ONNX Runtime 1.31), compared bit by bit with it; ONNX Runtime on another processor may round sums of two products
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import integer, integers, needed, number
from ...expression import Accumulator, Expression, Scalar, call
from ...net import Dtype, Epilogue, Reduce
from ...requantization import LIMITS, requantized, rounded
from ..elementwise import emit_map
from ..encodings import Encoding, dtype_of, encoding
from ..walk import Order, Walk
from . import movement, quantized_products, reductions
from .windows import windows_of

MICROSOFT = "com.microsoft"


def qlinear_add(walk: Walk, node: ir.Node) -> None:
    """QLinearAdd: fma(ra, a, fma(rb, b, zy - fma(ra, za, rb * zb))) with ra = scale of a / scale of y."""
    (first, a), (second, b) = _two(walk, node)
    y = encoding(walk, node, 6, 7)
    ra, rb = np.float32(a.step / y.step), np.float32(b.step / y.step)
    fixed = np.float32(y.zero) - _fma(ra, np.float32(a.zero), np.float32(rb * np.float32(b.zero)))
    dtype = walk.dtype(first)

    def sum_of(p: Expression, q: Expression) -> Expression:
        inner = call("fma", Scalar(float(rb)), call("to_f32", q), Scalar(float(np.float32(fixed))))
        return _held(call("fma", Scalar(float(ra)), call("to_f32", p), inner), dtype)

    emit_map(walk, [first, second], node.outputs[0], dtype, sum_of)


def _two(walk: Walk, node: ir.Node) -> tuple[tuple[ir.Value, Encoding], tuple[ir.Value, Encoding]]:
    """Both operands; a single number comes second, as in ONNX Runtime."""
    left = needed(node, 0), encoding(walk, node, 1, 2)
    right = needed(node, 3), encoding(walk, node, 4, 5)
    return (right, left) if int(np.prod(walk.shape(left[0]))) == 1 else (left, right)


def _fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """Rounded once: a product of two floats is exact in float64, and its sum with a third nearly always."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


def _held(value: Expression, dtype: Dtype) -> Expression:
    """A float that has its zero point in it, as an integer of a type."""
    low, high = (float(limit) for limit in LIMITS[dtype])
    return call("to_s32_even", call("min", call("max", value, Scalar(low)), Scalar(high)))


def qlinear_mul(walk: Walk, node: ir.Node) -> None:
    """QLinearMul: the product of the whole numbers, times one factor, plus the zero point, then rounded."""
    (first, a), (second, b) = _two(walk, node)
    y = encoding(walk, node, 6, 7)
    factor = np.float32(np.float32(a.step * b.step) / y.step)
    dtype = walk.dtype(first)

    def product_of(p: Expression, q: Expression) -> Expression:
        whole = call("imul", _less(p, a.zero), _less(q, b.zero))
        steps = call("mul", call("to_f32", whole), Scalar(float(factor)))
        return _held(call("add", steps, Scalar(float(y.zero))), dtype)

    emit_map(walk, [first, second], node.outputs[0], dtype, product_of)


def _less(value: Expression, zero: int) -> Expression:
    return call("isub", value, Scalar(zero, "s32")) if zero else value


def global_average(walk: Walk, node: ir.Node) -> None:
    """QLinearGlobalAveragePool: an exact sum, requantized."""
    x, y = encoding(walk, node, 1, 2), encoding(walk, node, 3, 4)
    value = needed(node, 0)
    if integer(node, "channels_last", 0):
        walk.refuse(node, "its channels come last", "give the model before ONNX Runtime laid it out")
    shape = walk.shape(value)
    order: Order = (0, *range(2, len(shape)), 1)
    source = walk.read(value, order)
    factor = np.float32(x.step / np.float32(y.step * np.float32(np.prod(shape[2:]))))
    dtype = walk.dtype(value)
    result = walk.fresh(node.outputs[0].name or "", (shape[0], *(1,) * (len(shape) - 2), shape[1]), dtype)
    epilogue = Epilogue(requantized(Accumulator("s32"), Scalar(float(factor)), y.zero, dtype))
    axes = tuple(range(1, len(shape) - 1))
    walk.emit(
        Reduce(kind="mean", x=source, y=result, axes=axes, x_zero_point=x.zero, epilogue=epilogue, origin=walk.origin)
    )
    walk.give(node.outputs[0], result, order)


def average(walk: Walk, node: ir.Node) -> None:
    """QLinearAveragePool of the whole picture, which is the global one; others are summed in float."""
    value = needed(node, 0)
    seen = windows_of(walk, node, integers(node, "kernel_shape") or ())
    if seen.covers_all:
        global_average(walk, node)
        return
    x, y = encoding(walk, node, 1, 2), encoding(walk, node, 3, 4)
    name = node.outputs[0].name
    real, mean = ir.Value(name=f"{name}.real"), ir.Value(name=f"{name}.mean")
    emit_map(walk, [value], real, "f32", lambda q: _real(q, x))
    attributes = list(node.attributes.values())
    reductions.TABLE["AveragePool"](walk, ir.Node("", "AveragePool", [real], attributes, outputs=[mean]))
    step, zero = Scalar(float(y.step)), Scalar(float(y.zero))
    quantized = dtype_of(y)
    emit_map(
        walk, [mean], node.outputs[0], quantized,
        lambda each: _held(call("add", call("div", each, step), zero), quantized),
    )  # fmt: skip


def _real(value: Expression, x: Encoding) -> Expression:
    return call("mul", call("to_f32", _less(value, x.zero)), Scalar(float(x.step)))


def _steps(value: Expression, y: Encoding) -> Expression:
    return rounded(call("div", value, Scalar(float(y.step))), y.zero, dtype_of(y))


def table(function: Callable[[ir.Node, Expression], Expression]) -> Callable[[Walk, ir.Node], None]:
    """An operator of one value that ONNX Runtime looks up in 256 results: dequantized, computed, quantized."""

    def lower(walk: Walk, node: ir.Node) -> None:
        x, y = encoding(walk, node, 1, 2), encoding(walk, node, 3, 4)
        emit_map(
            walk, [needed(node, 0)], node.outputs[0], dtype_of(y), lambda q: _steps(function(node, _real(q, x)), y)
        )

    return lower


def _sigmoid(node: ir.Node, value: Expression) -> Expression:
    del node
    return call("sigmoid", value)


def _leaky(node: ir.Node, value: Expression) -> Expression:
    below = call("mul", value, Scalar(number(node, "alpha", 0.01)))
    return call("select", call("less", value, Scalar(0.0)), below, value)


def concat(walk: Walk, node: ir.Node) -> None:
    """QLinearConcat: parts in another encoding are brought to the result's, the others are moved."""
    y = encoding(walk, node, 0, 1)
    parts: list[ir.Value] = []
    for index in range(2, len(node.inputs), 3):
        x = encoding(walk, node, index + 1, index + 2)
        value = needed(node, index)
        if (x.step, x.zero) == (y.step, y.zero) and walk.dtype(value) == dtype_of(y):
            parts.append(value)
            continue
        part = ir.Value(name=f"{node.outputs[0].name}.part{index // 3}")
        emit_map(walk, [value], part, dtype_of(y), lambda q, x=x: _steps(_real(q, x), y))
        parts.append(part)
    stand_in = ir.Node(
        "", "Concat", parts, list(node.attributes.values()), outputs=[ir.Value(name=node.outputs[0].name)]
    )
    movement.TABLE["Concat"](walk, stand_in)


def quantize(walk: Walk, node: ir.Node) -> None:
    """QuantizeLinear of one scale for all."""
    y = encoding(walk, node, 1, 2)
    if y.scale.size > 1 or y.zero_point.dtype not in (np.int8, np.uint8):
        walk.refuse(node, "native code quantizes to 8 bits by one scale for all", "compile for another engine")
    emit_map(walk, [needed(node, 0)], node.outputs[0], dtype_of(y), lambda value: _steps(value, y))


def dequantize(walk: Walk, node: ir.Node) -> None:
    """DequantizeLinear of one scale for all."""
    x = encoding(walk, node, 1, 2)
    if x.scale.size > 1 or walk.dtype(needed(node, 0)) not in ("u8", "s8", "s32"):
        walk.refuse(node, "native code dequantizes 8 bits by one scale for all", "compile for another engine")
    emit_map(walk, [needed(node, 0)], node.outputs[0], "f32", lambda value: _real(value, x))


Operator = Callable[[Walk, ir.Node], None]
TABLE: Mapping[tuple[str, str], Operator] = {
    **quantized_products.TABLE,
    ("", "QuantizeLinear"): quantize,
    ("", "DequantizeLinear"): dequantize,
    (MICROSOFT, "QLinearAdd"): qlinear_add,
    (MICROSOFT, "QLinearMul"): qlinear_mul,
    (MICROSOFT, "QLinearGlobalAveragePool"): global_average,
    (MICROSOFT, "QLinearAveragePool"): average,
    (MICROSOFT, "QLinearSigmoid"): table(_sigmoid),
    (MICROSOFT, "QLinearLeakyRelu"): table(_leaky),
    (MICROSOFT, "QLinearConcat"): concat,
}
