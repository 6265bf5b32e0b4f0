"""Operators that move values and compute none: reshapes, transposes, slices, joins, borders and lookups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Fixed,
    Given,
    check_float,
    check_integers,
    kinds,
    normal,
    quantized,
    shapes,
    single,
    uniform,
)

MANY = settings(CHECKED, max_examples=25)
KINDS = st.sampled_from(["uint8", "int8", "int16"])


def constant(*numbers: int) -> Fixed:
    return Fixed(np.array(numbers, np.int64))


def check(op_type: str, kind: str, *given: Given, reference: bool = True, **attributes: Any) -> None:
    """In float and, without a step apart, in integers."""
    check_float(single(op_type, *given, **attributes))
    check_integers(quantized(op_type, kind, *given, one_grid=True, **attributes), steps=0, reference=reference)


@st.composite
def divisions(draw: st.DrawFn, size: int) -> list[int]:
    """Sizes whose product is `size`."""
    found: list[int] = []
    while size > 1 and len(found) < 3:
        factor = draw(st.sampled_from([each for each in range(1, size + 1) if size % each == 0]))
        found.append(factor)
        size //= factor
    return [*found, size]


@MANY
@given(shapes(1, 4), st.data(), KINDS, SEEDS)
def test_reshape(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    sizes = data.draw(divisions(math.prod(shape)))
    asked = list(sizes)
    if data.draw(st.booleans()):
        asked[data.draw(st.integers(0, len(sizes) - 1))] = -1
    check("Reshape", kind, normal(seed, *shape), constant(*asked))


@MANY
@given(shapes(2, 4), st.data(), KINDS, SEEDS)
def test_flatten_squeeze_and_unsqueeze(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    x = normal(seed, *shape)
    check("Flatten", kind, x, axis=data.draw(st.integers(-len(shape), len(shape))))
    axes = data.draw(st.lists(st.integers(0, len(shape)), unique=True, min_size=1, max_size=2))
    check("Unsqueeze", kind, x, constant(*axes))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if ones:
        check("Squeeze", kind, x, constant(*(axis - len(shape) for axis in ones)))


@MANY
@given(shapes(1, 5), st.data(), KINDS, SEEDS)
def test_transpose(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    check("Transpose", kind, normal(seed, *shape), perm=data.draw(st.permutations(range(len(shape)))))


@MANY
@given(shapes(1, 4), st.data(), KINDS, SEEDS)
def test_slice(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    starts: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    for axis in axes:
        size = shape[axis]
        run = range(size)
        step = data.draw(st.sampled_from([1, 1, 2, -1, -2]))
        start, end = data.draw(st.integers(-size - 2, size + 2)), data.draw(st.integers(-size - 2, size + 2))
        if not run[start:end:step]:
            start, end = (0, size + 7) if step > 0 else (size + 7, -size - 7)
        starts, ends, steps = [*starts, start], [*ends, end], [*steps, step]
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    check("Slice", kind, normal(seed, *shape), *(constant(*each) for each in (starts, ends, signed, steps)))


@MANY
@given(st.lists(st.integers(1, 3), min_size=2, max_size=4), st.integers(0, 2), KINDS, SEEDS)
def test_split_and_concat(sizes: list[int], axis: int, kind: str, seed: int) -> None:
    shape = [2, 3, 4]
    shape[axis] = sum(sizes)
    check("Split", kind, normal(seed, *shape), constant(*sizes), axis=axis, outputs=len(sizes))
    parts = [normal(seed + n, *(*shape[:axis], size, *shape[axis + 1 :])) for n, size in enumerate(sizes)]
    check("Concat", kind, *parts, axis=axis)
    check("Concat", kind, Fixed(parts[0]), *parts[1:], axis=axis - 3)
    check_integers(quantized("Concat", kind, *(part * (n + 1) for n, part in enumerate(parts)), axis=axis))


@MANY
@given(st.integers(2, 9), st.integers(2, 4), SEEDS)
def test_split_into_parts_as_equal_as_they_can_be(size: int, count: int, seed: int) -> None:
    each = -(-size // count)
    if each * (count - 1) < size:
        check("Split", "uint8", normal(seed, 2, size), axis=1, num_outputs=count, outputs=count)


@MANY
@given(shapes(1, 3, side=3), st.data(), SEEDS)
def test_expand_and_tile(shape: tuple[int, ...], data: st.DataObject, seed: int) -> None:
    """TILE's reference kernel for int8 is registered in an older version only."""
    x = normal(seed, *shape)
    sizes = [data.draw(st.sampled_from([size, 1] if size > 1 else [1, 2, 4])) for size in shape]
    check("Expand", "uint8", x, constant(*[2] * data.draw(st.integers(0, 1)), *sizes), reference=False)
    repeats = data.draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    check("Tile", "uint8", x, constant(*repeats), reference=False)


