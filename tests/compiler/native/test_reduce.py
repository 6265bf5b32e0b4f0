"""Reductions of random shapes over random axes against float64, the same bits from every width."""

from __future__ import annotations

from typing import Literal

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Beside, Row, call
from edgewright.compiler.lower.native.net import NO_BORDER, NUMPY, Array, Border, Dtype, Epilogue, Reduce, Tensor
from tests.compiler.native.several_layers import AVX2, MACHINES, run_layers, same_bits
from tests.compiler.native.single_layer import HERE

NO_SHRINKING = (Phase.explicit, Phase.generate)
"""Every try is a call of the compiler."""
SIZES = st.sampled_from((1, 2, 3, 5, 16, 17, 40, 70))
Kind = Literal["sum", "mean", "max", "min", "prod", "sum_square", "argmax", "argmin"]
KINDS: tuple[Kind, ...] = ("sum", "mean", "max", "min", "prod", "sum_square", "argmax", "argmin")
Case = tuple[Reduce, dict[str, Array], Array]


@st.composite
def cases(draw: st.DrawFn, number: int) -> Case:
    """A layer with an epilogue (where it sums floats), its inputs, and the truth."""
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(SIZES) for _ in range(rank))
    while np.prod(shape) > 20000:
        shape = tuple(max(1, extent // 2) for extent in shape)
    axes = tuple(sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1))))
    dtypes: tuple[Dtype, ...] = ("f32", "f32", "u8", "s8", "s32")
    dtype = draw(st.sampled_from(dtypes))
    kind: Kind = draw(st.sampled_from(KINDS))
    border = draw(st.sampled_from((NO_BORDER, Border(1, 2, 0, 1)))) if rank == 4 else NO_BORDER
    x = Tensor(f"x{number}", shape, dtype, border)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    array: Array = random.normal(size=shape) + 1 if dtype == "f32" else random.integers(-2, 9, shape)
    if kind == "prod" and dtype == "f32":
        array = np.exp(random.normal(size=shape) / 20)
    array = np.maximum(array, 0).astype(NUMPY[dtype]) if dtype == "u8" else array.astype(NUMPY[dtype])
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    place = kind.startswith("arg")
    made: Dtype = "s64" if place else "f32" if dtype == "f32" else "s32"
    zero_point = 3 if dtype in ("u8", "s8") else 0
    y = Tensor(f"y{number}", kept, made, border)
    truth = _reduced(kind, array, axes, zero_point)
    epilogue, arrays = Epilogue(Accumulator("s32" if made == "s32" else "f32")), {x.name: array}
    if made == "f32" and draw(st.booleans()):
        row = random.normal(size=kept[-1]).astype(np.float32)
        beside = Tensor(f"b{number}", kept)
        arrays[beside.name] = random.normal(size=kept).astype(np.float32)
        epilogue = Epilogue(call("fma", Accumulator(), Row(0), Beside(0)), (row,), (beside,))
        truth = truth * row + arrays[beside.name]
    return Reduce(kind=kind, x=x, y=y, axes=axes, x_zero_point=zero_point, epilogue=epilogue), arrays, truth


def _reduced(kind: str, array: Array, axes: tuple[int, ...], zero_point: int) -> Array:
    wide = array.astype(np.float64) if array.dtype.kind == "f" else array.astype(np.int64)
    if kind.startswith("arg"):
        rest = [axis for axis in range(array.ndim) if axis not in axes]
        lined = wide.transpose(*rest, *axes).reshape(*(array.shape[axis] for axis in rest), -1)
        kept = [1 if axis in axes else extent for axis, extent in enumerate(array.shape)]
        return getattr(np, kind)(lined, -1).reshape(kept)  # type: ignore[no-any-return]
    if kind in ("max", "min"):
        return getattr(wide, kind)(axes, keepdims=True)  # type: ignore[no-any-return]
    wide = wide - zero_point
    if kind == "mean" and wide.dtype.kind == "f":
        return wide.mean(axes, keepdims=True)  # type: ignore[no-any-return]
    if kind == "prod":
        product = wide.prod(axes, keepdims=True)
        return product if product.dtype.kind == "f" else product.astype(np.int32)  # type: ignore[no-any-return]
    return (wide**2 if kind == "sum_square" else wide).sum(axes, keepdims=True)  # type: ignore[no-any-return]


@settings(max_examples=5, deadline=None, phases=NO_SHRINKING)
@given(st.data())
def test_random_reductions(data: st.DataObject) -> None:
    found = [data.draw(cases(number)) for number in range(16)]
    arrays = {name: array for _, held, _ in found for name, array in held.items()}
    layers = [layer for layer, _, _ in found]
    results = {machine.name: run_layers(layers, arrays, machine) for machine in MACHINES}
    for layer, _, truth in found:
        for machine in MACHINES:
            result = results[machine.name][layer.y.name]
            if layer.y.dtype == "f32":
                assert np.abs(result - truth).max() <= 2e-6 * max(np.abs(truth).max(), 1), (layer, machine.name)
            else:
                assert (result == truth).all(), (layer, machine.name)
        if AVX2 in MACHINES:
            first, second = (results[machine.name][layer.y.name] for machine in (HERE, AVX2))
            assert same_bits(np.ascontiguousarray(first), np.ascontiguousarray(second)), layer


def test_means_of_many_elements_stay_close() -> None:
    """3136 positions: rounding grows with the number of blocks, not of elements."""
    x, y = Tensor("x", (1, 56, 56, 24)), Tensor("y", (1, 1, 1, 24))
    array = np.random.default_rng(0).random(x.shape).astype(np.float32)
    truth = array.astype(np.float64).mean((1, 2), keepdims=True)
    for machine in MACHINES:
        found = run_layers([Reduce(kind="mean", x=x, y=y, axes=(1, 2))], {"x": array}, machine)["y"]
        assert np.abs(found - truth).max() <= 3e-7 * truth.max()


def test_borders_between_single_elements() -> None:
    """Axes of one element in a bordered picture: rows that look dense are not."""
    x = Tensor("x", (3, 40, 1, 1), "f32", Border(1, 2, 0, 1))
    array = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    layers = [
        Reduce(kind="max", x=x, y=Tensor(f"y{axis}", shape), axes=(axis,))
        for axis, shape in ((0, (1, 40, 1, 1)), (1, (3, 1, 1, 1)))
    ]
    for machine in MACHINES:
        found = run_layers(layers, {"x": array}, machine)
        assert all((found[f"y{axis}"] == array.max(axis, keepdims=True)).all() for axis in (0, 1))
