"""Element-wise layers of random shapes, broadcasts, orders, borders and types against numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Beside, Expression, Kind, Scalar, call
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import NO_BORDER, NUMPY, Array, Border, Dtype, Map, Operand, Tensor
from tests.compiler.native.several_layers import MACHINES, run_layers, same_bits

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
SIZES = st.sampled_from((1, 1, 2, 3, 5, 8, 16, 17, 33, 70))
BORDERS = st.sampled_from((NO_BORDER, NO_BORDER, Border(1, 2, 0, 1)))
DTYPES: st.SearchStrategy[Dtype] = st.sampled_from(
    ("f32", "f32", "f32", "s32", "u8", "s8", "bool", "s64", "u16", "s16")
)


@dataclass(frozen=True)
class Case:
    """A layer, its inputs by name, and what comes out."""

    layer: Map
    arrays: dict[str, Array]
    wanted: Array


def _values(dtype: Dtype, shape: Sequence[int], seed: int) -> Array:
    random = np.random.default_rng(seed)
    if dtype == "f32":
        return random.normal(size=shape).astype(np.float32)
    low = 0 if dtype in ("u8", "u16", "bool") else -100
    return random.integers(low, 2 if dtype == "bool" else 101, shape).astype(NUMPY[dtype])


@st.composite
def operands(draw: st.DrawFn, shape: tuple[int, ...], name: str) -> tuple[Operand, Array, Array]:
    """An operand broadcast and reordered at will; its array, and the array as y's axes see it."""
    seen = tuple(1 if draw(st.integers(0, 3)) == 0 else extent for extent in shape)
    order = draw(st.permutations(range(len(shape)))) if draw(st.booleans()) else list(range(len(shape)))
    dtype = draw(DTYPES)
    array = _values(dtype, [seen[axis] for axis in order], draw(st.integers(0, 99)))
    border = draw(BORDERS) if len(shape) == 4 else NO_BORDER
    constant = draw(st.integers(0, 3)) == 0
    tensor = Tensor(name, array.shape, dtype, NO_BORDER if constant else border)
    places = [order.index(axis) for axis in range(len(shape))]
    strides = tuple(0 if seen[axis] == 1 else tensor.strides[place] for axis, place in enumerate(places))
    return Operand(array if constant else tensor, strides), array, array.transpose(places)


@st.composite
def cases(draw: st.DrawFn, number: int) -> Case:
    """Sums, comparisons and choices of two operands."""
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(SIZES) for _ in range(rank))
    while np.prod(shape) > 20000:
        shape = tuple(max(1, extent // 2) for extent in shape)
    (left, left_array, a), (right, right_array, b) = (draw(operands(shape, f"{side}{number}")) for side in "lr")
    kinds: list[Kind] = ["f32", "s32"]
    kind = draw(st.sampled_from(kinds))
    x, y = Beside(0, kind), Beside(1, kind)
    form = draw(st.sampled_from(("sum", "less", "chosen")))
    a, b = (_as_kind(array, kind) for array in (a, b))
    value, wanted, dtypes = _form(form, kind, x, y, a, b)
    dtype = draw(st.sampled_from(dtypes))
    border = draw(BORDERS) if rank == 4 else NO_BORDER
    layer = Map(y=Tensor(f"y{number}", shape, dtype, border), value=value, operands=(left, right))
    arrays = {f"l{number}": left_array, f"r{number}": right_array}
    return Case(layer, arrays, np.broadcast_to(wanted, shape).astype(NUMPY[dtype]))


def _as_kind(array: Array, kind: Kind) -> Array:
    return array.astype(np.float32 if kind == "f32" else np.int32)


def _form(
    form: str, kind: Kind, x: Expression, y: Expression, a: Array, b: Array
) -> tuple[Expression, Array, tuple[Dtype, ...]]:
    less = call("less" if kind == "f32" else "iless", x, y)
    if form == "less":
        return less, a < b, ("bool",)
    if form == "chosen":
        other = Scalar(7, kind)
        return (
            call("select" if kind == "f32" else "iselect", less, x, other),
            np.where(a < b, a, a.dtype.type(7)),
            _fit(kind),
        )
    return call("add" if kind == "f32" else "iadd", x, y), a + b, _fit(kind)


def _fit(kind: Kind) -> tuple[Dtype, ...]:
    return ("f32",) if kind == "f32" else ("s32", "s64", "s16")


@settings(max_examples=4, deadline=None, phases=NO_SHRINKING)
@given(st.data())
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_random_layers_are_exact(machine: Machine, data: st.DataObject) -> None:
    found = [data.draw(cases(number)) for number in range(16)]
    arrays = {name: array for case in found for name, array in case.arrays.items()}
    results = run_layers([case.layer for case in found], arrays, machine)
    for case in found:
        assert same_bits(np.ascontiguousarray(results[case.layer.y.name]), case.wanted), case.layer


def test_short_rows_beside_a_constant_are_joined() -> None:
    """Pixels of three channels, normalised: rows of three numbers become rows of 48."""
    from_pixels = Tensor("x", (1, 32, 32, 3), "u8")
    scale, shift = np.array([2, 3, 4], np.float32), np.array([0.5, 0.25, 0.125], np.float32)
    y = Tensor("y", (1, 32, 32, 3), "f32", Border(0, 0, 1, 1))
    value = call("fma", Beside(0), Beside(1), Beside(2))
    row = (0, 0, 0, 1)
    layer = Map(
        y=y, value=value, operands=(Operand(from_pixels, from_pixels.strides), Operand(scale, row), Operand(shift, row))
    )
    x = np.random.default_rng(0).integers(0, 256, from_pixels.shape).astype(np.uint8)
    for machine in MACHINES:
        assert (run_layers([layer], {"x": x}, machine)["y"] == x * scale + shift).all()
