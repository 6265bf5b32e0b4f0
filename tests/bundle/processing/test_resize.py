"""Resize against ONNX Runtime's, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgewright.bundle.steps import Crop, Resize
from tests.bundle.processing.some_steps import run

SIZES = [((7, 9), (13, 5)), ((32, 32), (9, 17)), ((5, 5), (5, 5)), ((1, 4), (3, 1)), ((40, 30), (7, 60))]


def onnx_resize(pictures: NDArray[Any], height: int, width: int, **attributes: Any) -> NDArray[Any]:
    kind = TensorProto.FLOAT
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], coordinate_transformation_mode="half_pixel", **attributes
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", kind, None)],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], [*pictures.shape[:2], height, width])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"x": pictures})[0]
    return found


@pytest.mark.parametrize(("size", "wanted"), SIZES)
@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        ({"method": "bilinear"}, {"mode": "linear"}),
        ({"method": "bilinear", "antialias": True}, {"mode": "linear", "antialias": 1, "exclude_outside": 1}),
        ({"method": "nearest"}, {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}),
    ],
)
def test_it_is_onnx_runtime_s(
    size: tuple[int, int], wanted: tuple[int, int], options: dict[str, Any], attributes: dict[str, Any]
) -> None:
    pictures = np.random.default_rng(3).uniform(0, 255, (2, 3, *size)).astype(np.float32)
    expected = onnx_resize(pictures, *wanted, **attributes)
    step = Resize(tensor="x", height=wanted[0], width=wanted[1], layout="NCHW", **options)
    np.testing.assert_allclose(run(step, pictures)[0], expected, atol=2e-4, rtol=1e-5)
    channels_last = Resize(tensor="x", height=wanted[0], width=wanted[1], layout="NHWC", **options)
    moved = run(channels_last, np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)))[0]
    assert np.array_equal(moved.transpose(0, 3, 1, 2), run(step, pictures)[0])


def test_bytes_are_the_rounded_floats() -> None:
    pictures = np.random.default_rng(4).integers(0, 256, (2, 8, 9, 3), np.uint8)
    step = Resize(tensor="x", height=5, width=20)
    expected = np.rint(run(step, pictures.astype(np.float32))[0]).clip(0, 255).astype(np.uint8)
    assert np.array_equal(run(step, pictures)[0], expected)


def test_a_constant_stays_one() -> None:
    pictures = np.full((1, 50, 37, 1), 200, np.uint8)
    for antialias in (False, True):
        assert (run(Resize(tensor="x", height=11, width=64, antialias=antialias), pictures)[0] == 200).all()


def test_crop_takes_the_middle() -> None:
    rows = np.arange(7 * 5, dtype=np.int16).reshape(1, 7, 5, 1)
    assert np.array_equal(run(Crop(tensor="x", height=4, width=2), rows)[0], rows[:, 1:5, 1:3])
