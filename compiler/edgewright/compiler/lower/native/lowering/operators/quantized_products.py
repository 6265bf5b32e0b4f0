"""Integer products as ONNX Runtime computes them, exact: QLinearConv, QGemm and their like.

Sums and requantization are those of `products.py` of the emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from .....attributes import given, integer, needed, number
from ...expression import Accumulator, Expression, Row, Scalar, call
from ...net import Array, Convolution, Dense, Dtype, Epilogue
from ...requantization import requantized, rounded
from ..elementwise import emit_map
from ..encodings import Encoding, dtype_of, encoding
from ..stored_weights import DOMAIN, OPERATOR, signed
from ..walk import Walk, identity
from . import products
from .windows import windows_of


def _weight(walk: Walk, node: ir.Node, index: int, zero: int) -> Array:
    """Constant weights as int8 around 0."""
    weight = walk.constant(needed(node, index))
    if weight is None:
        walk.refuse(node, "its weights are computed at run time", "make them constant before the export")
    value = given(node, zero)
    points = None if value is None else walk.constant(value)
    moved = signed(weight, np.zeros(1, np.int8) if points is None else points)
    if moved is None:
        walk.refuse(node, "its weights do not fit int8 around their zero point", "quantize them symmetrically")
    return moved


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


def stored_product(walk: Walk, node: ir.Node) -> None:
    """A float product by weights that are kept as integers: the sum of whole numbers, scaled, and a bias."""
    weight, rows = walk.constant(needed(node, 1)), walk.constant(needed(node, 2))
    if weight is None or rows is None:
        raise ValueError(f"{node.name!r} has no weights")
    value: Expression = call("mul", Accumulator(), Row(0))
    biased = bool(rows[1].any())
    epilogue = Epilogue(call("add", value, Row(1)) if biased else value, tuple(rows[: 1 + biased]))
    products.from_the_right(walk, needed(node, 0), weight, node.outputs[0], epilogue)


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
    dtype: Dtype = "f32" if y is None else dtype_of(y)
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


def _two_activations(
    walk: Walk,
    node: ir.Node,
    values: tuple[ir.Value, ir.Value],
    factors: tuple[Encoding, Encoding],
    factor: Array,
    y: Encoding | None,
) -> None:
    """A float product of whole numbers: exact while its sums are below 2^24, at least up to 258 terms.

    Larger sums are rounded to 24 bits, as float32(sum) is before it is requantized, but perhaps more than once: a
    result on the edge of two steps may come out as its neighbour.
    """
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
    dtype, zero = dtype_of(y), y.zero
    emit_map(walk, [sums], node.outputs[0], dtype, lambda total: rounded(call("mul", total, scale), zero, dtype))


TABLE: Mapping[tuple[str, str], Callable[[Walk, ir.Node], None]] = {
    ("", "QLinearConv"): qlinear_conv,
    ("", "QLinearMatMul"): qlinear_matmul,
    (DOMAIN, OPERATOR): stored_product,
    ("com.microsoft", "QGemm"): qgemm,
    ("com.microsoft", "MatMulIntegerToFloat"): matmul_integer_to_float,
}