@MANY
@given(shapes(1, 4), st.data(), KINDS, SEEDS)
def test_pad(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge"]))
    most = [size - 1 if mode == "reflect" else 3 for size in shape] * 2
    least = [-((size - 1) // 2) if mode == "constant" else 0 for size in shape] * 2
    pads = [data.draw(st.integers(low, high)) for low, high in zip(least, most, strict=True)]
    given: list[Given] = [normal(seed, *shape), constant(*pads)]
    if mode == "constant" and data.draw(st.booleans()):
        given.append(Fixed(np.array(data.draw(st.sampled_from([0.0, 0.5, -1.0])), np.float32)))
    check_float(single("Pad", *given, mode=mode))
    check_integers(quantized("Pad", kind, *given, mode=mode))


@pytest.mark.parametrize("kind", ["uint8", "int16"])
def test_pad_with_what_only_the_result_can_hold(kind: str) -> None:
    border = Fixed(np.array(5.0, np.float32))
    check_integers(quantized("Pad", kind, uniform(1, -1, 1, 2, 3), constant(1, 0, 0, 2), border))


def test_pad_of_some_axes() -> None:
    check("Pad", "uint8", normal(1, 2, 3, 4), constant(1, 0, 2, 1), None, constant(-1, 0))


@MANY
@given(shapes(1, 3), st.data(), KINDS, SEEDS)
def test_gather(shape: tuple[int, ...], data: st.DataObject, kind: str, seed: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    indices = data.draw(st.one_of(st.integers(-size, size - 1), st.lists(st.integers(-size, size - 1), min_size=1)))
    array = np.array(indices, np.int64)
    if array.ndim and array.size % 2 == 0:
        array = array.reshape(2, -1)
    given: Given = array if data.draw(st.booleans()) else Fixed(array)
    check("Gather", kind, normal(seed, *shape), given, axis=axis)


def test_indices_that_follow_each_other_are_a_slice() -> None:
    model = check_float(single("Gather", normal(1, 3, 8), constant(-3, -2, -1), axis=1))
    assert kinds(model) == ["SLICE"]
    model = check_float(single("Gather", normal(1, 3, 8), constant(6, 4, 2), axis=1))
    assert kinds(model) == ["STRIDED_SLICE"]


def test_a_table_is_looked_up_by_computed_indices() -> None:
    check_float(single("Gather", Fixed(normal(1, 9, 4)), np.array([[0, 8, -1, -9]], np.int64)))


@MANY
@given(st.lists(st.tuples(st.integers(-3, 2), st.integers(-4, 3)), min_size=1, max_size=4), KINDS, SEEDS)
def test_gather_nd(places: list[tuple[int, int]], kind: str, seed: int) -> None:
    check("GatherND", kind, normal(seed, 3, 4, 2), Fixed(np.array(places, np.int64)))


@MANY
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_depth_to_space_and_back(block: int, channels: int, height: int, width: int, seed: int) -> None:
    """Their reference kernels for int8 are registered in an older version only."""
    deep = normal(seed, 2, channels * block * block, height, width)
    check("DepthToSpace", "uint8", deep, blocksize=block, reference=False)
    check("DepthToSpace", "int8", deep, blocksize=block, mode="CRD", reference=False)
    wide = normal(seed, 2, channels, height * block, width * block)
    check("SpaceToDepth", "uint8", wide, blocksize=block, reference=False)


@pytest.mark.parametrize(
    ("op_type", "given", "attributes", "reason"),
    [
        ("Reshape", [normal(1, 2, 6), np.array([3, 4], np.int64)], {}, "computed"),
        ("Slice", [normal(1, 4), constant(1), constant(1)], {}, "no elements"),
        ("Slice", [normal(1, 4), constant(1), np.array([2], np.int64)], {}, "computed"),
        ("Pad", [normal(1, 4), constant(1, 1)], {"mode": "wrap"}, "wrap"),
        ("Pad", [normal(1, 4), constant(9, 0)], {"mode": "edge"}, "9 times"),
        ("Pad", [normal(1, 4), constant(4, 0)], {"mode": "reflect"}, "longer"),
        ("Gather", [normal(1, 4), constant(4)], {}, "leave an axis"),
        ("GatherND", [normal(1, 4), np.array([[1]], np.int64)], {}, "computed"),
        ("Slice", [normal(1, *[2] * 6), constant(1), constant(2)], {}, "6 axes"),
    ],
)
def test_what_has_no_form_is_refused(op_type: str, given: list[Given], attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        emit(single(op_type, *given, **attributes).graph)
