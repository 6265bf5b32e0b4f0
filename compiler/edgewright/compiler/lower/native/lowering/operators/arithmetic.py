"""Element-wise operators of several values: arithmetic, comparisons, logic, Where, Cast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np
import onnx_ir as ir

from .....attributes import integer, needed
from ...expression import Expression, Scalar, call
from ...net import NUMPY, Dtype
from ..elementwise import ONE, ZERO, emit_map, kind_of
from ..walk import DTYPES, Walk

_FLOATS = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max", "Sum": "add",
}  # fmt: skip
_INTEGERS = {"Add": "iadd", "Sub": "isub", "Mul": "imul", "Min": "imin", "Max": "imax", "Sum": "iadd"}
_LOGIC = {"And": "and", "Or": "or", "Xor": "xor"}
SAFE_DIVISORS = (1e-30, 1e30)
"""Their reciprocals are normal numbers."""


def arithmetic(walk: Walk, node: ir.Node) -> None:
    """Two or more values, left to right."""
    values = [needed(node, index) for index in range(len(node.inputs))]
    dtype = walk.dtype(values[0])
    if dtype == "f32" and node.op_type == "Mean":
        share = Scalar(1 / len(values))
        emit_map(walk, values, node.outputs[0], dtype, lambda *each: call("mul", _folded("add", each), share))
    elif dtype == "f32":
        emit_map(walk, values, node.outputs[0], dtype, lambda *each: _folded(_FLOATS[node.op_type], each))
    elif dtype in ("s32", "s64") and node.op_type in _INTEGERS:
        emit_map(walk, values, node.outputs[0], dtype, lambda *each: _folded(_INTEGERS[node.op_type], each))
    else:
        walk.refuse(node, f"its inputs are of type {dtype}", "cast them to float32 before")


def _folded(operation: str, parts: tuple[Expression, ...]) -> Expression:
    if operation == "div":
        return _quotient(*parts)
    return reduce(lambda left, right: call(operation, left, right), parts)


def _quotient(x: Expression, divisor: Expression) -> Expression:
    if isinstance(divisor, Scalar) and SAFE_DIVISORS[0] < abs(divisor.value) < SAFE_DIVISORS[1]:
        return call("mul", x, Scalar(1 / divisor.value))
    return call("div", x, divisor)


def power(walk: Walk, node: ir.Node) -> None:
    """Small whole exponents, roots and their reciprocals without `pow`."""
    x, exponent = needed(node, 0), needed(node, 1)
    dtype = walk.dtype(x)
    if dtype != "f32":
        walk.refuse(node, f"its base is of type {dtype}", "cast it to float32 before")
    known = walk.constant(exponent)
    if known is not None and known.size == 1 and len(known.shape) <= len(walk.shape(x)):
        number = float(known.reshape(-1)[0])
        emit_map(walk, [x], node.outputs[0], dtype, lambda each: _raised(each, number))
        return
    emit_map(walk, [x, exponent], node.outputs[0], dtype, lambda base, by: call("pow", base, _as_float(by)))


def _raised(x: Expression, exponent: float) -> Expression:
    match exponent:
        case 1.0:
            return x
        case 2.0:
            return call("mul", x, x)
        case 3.0:
            return call("mul", call("mul", x, x), x)
        case 0.5:
            return call("sqrt", x)
        case -0.5:
            return call("div", Scalar(1.0), call("sqrt", x))
        case -1.0:
            return call("reciprocal", x)
        case _:
            return call("pow", x, Scalar(exponent))


def _as_float(x: Expression) -> Expression:
    return x if x.kind == "f32" else call("to_f32", x)


def modulo(walk: Walk, node: ir.Node) -> None:
    """Only of floats: the remainder has the sign of the dividend."""
    values = [needed(node, 0), needed(node, 1)]
    if walk.dtype(values[0]) != "f32" or not integer(node, "fmod", 0):
        walk.refuse(node, "only Mod of floats with fmod=1 has a native form", "compile for another engine")
    emit_map(walk, values, node.outputs[0], "f32", lambda x, y: call("fmod", x, y))


def compare(walk: Walk, node: ir.Node) -> None:
    """Truth values of floats or integers."""
    values = [needed(node, 0), needed(node, 1)]
    floats = kind_of(walk.dtype(values[0])) == "f32"
    names = ("less", "less_equal", "equal") if floats else ("iless", "", "iequal")

    def build(x: Expression, y: Expression) -> Expression:
        match node.op_type:
            case "Equal":
                return call(names[2], x, y)
            case "Less":
                return call(names[0], x, y)
            case "Greater":
                return call(names[0], y, x)
            case "LessOrEqual":
                return call("less_equal", x, y) if floats else call("not", call("iless", y, x))
            case _:
                return call("less_equal", y, x) if floats else call("not", call("iless", x, y))

    emit_map(walk, values, node.outputs[0], "bool", build)


def logic(walk: Walk, node: ir.Node) -> None:
    """And, Or, Xor, Not of truth values."""
    values = [needed(node, index) for index in range(len(node.inputs))]
    if node.op_type == "Not":
        emit_map(walk, values, node.outputs[0], "bool", lambda x: call("not", x))
    else:
        emit_map(walk, values, node.outputs[0], "bool", lambda x, y: call(_LOGIC[node.op_type], x, y))


def not_a_number(walk: Walk, node: ir.Node) -> None:
    """What is not equal to itself."""
    emit_map(walk, [needed(node, 0)], node.outputs[0], "bool", lambda x: call("not", call("equal", x, x)))


def where(walk: Walk, node: ir.Node) -> None:
    """One of two values."""
    values = [needed(node, index) for index in range(3)]
    dtype = walk.dtype(values[1])
    name = "select" if kind_of(dtype) == "f32" else "iselect"
    emit_map(walk, values, node.outputs[0], dtype, lambda truth, x, y: call(name, truth, x, y))


def cast(walk: Walk, node: ir.Node) -> None:
    """Between floats, integers and truth values; floats are cut off, integers held by their range in s32."""
    x = needed(node, 0)
    target = ir.DataType(integer(node, "to", 1))
    if target not in DTYPES:
        walk.refuse(node, f"native code has no {target.name}", "convert the model to float32")
    emit_cast(walk, x, node.outputs[0], DTYPES[target])


def cast_like(walk: Walk, node: ir.Node) -> None:
    """To the type of another value."""
    emit_cast(walk, needed(node, 0), node.outputs[0], walk.dtype(needed(node, 1)))


def emit_cast(walk: Walk, x: ir.Value, result: ir.Value, wanted: Dtype) -> None:
    """A Map from one type to another; nothing where they are the same."""
    dtype = walk.dtype(x)
    if dtype == wanted:
        placed = walk.place(x)
        walk.give(result, placed.tensor, placed.order)
        return
    emit_map(walk, [x], result, wanted, lambda each: _converted(each, dtype, wanted))


def _converted(x: Expression, dtype: Dtype, wanted: Dtype) -> Expression:
    if dtype == "bool":
        number = call("and", x, ONE)
        return call("to_f32", number) if wanted == "f32" else number
    if wanted == "bool":
        zero = call("equal", x, Scalar(0.0)) if x.kind == "f32" else call("iequal", x, ZERO)
        return call("not", zero)
    if wanted == "f32":
        return call("to_f32", x)
    return _narrowed(call("to_s32_trunc", x) if x.kind == "f32" else x, wanted)


def _narrowed(x: Expression, wanted: Dtype) -> Expression:
    """The low bits of an integer, as ONNX casts."""
    if wanted in ("s32", "s64"):
        return x
    info = np.iinfo(NUMPY[wanted])
    low = call("and", x, Scalar(int(info.max) - int(info.min), "s32"))
    if info.min == 0:
        return low
    sign = Scalar(int(info.max) + 1, "s32")
    return call("isub", call("xor", low, sign), sign)


TABLE: Mapping[str, Callable[[Walk, ir.Node], None]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean"), arithmetic),
    **dict.fromkeys(("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"), compare),
    **dict.fromkeys(("And", "Or", "Xor", "Not"), logic),
    "Pow": power,
    "Mod": modulo,
    "Where": where,
    "IsNaN": not_a_number,
    "Cast": cast,
    "CastLike": cast_like,
}
