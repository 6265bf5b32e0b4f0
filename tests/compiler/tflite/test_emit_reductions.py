"""Reductions, softmax, places of the largest and running sums, in LiteRT beside ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.model import Array
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Fixed,
    Grid,
    check_float,
    check_integers,
    kinds,
    normal,
    quantized,
    shapes,
    single,
)

EIGHT = ("int8", "uint8")
ALL = (*EIGHT, "int16")
REDUCTIONS = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
)


@dataclass(frozen=True)
class Reduced:
    """A shape and what is reduced of it."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    attributes: dict[str, Any]
    seed: int
    turned: bool

    @property
    def given(self) -> list[Fixed]:
        """The axes as an input; left out where all are reduced."""
        return [Fixed(np.array(self.axes, np.int64))] if self.axes else []

    def array(self, scale: float = 1.0) -> Array:
        return normal(self.seed, *self.shape, scale=scale)


@st.composite
def reduced(draw: st.DrawFn, least: int = 1) -> Reduced:
    shape = draw(shapes(least, 5))
    rank = len(shape)
    chosen = draw(st.sets(st.integers(0, rank - 1), max_size=rank))
    axes = tuple(axis - draw(st.sampled_from([0, rank])) for axis in chosen)
    return Reduced(shape, axes, {"keepdims": draw(st.integers(0, 1))}, draw(SEEDS), draw(st.booleans()))


@pytest.mark.parametrize("op_type", REDUCTIONS)
@CHECKED
@given(case=reduced())
def test_floats(op_type: str, case: Reduced) -> None:
    array = case.array() if op_type != "ReduceLogSum" else np.abs(case.array()) + np.float32(0.3)
    check_float(single(op_type, array, *case.given, turned=case.turned, **case.attributes))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])
@CHECKED
@given(case=reduced())
def test_integers_that_are_no_quantized_numbers(op_type: str, kind: type, case: Reduced) -> None:
    array: Array = (case.array(2) if op_type != "ReduceProd" else np.sign(case.array())).astype(kind)
    check_float(single(op_type, array, *case.given, **case.attributes))


def test_a_mean_of_integers_is_refused() -> None:
    case = single("ReduceMean", np.ones((2, 3), np.int32))
    with pytest.raises(UnsupportedModel, match=r"ReduceMean at .*computes int32.*; cast to float32 before it"):
        emit(case.graph)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceL1", "ReduceLogSumExp"])
def test_no_axes_may_mean_none(op_type: str) -> None:
    none = Fixed(np.zeros(0, np.int64))
    case = single("ReduceSum", normal(1, 2, 3), none, noop_with_empty_axes=1)
    assert kinds(check_float(case)) == []
    check_float(single(op_type, normal(1, 2, 3), none))


def test_large_exponents_do_not_overflow() -> None:
    check_float(single("ReduceLogSumExp", np.array([[200, 199, -300]], np.float32), Fixed(np.array([1]))))


