"""Strided copies of random shapes, orders, borders and item sizes against numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import NO_BORDER, NUMPY, Array, Border, Dtype, Move, Part, Tensor
from tests.compiler.native.several_layers import MACHINES, run_layers
from tests.compiler.native.single_layer import with_border

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
SIZES = st.sampled_from((1, 2, 3, 4, 5, 8, 16, 19, 33, 64))
DTYPES: st.SearchStrategy[Dtype] = st.sampled_from(("f32", "f32", "u8", "s64", "u16", "bool"))
Strides = tuple[int, ...]
BORDER = Border(1, 2, 0, 1, 3.0)


def _part(
    x: Tensor | Array, extents: Strides, x_strides: Strides, y_strides: Strides, x_start: int = 0, y_start: int = 0
) -> Part:
    return Part(x=x, extents=extents, x_strides=x_strides, y_strides=y_strides, x_start=x_start, y_start=y_start)


@dataclass(frozen=True)
class Case:
    """A layer, its inputs by name, and what comes out."""

    layer: Move
    wanted: Array
    arrays: dict[str, Array] = field(default_factory=dict)


def _array(dtype: Dtype, shape: tuple[int, ...], draw: st.DrawFn) -> Array:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return random.integers(0, 2 if dtype == "bool" else 200, shape).astype(NUMPY[dtype])


def _shape(draw: st.DrawFn, rank: int) -> tuple[int, ...]:
    shape = tuple(draw(SIZES) for _ in range(rank))
    while np.prod(shape) > 30000:
        shape = tuple(max(1, extent // 2) for extent in shape)
    return shape


@st.composite
def transpositions(draw: st.DrawFn, number: int) -> Case:
    """Any order of the axes, from and into borders."""
    rank = draw(st.integers(1, 4))
    order = draw(st.permutations(range(rank)))
    dtype = draw(DTYPES)
    borders = st.sampled_from((NO_BORDER, BORDER)) if rank == 4 else st.just(NO_BORDER)
    x = Tensor(f"x{number}", _shape(draw, rank), dtype, draw(borders))
    y = Tensor(f"y{number}", tuple(x.shape[axis] for axis in order), dtype, draw(borders))
    array = _array(dtype, x.shape, draw)
    part = _part(x, y.shape, tuple(x.strides[axis] for axis in order), y.strides)
    return Case(
        Move(y=y, parts=(part,), fill=y.border.value if y.border else None), array.transpose(order), {x.name: array}
    )


@st.composite
def concatenations(draw: st.DrawFn, number: int) -> Case:
    """Two tensors, or a tensor and a constant, one after the other along any axis; gaps are filled."""
    rank = draw(st.integers(1, 4))
    axis = draw(st.integers(0, rank - 1))
    dtype = draw(DTYPES)
    first = _array(dtype, _shape(draw, rank), draw)
    extent = draw(SIZES)
    second = _array(dtype, (*first.shape[:axis], extent, *first.shape[axis + 1 :]), draw)
    gap = draw(st.sampled_from((0, 0, 1, 20)))
    filling = np.full((*first.shape[:axis], gap, *first.shape[axis + 1 :]), 1, NUMPY[dtype])
    wanted = np.concatenate([first, filling, second], axis)
    x, y = Tensor(f"x{number}", first.shape, dtype), Tensor(f"y{number}", wanted.shape, dtype)
    constant = Tensor("", second.shape, dtype)
    start = (first.shape[axis] + gap) * y.strides[axis]
    parts = (
        _part(x, x.shape, x.strides, y.strides),
        _part(second, second.shape, constant.strides, y.strides, y_start=start),
    )
    return Case(Move(y=y, parts=parts, fill=1 if gap else None), wanted, {x.name: first})


@st.composite
def slices(draw: st.DrawFn, number: int) -> Case:
    """Every nth element, backwards too, and expanded along a new axis."""
    rank = draw(st.integers(1, 3))
    dtype = draw(DTYPES)
    array = _array(dtype, _shape(draw, rank), draw)
    steps = [draw(st.sampled_from((1, 1, 2, -1, -2))) for _ in range(rank)]
    times = draw(st.sampled_from((1, 4, 19)))
    cut = array[tuple(slice(None, None, step) for step in steps)]
    wanted = np.repeat(cut[..., None], times, -1)
    x, y = Tensor(f"x{number}", array.shape, dtype), Tensor(f"y{number}", wanted.shape, dtype)
    strides = tuple(step * stride for step, stride in zip(steps, x.strides, strict=True))
    start = sum(
        (extent - 1) * stride for extent, stride, step in zip(x.shape, x.strides, steps, strict=True) if step < 0
    )
    part = _part(x, y.shape, (*strides, 0), y.strides, x_start=start)
    return Case(Move(y=y, parts=(part,)), wanted, {x.name: array})


@settings(max_examples=3, deadline=None, phases=NO_SHRINKING)
@given(st.data())
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("kind", [transpositions, concatenations, slices])
def test_random_moves(kind: Callable[[int], st.SearchStrategy[Case]], machine: Machine, data: st.DataObject) -> None:
    cases = [data.draw(kind(number)) for number in range(16)]
    arrays = {name: array for case in cases for name, array in case.arrays.items()}
    results = run_layers([case.layer for case in cases], arrays, machine)
    for case in cases:
        assert (results[case.layer.y.name] == case.wanted).all(), case.layer


@pytest.mark.parametrize("dtype", ["f32", "u8", "s64"])
def test_borders_hold_the_fill(dtype: Dtype) -> None:
    """Parts that cover the picture leave only the border to fill: all of it, and nothing else."""
    cases = []
    for number, border in enumerate(
        (Border(1, 2, 3, 1, 5), Border(0, 0, 1, 1, 5), Border(1, 1, 0, 0, 5), Border(0, 3, 0, 0, 5))
    ):
        x, y = Tensor(f"x{number}", (2, 3, 5, 3), dtype), Tensor(f"y{number}", (2, 3, 5, 3), dtype, border)
        cases.append(Move(y=y, parts=(_part(x, x.shape, x.strides, y.strides),), fill=border.value))
    arrays = {case.inputs[0].name: np.arange(90).reshape(2, 3, 5, 3).astype(NUMPY[dtype]) for case in cases}
    for machine in MACHINES:
        results = run_layers(cases, arrays, machine, borders=True)
        for case in cases:
            assert (results[case.y.name] == with_border(case.y, arrays[case.inputs[0].name])).all()
