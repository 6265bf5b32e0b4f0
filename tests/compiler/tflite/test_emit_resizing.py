"""Resize and Upsample: which of TFLite's ways to count pixels is the graph's."""

from __future__ import annotations

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
    single,
)

MANY = settings(CHECKED, max_examples=40)
KINDS = st.sampled_from(["uint8", "int8", "int16"])
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def sizes(*given: int) -> Fixed:
    return Fixed(np.array(given, np.int64))


def scales(*given: float) -> Fixed:
    return Fixed(np.array(given, np.float32))


@MANY
@given(
    SIZES,
    SIZES,
    st.sampled_from(["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"]),
    st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
    KINDS,
    SEEDS,
)
def test_nearest(size: tuple[int, int], out: tuple[int, int], mode: str, nearest: str, kind: str, seed: int) -> None:
    given: list[Given] = [normal(seed, 1, 2, *size), None, None, sizes(1, 2, *out)]
    attributes: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": nearest}
    check_float(single("Resize", *given, **attributes))
    check_integers(quantized("Resize", kind, *given, one_grid=True, **attributes), steps=0)


@MANY
@given(SIZES, SIZES, st.sampled_from(["asymmetric", "half_pixel", "align_corners"]), KINDS, SEEDS)
def test_linear(size: tuple[int, int], out: tuple[int, int], mode: str, kind: str, seed: int) -> None:
    """Within 1e-4: kernels multiply by in / out where ONNX Runtime divides by out / in."""
    given: list[Given] = [normal(seed, 1, 2, *size), None, None, sizes(1, 2, *out)]
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": mode}
    check_float(single("Resize", *given, **attributes), tolerance=1e-4)
    check_integers(quantized("Resize", kind, *given, one_grid=True, **attributes), integer=kind != "int16")


@MANY
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(["nearest", "linear"]), SEEDS)
def test_sequences(size: int, out: int, mode: str, seed: int) -> None:
    check_float(single("Resize", normal(seed, 1, 2, size), None, None, sizes(1, 2, out), mode=mode), tolerance=1e-4)


@pytest.mark.parametrize("factors", [(2.0, 3.0), (0.5, 1.0), (1.5, 2.0)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales(factors: tuple[float, float], mode: str) -> None:
    check_float(single("Resize", normal(1, 2, 3, 4, 6), None, scales(1, 1, *factors), mode=mode), tolerance=1e-4)


def test_scales_of_some_axes() -> None:
    given: list[Given] = [normal(1, 2, 3, 4, 6), None, scales(2, 2)]
    model = check_float(
        single("Resize", *given, axes=[2, -1], coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    )
    assert "RESIZE_NEAREST_NEIGHBOR" in kinds(model)


def test_a_picture_of_the_same_size_is_left_alone() -> None:
    assert "RESIZE_BILINEAR" not in kinds(
        check_float(single("Resize", normal(1, 1, 2, 4, 5), None, None, sizes(1, 2, 4, 5), mode="linear"))
    )


def test_places_that_no_kernel_picks_are_gathered() -> None:
    model = check_float(
        single("Resize", normal(1, 1, 2, 5, 6), None, None, sizes(1, 2, 3, 4), mode="nearest", nearest_mode="ceil")
    )
    assert "GATHER" in kinds(model)


@pytest.mark.parametrize(
    ("out", "attributes", "reason"),
    [
        ((1, 2, 8, 8), {"mode": "cubic"}, "cubic"),
        ((1, 2, 2, 2), {"mode": "linear", "antialias": 1}, "antialias"),
        ((1, 4, 8, 8), {"mode": "linear"}, "it makes"),
        ((1, 2, 9, 9), {"mode": "linear", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}, "count pixels"),
        (
            (1, 2, 9, 9),
            {"mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize"},
            "tf_crop_and_resize",
        ),
    ],
)
def test_what_has_no_form_is_refused(out: tuple[int, ...], attributes: dict[str, Any], reason: str) -> None:
    roi = Fixed(np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32))
    with pytest.raises(UnsupportedModel, match=reason):
        emit(single("Resize", normal(1, 1, 2, 4, 4), roi, None, sizes(*out), **attributes).graph)
