"""Integer operators as ONNX Runtime computes them, exact: QLinear* and QGemm, and the quantizers that are left.

Formulas are those of MLAS on x86 with fused multiply-add (`qladd.cpp`, `qlmul.cpp`, `qlgavgpool.cpp`, `quantize.cpp`
of ONNX Runtime 1.31), compared bit by bit with it; ONNX Runtime on another processor may round sums of two products
otherwise. Products: `products.py` of the emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import onnx_ir as ir

from ...expression import Accumulator, Expression, Row, Scalar, call
from ...net import Array, Convolution, Dense, Dtype, Epilogue, Reduce
from ...requantization import LIMITS, requantized, rounded
from ..attributes import given, integer, integers, needed, number
from ..elementwise import emit_map
from ..walk import Order, Walk, identity
from . import movement, products, reductions
from .windows import windows_of

MICROSOFT = "com.microsoft"
EXACT_FLOAT_SUM = 2**24
"""Below this, sums of whole numbers in float32 are exact in any order."""


@dataclass(frozen=True)
class Encoding:
    """How integers stand for reals."""

    scale: Array
    """float32, flat: one number, or one per channel."""
    zero_point: Array
    """Integers, flat."""

    @property
    def step(self) -> np.float32:
        return np.float32(self.scale[0])

    @property
    def zero(self) -> int:
        return int(self.zero_point[0])


def encoding(walk: Walk, node: ir.Node, scale: int, zero: int) -> Encoding:
    """Two inputs of a node.

    Raises:
        UnsupportedModel: they are computed at run time.
    """
    known = walk.constant(needed(node, scale))
    if known is None:
        _refuse_dynamic(walk, node)
    value = given(node, zero)
    zeros = np.zeros(1, np.uint8) if value is None else walk.constant(value)
    if zeros is None:
        _refuse_dynamic(walk, node)
    return Encoding(known.astype(np.float32).reshape(-1), zeros.reshape(-1))


def _refuse_dynamic(walk: Walk, node: ir.Node) -> NoReturn:
    walk.refuse(node, "its scales are computed at run time", "quantize statically, or compile for another engine")


def _weight(walk: Walk, node: ir.Node, index: int, zero: int) -> Array:
    """Constant weights as int8 around 0."""
    weight = walk.constant(needed(node, index))
    if weight is None:
        walk.refuse(node, "its weights are computed at run time", "make them constant before the export")
    value = given(node, zero)
    points = None if value is None else walk.constant(value)
    offset = np.zeros(1, np.int64) if points is None else np.unique(points.astype(np.int64))
    moved = weight.astype(np.int64) - offset[0]
    if offset.size > 1 or moved.min(initial=0) < -128 or moved.max(initial=0) > 127:
        walk.refuse(node, "its weights do not fit int8 around their zero point", "quantize them symmetrically")
    return np.asarray(moved, np.int8)


def _integer_bias(walk: Walk, node: ir.Node, index: int, channels: int) -> Array:
    value = given(node, index)
    known = np.zeros(channels, np.int32) if value is None else walk.constant(value)
    if known is None:
        walk.refuse(node, "its bias is computed at run time", "make it constant")
    return np.ascontiguousarray(np.broadcast_to(known.reshape(-1), channels), np.int32)


def _requantizing(bias: Array, factor: Array, y: Encoding, dtype: Dtype) -> Epilogue:
    """Bias and factors of a product whose result is integers."""
    rows: tuple[Array, ...] = (bias,)
    scale: Expression = Scalar(float(factor[0]))
    if factor.size > 1:
        rows, scale = (bias, factor), Row(1)
    total = call("iadd", Accumulator("s32"), Row(0, "s32"))
    return Epilogue(requantized(total, scale, y.zero, dtype), rows)


def _dequantizing(bias: Array, factor: Array) -> Epilogue:
    """Bias and factors of a product whose result is float."""
    total = call("to_f32", call("iadd", Accumulator("s32"), Row(0, "s32")))
    if factor.size > 1:
        return Epilogue(call("mul", total, Row(1)), (bias, factor))
    return Epilogue(call("mul", total, Scalar(float(factor[0]))), (bias,))


def qlinear_conv(walk: Walk, node: ir.Node) -> None:
    """QLinearConv; a product where windows are single points or the whole picture."""
    x, y = encoding(walk, node, 1, 2), encoding(walk, node, 6, 7)
    scales = encoding(walk, node, 4, 5).scale
    weight = _weight(walk, node, 3, 5)
    dtype = walk.dtype(needed(node, 0))
    seen = windows_of(walk, node, weight.shape[2:])
    four = weight if weight.ndim == 4 else weight[:, :, None, :]
    packed = np.ascontiguousarray(four.transpose(0, 2, 3, 1))
    factor = (x.step * scales / y.step).astype(np.float32)
    epilogue = _requantizing(_integer_bias(walk, node, 8, len(weight)), factor, y, dtype)
    batch = walk.shape(needed(node, 0))[0]
    result = walk.fresh(node.outputs[0].name or "", (batch, *seen.out, len(weight)), dtype)
    groups = integer(node, "group", 1)
    plain = seen.window == (1, 1) and seen.strides == (1, 1) and not any((*seen.begin, *seen.end))
    if groups == 1 and plain:
        source = walk.read(needed(node, 0), seen.order)
        walk.emit(
            Dense(
                x=source, y=result, weight=packed[:, 0, 0], x_zero_point=x.zero, epilogue=epilogue, origin=walk.origin
            )
        )
    else:
        source = walk.bordered(needed(node, 0), seen.order, seen.border(x.zero))
        walk.emit(
            Convolution(
                x=source,
                y=result,
                weight=packed,
                strides=seen.strides,
                dilations=seen.dilations,
                top=seen.begin[0],
                left=seen.begin[1],
                groups=groups,
                x_zero_point=x.zero,
                epilogue=epilogue,
                origin=walk.origin,
            )
        )
    walk.give(node.outputs[0], result, seen.order)


def qgemm(walk: Walk, node: ir.Node) -> None:
    """QGemm: integers, or float32 where it has no output scale."""
    if integer(node, "transA", 0):
        walk.refuse(node, "its first factor is turned (transA)", "transpose it before")
    a = encoding(walk, node, 1, 2)
    scales = encoding(walk, node, 4, 5).scale
    weight = _weight(walk, node, 3, 5)
    weight = weight if integer(node, "transB", 0) else weight.T
    factor = (np.float32(number(node, "alpha", 1.0)) * a.step * scales).astype(np.float32)
    bias = _integer_bias(walk, node, 6, len(weight))
    y = encoding(walk, node, 7, 8) if given(node, 7) is not None else None
    factor = factor if y is None else (factor / y.step).astype(np.float32)
    _dense(walk, node, needed(node, 0), weight, a, bias, factor, y)


def qlinear_matmul(walk: Walk, node: ir.Node) -> None:
    """QLinearMatMul."""
    a, y = encoding(walk, node, 1, 2), encoding(walk, node, 6, 7)
    b = encoding(walk, node, 4, 5)
    factor = (a.step * b.scale / y.step).astype(np.float32)
    if walk.constant(needed(node, 3)) is None:
        _two_activations(walk, node, (needed(node, 0), needed(node, 3)), (a, b), factor, y)
    else:
        weight = _columns(walk, node, 3, 5)
        _dense(walk, node, needed(node, 0), weight, a, np.zeros(len(weight), np.int32), factor, y)


def matmul_integer_to_float(walk: Walk, node: ir.Node) -> None:
    """MatMulIntegerToFloat without a bias."""
    a, b = encoding(walk, node, 2, 4), encoding(walk, node, 3, 5)
    if given(node, 6) is not None:
        walk.refuse(node, "it adds a bias", "compile for another engine")
    factor = (a.step * b.scale).astype(np.float32)
    if walk.constant(needed(node, 1)) is None:
        _two_activations(walk, node, (needed(node, 0), needed(node, 1)), (a, b), factor, None)
    else:
        weight = _columns(walk, node, 1, 5)
        _dense(walk, node, needed(node, 0), weight, a, np.zeros(len(weight), np.int32), factor, None)


def _columns(walk: Walk, node: ir.Node, index: int, zero: int) -> Array:
    """The right factor of a matrix product as (K, C)."""
    weight = _weight(walk, node, index, zero)
    if weight.ndim != 2:
        walk.refuse(node, f"its weights have shape {weight.shape}", "only two dimensions have a native form")
    return weight.T


def _dense(
    walk: Walk, node: ir.Node, x: ir.Value, weight: Array, a: Encoding, bias: Array, factor: Array, y: Encoding | None
) -> None:
    rank = len(walk.shape(x))
    source = walk.read(x, identity(rank))
    dtype: Dtype = "f32" if y is None else _dtype(y)
    epilogue = _dequantizing(bias, factor) if y is None else _requantizing(bias, factor, y, dtype)
    result = walk.fresh(node.outputs[0].name or "", (*source.shape[:-1], len(weight)), dtype)
    walk.emit(
        Dense(
            x=source,
            y=result,
            weight=np.ascontiguousarray(weight),
            x_zero_point=a.zero,
            epilogue=epilogue,
            origin=walk.origin,
        )
    )
    walk.give(node.outputs[0], result, identity(rank))


def _dtype(y: Encoding) -> Dtype:
    return "s8" if y.zero_point.dtype == np.int8 else "u8"


def _two_activations(
    walk: Walk,
    node: ir.Node,
    values: tuple[ir.Value, ir.Value],
    factors: tuple[Encoding, Encoding],
    factor: Array,
    y: Encoding | None,
) -> None:
    """A float product of whole numbers, exact as long as its sums are below 2^24."""
    depth = walk.shape(values[0])[-1]
    if depth * 255 * 255 >= EXACT_FLOAT_SUM:
        walk.refuse(node, f"it sums {depth} products of two activations", "keep it in float (a plan's `float`)")
    name = node.outputs[0].name
    whole = [ir.Value(name=f"{name}.factor{index}") for index in range(2)]
    for value, part, each in zip(values, whole, factors, strict=True):
        taken = Scalar(each.zero, "s32")
        emit_map(walk, [value], part, "f32", lambda q, taken=taken: call("to_f32", call("isub", q, taken)))
    sums = ir.Value(name=f"{name}.sums")
    products.matmul(walk, ir.Node("", "MatMul", whole, outputs=[sums]))
    scale = Scalar(float(factor[0]))
    if y is None:
        emit_map(walk, [sums], node.outputs[0], "f32", lambda total: call("mul", total, scale))
        return
    dtype, zero = _dtype(y), y.zero
    emit_map(walk, [sums], node.outputs[0], dtype, lambda total: rounded(call("mul", total, scale), zero, dtype))


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
    quantized = _dtype(y)
    emit_map(
        walk, [mean], node.outputs[0], quantized,
        lambda each: _held(call("add", call("div", each, step), zero), quantized),
    )  # fmt: skip


def _real(value: Expression, x: Encoding) -> Expression:
    return call("mul", call("to_f32", _less(value, x.zero)), Scalar(float(x.step)))


def _steps(value: Expression, y: Encoding) -> Expression:
    return rounded(call("div", value, Scalar(float(y.step))), y.zero, _dtype(y))


def table(function: Callable[[ir.Node, Expression], Expression]) -> Callable[[Walk, ir.Node], None]:
    """An operator of one value that ONNX Runtime looks up in 256 results: dequantized, computed, quantized."""

    def lower(walk: Walk, node: ir.Node) -> None:
        x, y = encoding(walk, node, 1, 2), encoding(walk, node, 3, 4)
        emit_map(walk, [needed(node, 0)], node.outputs[0], _dtype(y), lambda q: _steps(function(node, _real(q, x)), y))

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
        if (x.step, x.zero) == (y.step, y.zero) and walk.dtype(value) == _dtype(y):
            parts.append(value)
            continue
        part = ir.Value(name=f"{node.outputs[0].name}.part{index // 3}")
        emit_map(walk, [value], part, _dtype(y), lambda q, x=x: _steps(_real(q, x), y))
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
    emit_map(walk, [needed(node, 0)], node.outputs[0], _dtype(y), lambda value: _steps(value, y))


def dequantize(walk: Walk, node: ir.Node) -> None:
    """DequantizeLinear of one scale for all."""
    x = encoding(walk, node, 1, 2)
    if x.scale.size > 1 or walk.dtype(needed(node, 0)) not in ("u8", "s8", "s32"):
        walk.refuse(node, "native code dequantizes 8 bits by one scale for all", "compile for another engine")
    emit_map(walk, [needed(node, 0)], node.outputs[0], "f32", lambda value: _real(value, x))


Operator = Callable[[Walk, ir.Node], None]
TABLE: Mapping[tuple[str, str], Operator] = {
    ("", "QLinearConv"): qlinear_conv,
    ("", "QLinearMatMul"): qlinear_matmul,
    ("", "QuantizeLinear"): quantize,
    ("", "DequantizeLinear"): dequantize,
    (MICROSOFT, "QGemm"): qgemm,
    (MICROSOFT, "MatMulIntegerToFloat"): matmul_integer_to_float,
    (MICROSOFT, "QLinearAdd"): qlinear_add,
    (MICROSOFT, "QLinearMul"): qlinear_mul,
    (MICROSOFT, "QLinearGlobalAveragePool"): global_average,
    (MICROSOFT, "QLinearAveragePool"): average,
    (MICROSOFT, "QLinearSigmoid"): table(_sigmoid),
    (MICROSOFT, "QLinearLeakyRelu"): table(_leaky),
    (MICROSOFT, "QLinearConcat"): concat,
}
