"""Functions of `ew_math.h`: error in units of the last place over all exponents, special values, equal bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from edgewright.compiler.lower.native.expression import OPERATIONS, Beside, call
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Array, Map, Operand, Tensor
from tests.compiler.native.several_layers import AVX2, MACHINES, run_layers, same_bits
from tests.compiler.native.single_layer import HERE, PLAIN

COUNT = 300_007
"""Odd, so that the last vector is a part of one."""
UNARY = tuple(name for name, of in OPERATIONS.items() if of.takes == ("f32",) and of.gives == "f32")
BINARY = ("add", "sub", "mul", "div", "min", "max", "pow", "fmod")
SPECIAL = (
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-45,
    -1e-45,
    1e-38,
    3.4e38,
    -3.4e38,
)
_erf = np.vectorize(math.erf, otypes=[np.float64])
TRUTH: dict[str, Callable[..., Array]] = {
    "neg": np.negative, "abs": np.abs,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": _erf,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), "sin": np.sin, "cos": np.cos,
    "floor": np.floor, "ceil": np.ceil, "round_even": np.rint, "trunc": np.trunc, "sign": np.sign,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power, "fmod": np.fmod,
    "min": np.minimum, "max": np.maximum,
}  # fmt: skip
ULPS = {
    "exp": 1.0, "log": 1.0, "tanh": 2.5, "sigmoid": 2.5, "erf": 1.5, "softplus": 2.5, "sin": 1.5, "cos": 1.5,
    "pow": 1.0, "rsqrt": 1.5, "sqrt": 0.5, "reciprocal": 0.5, "add": 0.5, "sub": 0.5, "mul": 0.5, "div": 0.5,
}  # fmt: skip
"""As `ew_math.h` states them; every other function is exact."""
WITHOUT_FMA = 3.0
"""Where a multiply-add rounds twice."""


@cache
def _samples() -> tuple[Array, Array]:
    random = np.random.default_rng(5)
    bits = random.integers(0, 1 << 32, COUNT, dtype=np.uint32).view(np.float32)
    near = random.normal(0, 8, COUNT).astype(np.float32)
    x = np.where(np.arange(COUNT) % 2, bits, near)
    x[: len(SPECIAL) ** 2] = np.repeat(np.array(SPECIAL, np.float32), len(SPECIAL))
    y = random.normal(0, 4, COUNT).astype(np.float32)
    y[::3] = np.rint(y[::3])
    y[: len(SPECIAL) ** 2] = np.tile(np.array(SPECIAL, np.float32), len(SPECIAL))
    return x, y


@cache
def _found(machine: Machine) -> dict[str, Array]:
    x, y = (Tensor(name, (COUNT,)) for name in ("x", "y"))
    operands = (Operand(x, (1,)), Operand(y, (1,)))
    layers = [
        Map(y=Tensor(name, (COUNT,)), value=call(name, *map(Beside, range(1 + (name in BINARY)))), operands=operands)
        for name in (*UNARY, *BINARY)
    ]
    return run_layers(layers, dict(zip("xy", _samples(), strict=True)), machine)


def _truth(name: str) -> Array:
    with np.errstate(all="ignore"):
        x, y = (sample.astype(np.float64) for sample in _samples())
        return np.asarray(TRUTH[name](x, y) if name in BINARY else TRUTH[name](x))


def _ulps(found: Array, truth: Array) -> Array:
    with np.errstate(all="ignore"):
        near = truth.astype(np.float32)
        unit = np.maximum(np.spacing(np.abs(near)), np.float64(2.0**-149)).astype(np.float64)
        error = np.abs(found - truth) / unit
        equal = (found == near) | (np.isnan(found) & np.isnan(near))
    return np.where(equal, np.where(np.isfinite(error), error, 0), np.where(np.isfinite(error), error, np.inf))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_error_is_bounded(name: str, machine: Machine) -> None:
    x, y = _samples()
    truth = _truth(name)
    asked = np.ones(COUNT, bool)
    if name in ("sin", "cos"):
        asked = ~(np.abs(x) > 2.0**20)
        assert np.isnan(_found(machine)[name][~asked]).all()
    if name == "sigmoid":
        asked = ~(x < -88)
        assert (_found(machine)[name][x < -88] < 1e-38).all()
    if name in ("min", "max"):  # the first argument stands where the two do not compare
        truth = np.where(np.isnan(x) | np.isnan(y) | (x == y), x, truth)
    error = np.where(asked, _ulps(_found(machine)[name], truth), 0)
    worst = int(error.argmax())
    bound = ULPS.get(name, 0.0) * (1 if machine.fma or name in ("add", "sub", "mul", "div", "sqrt") else WITHOUT_FMA)
    assert error[worst] <= bound + 1e-6, (x[worst], y[worst], _found(machine)[name][worst], truth[worst])


def test_zeros_keep_their_sign() -> None:
    x = _samples()[0]
    zero = (x == 0) & (np.arange(COUNT) < 100)
    for name in ("tanh", "erf", "sin", "floor", "ceil", "trunc", "round_even", "sign", "sqrt"):
        assert (np.signbit(_found(HERE)[name][zero]) == np.signbit(x[zero])).all(), name


@pytest.mark.skipif(AVX2 not in MACHINES, reason="this processor has no AVX2")
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_all_widths_give_the_same_bits(name: str) -> None:
    assert same_bits(_found(HERE)[name], _found(AVX2)[name])


@pytest.mark.parametrize("name", ["add", "mul", "div", "sqrt", "floor", "sign", "fmod", "pow", "rsqrt"])
def test_what_does_not_fuse_is_the_same_without_fma(name: str) -> None:
    assert same_bits(_found(HERE)[name], _found(PLAIN)[name])
