"""Normalizations, in LiteRT beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.tflite.emitter.emit import emit
from tests.compiler.nets import Net
from tests.compiler.tflite.single_operator import (
    CHECKED,
    SEEDS,
    Case,
    Fixed,
    check_float,
    kinds,
    normal,
    shapes,
    single,
    uniform,
)

TOLERANCE = 1e-4
"""A deviation near zero magnifies what sums in another order differ by."""


@CHECKED
@given(shape=shapes(2, 5), seed=SEEDS, turned=st.booleans(), relu=st.booleans())
def test_batch(shape: tuple[int, ...], seed: int, turned: bool, relu: bool) -> None:
    parameters = [Fixed(uniform(seed + index, 0.3, 2, shape[1])) for index in range(4)]
    case = single(
        "BatchNormalization", normal(seed, *shape), *parameters, turned=turned, clamp="Relu" if relu else None
    )
    assert kinds(check_float(case))[:2] == ["MUL", "ADD"]


@CHECKED
@given(shape=shapes(3, 5), seed=SEEDS, turned=st.booleans())
def test_instances(shape: tuple[int, ...], seed: int, turned: bool) -> None:
    shape = (*shape[:2], *(side + 1 for side in shape[2:]))
    parameters = [Fixed(normal(seed + index, shape[1])) for index in range(2)]
    check_float(single("InstanceNormalization", normal(seed, *shape), *parameters, turned=turned), tolerance=TOLERANCE)


@pytest.mark.parametrize("groups", [1, 2, 6])
@CHECKED
@given(shape=shapes(1, 3), seed=SEEDS, turned=st.booleans())
def test_groups(groups: int, shape: tuple[int, ...], seed: int, turned: bool) -> None:
    parameters = [Fixed(normal(seed + index, 6)) for index in range(2)]
    array = normal(seed, 2, 6, *(side + 1 for side in shape))
    case = single("GroupNormalization", array, *parameters, num_groups=groups, turned=turned)
    check_float(case, tolerance=TOLERANCE)


def test_groups_of_a_sequence_that_lies_as_a_picture() -> None:
    net = Net((4, 9), np.random.default_rng(1), opset=21)
    net.node("Conv", net.here, net.weight(4, 4, 3), pads=[1, 1])
    net.node("GroupNormalization", net.here, net.weight(4), net.weight(4), num_groups=2)
    x = normal(3, 1, 4, 9)
    check_float(Case(import_proto(net.model(batch=1), "net"), {"x": x}), tolerance=TOLERANCE)


@CHECKED
@given(shape=shapes(2, 5), seed=SEEDS, axis=st.integers(0, 4), turned=st.booleans(), offset=st.booleans())
def test_layers(shape: tuple[int, ...], seed: int, axis: int, turned: bool, offset: bool) -> None:
    shape, axis = (*shape[:-1], shape[-1] + 1), axis % len(shape)
    parameters = [Fixed(normal(seed + index, *shape[axis:])) for index in range(1 + offset)]
    case = single("LayerNormalization", normal(seed, *shape), *parameters, axis=axis, turned=turned)
    check_float(case, tolerance=TOLERANCE)


@CHECKED
@given(shape=shapes(2, 4), seed=SEEDS, turned=st.booleans())
def test_root_mean_squares(shape: tuple[int, ...], seed: int, turned: bool) -> None:
    scale = Fixed(normal(seed + 1, shape[-1]))
    check_float(single("RMSNormalization", normal(seed, *shape), scale, opset=23, turned=turned))


def test_mean_and_variance() -> None:
    check_float(single("MeanVarianceNormalization", normal(1, 2, 3, 4, 5), opset=13))


@pytest.mark.parametrize("p", [1, 2])
@CHECKED
@given(shape=shapes(1, 4), seed=SEEDS, axis=st.integers(0, 3), turned=st.booleans())
def test_norms(p: int, shape: tuple[int, ...], seed: int, axis: int, turned: bool) -> None:
    check_float(single("LpNormalization", normal(seed, *shape), axis=axis % len(shape), p=p, turned=turned))


def test_nothing_has_no_direction() -> None:
    check_float(single("LpNormalization", np.zeros((2, 3), np.float32)))


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_local_responses(size: int, turned: bool) -> None:
    case = single("LRN", normal(1, 2, 7, 3, 4), size=size, alpha=0.5, bias=1.5, turned=turned)
    check_float(case, reference=False)  # LiteRT's reference kernel leaves the last channel of the window out


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"LRN at .*window of 4 channels is even"):
        emit(single("LRN", normal(1, 2, 7, 3, 4), size=4).graph)
    parameters = [normal(index, 3) for index in range(4)]
    with pytest.raises(UnsupportedModel, match=r"BatchNormalization at .*input 1 is computed; make it a constant"):
        emit(single("BatchNormalization", normal(1, 2, 3), *parameters).graph)
    case = single("LayerNormalization", normal(1, 2, 3), Fixed(normal(1, 3)), outputs=3)
    with pytest.raises(UnsupportedModel, match="its mean or deviation is read"):
        emit(case.graph)