def test_a_picture_is_reduced_as_it_lies() -> None:
    case = single("ReduceMean", normal(1, 1, 4, 3, 5), Fixed(np.array([2, 3])), keepdims=0, turned=True)
    assert kinds(check_float(case)) == ["MEAN"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
@CHECKED
@given(case=reduced())
def test_quantized(op_type: str, kind: str, case: Reduced) -> None:
    # LiteRT's reference SUM reads signed integers as uint8 (tflite/kernels/reduce.cc, QuantizedMeanOrSum).
    net = quantized(op_type, kind, case.array(), *case.given, turned=case.turned, **case.attributes)
    check_integers(net, reference=op_type != "ReduceSum")


# -- softmax


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@CHECKED
@given(case=reduced(), axis=st.integers(-5, 4))
def test_softmax(op_type: str, case: Reduced, axis: int) -> None:
    rank = len(case.shape)
    check_float(single(op_type, case.array(3), axis=(axis % rank) - rank * (axis < 0), turned=case.turned))


@pytest.mark.parametrize("kind", ALL)
@CHECKED
@given(case=reduced(), axis=st.integers(0, 4))
def test_quantized_softmax(kind: str, case: Reduced, axis: int) -> None:
    net = quantized("Softmax", kind, case.array(3), axis=axis % len(case.shape), turned=case.turned)
    fixed = 1 / 32768 if kind == "int16" else 1 / 256
    steps = 8 if kind == "int16" else 1  # tables of 513 entries, interpolated
    check_integers(net, steps=int(np.ceil(steps * fixed / net.grids["y0"].scale)) + 1)


@pytest.mark.parametrize("kind", EIGHT)
@CHECKED
@given(case=reduced(), axis=st.integers(0, 4))
def test_quantized_logarithm_of_softmax(kind: str, case: Reduced, axis: int) -> None:
    net = quantized("LogSoftmax", kind, case.array(3), axis=axis % len(case.shape), turned=case.turned)
    check_integers(net, steps=int(np.ceil(16 / 256 / net.grids["y0"].scale)) + 1)


def test_probabilities_of_the_kernel_s_own_encoding_are_one_operator() -> None:
    case = quantized("Softmax", "int8", normal(1, 2, 10, scale=3), grid=lambda _: Grid("int8", 1 / 256, -128))
    assert kinds(check_integers(case)) == ["SOFTMAX"]


# -- places and running sums


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@CHECKED
@given(case=reduced(), axis=st.integers(0, 4))
def test_places(op_type: str, case: Reduced, axis: int) -> None:
    options = {"axis": axis % len(case.shape), **case.attributes}
    check_float(single(op_type, case.array(), turned=case.turned, **options))
    check_float(single(op_type, case.array(2).astype(np.int32), turned=case.turned, **options))


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@CHECKED
@given(case=reduced(), axis=st.integers(0, 4))
def test_places_of_quantized_values(op_type: str, kind: str, case: Reduced, axis: int) -> None:
    options = {"axis": axis % len(case.shape), **case.attributes}
    check_integers(quantized(op_type, kind, case.array(), turned=case.turned, **options))


def test_the_last_of_equal_ones_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="gives the last of equal ones, and TFLite the first"):
        emit(single("ArgMax", normal(1, 3), select_last_index=1).graph)


@CHECKED
@given(case=reduced(), axis=st.integers(0, 4), largest=st.integers(0, 1), equal=st.booleans())
def test_top_k(case: Reduced, axis: int, largest: int, equal: bool) -> None:
    axis %= len(case.shape)
    array = np.round(case.array()) if equal else case.array()
    count = Fixed(np.array([1 + case.seed % case.shape[axis]], np.int64))
    check_float(single("TopK", array, count, outputs=2, axis=axis, largest=largest, turned=case.turned))


@pytest.mark.parametrize("kind", ALL)
def test_quantized_top_k(kind: str) -> None:
    count = Fixed(np.array([2], np.int64))
    check_integers(quantized("TopK", kind, normal(1, 3, 6), count, outputs=2, one_grid=True))
    check_integers(quantized("TopK", kind, normal(1, 3, 6, 2), count, outputs=2, axis=1))


@CHECKED
@given(case=reduced(), axis=st.integers(0, 4), exclusive=st.integers(0, 1), reverse=st.integers(0, 1))
def test_running_sums(case: Reduced, axis: int, exclusive: int, reverse: int) -> None:
    place = Fixed(np.array(axis % len(case.shape)))
    options: dict[str, Any] = {"exclusive": exclusive, "reverse": reverse, "turned": case.turned}
    check_float(single("CumSum", case.array(), place, **options))
    check_float(single("CumSum", case.array(3).astype(np.int64), place, **options))


@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceMax"])
def test_axes_that_are_computed_are_refused(op_type: str) -> None:
    with pytest.raises(UnsupportedModel, match="its axes are computed; make them constants"):
        emit(single(op_type, normal(1, 2, 3), np.array([1])).graph)
