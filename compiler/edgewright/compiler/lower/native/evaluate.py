"""What an expression is, in numpy: the definition that C is held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from .expression import Call, Expression, Leaf, Scalar
from .net import Array

_erf: Callable[[Any], Any] = np.vectorize(math.erf, otypes=[np.float64])


def _truth(found: Array) -> Array:
    return np.where(found, np.int64(-1), np.int64(0))


def _wrapped(found: Array) -> Array:
    return np.asarray(found).astype(np.int64).astype(np.int32).astype(np.int64)


def _chosen(truth: Array, then: Array, other: Array) -> Array:
    return np.asarray(np.where(truth != 0, then, other))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


_FUNCTIONS: Final[Mapping[str, Callable[..., Array]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum, "max": np.maximum,
    "pow": np.power, "fmod": np.fmod, "fma": lambda a, b, c: a * b + c,
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x, "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": _sigmoid, "erf": _erf,
    "softplus": _softplus, "sin": np.sin, "cos": np.cos, "floor": np.floor, "ceil": np.ceil, "round_even": np.rint,
    "trunc": np.trunc, "sign": np.sign,
    "less": lambda a, b: _truth(a < b), "less_equal": lambda a, b: _truth(a <= b), "equal": lambda a, b: _truth(a == b),
    "iadd": lambda a, b: _wrapped(a + b), "isub": lambda a, b: _wrapped(a - b), "imul": lambda a, b: _wrapped(a * b),
    "imin": np.minimum, "imax": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "iless": lambda a, b: _truth(a < b), "iequal": lambda a, b: _truth(a == b), "not": np.invert,
    "select": _chosen, "iselect": _chosen,
    "to_f32": lambda x: x, "to_s32_even": np.rint, "to_s32_trunc": np.trunc,
}  # fmt: skip


def evaluated(expression: Expression, leaf: Callable[[Leaf], Array], floats: Any = np.float64) -> Array:
    """The numbers of an expression, rounded to `floats` after every operation; integers are int64 here.

    `leaf` gives the arrays of accumulators, rows and tensors beside, in shapes that broadcast.
    """
    known: dict[Expression, Array] = {}

    def visit(part: Expression) -> Array:
        if part not in known:
            found = _visited(part)
            known[part] = found.astype(np.int64 if part.kind == "s32" else floats)
        return known[part]

    def _visited(part: Expression) -> Array:
        if isinstance(part, Call):
            return np.asarray(_applied(part.operation, [visit(each) for each in part.arguments]))
        if isinstance(part, Scalar):
            return np.asarray(np.float32(part.value) if part.kind == "f32" else part.value)
        return np.asarray(leaf(part))

    with np.errstate(all="ignore"):
        return visit(expression)


def _applied(operation: str, arguments: list[Array]) -> Array:
    if operation == "fma":  # the product of two float32 numbers is exact in float64
        arguments = [each.astype(np.float64) for each in arguments]
    return _FUNCTIONS[operation](*arguments)
