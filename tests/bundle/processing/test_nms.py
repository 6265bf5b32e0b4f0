"""NMS against ONNX Runtime's NonMaxSuppression."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgewright.bundle.steps import Nms
from tests.bundle.processing.some_steps import run


def onnx_nms(boxes: NDArray[Any], scores: NDArray[Any], iou: float, threshold: float, centre: bool) -> NDArray[Any]:
    """Rows (picture, class, box); scores are [n, classes, boxes] there."""
    limits = [
        helper.make_tensor("most", TensorProto.INT64, [1], [1000]),
        helper.make_tensor("iou", TensorProto.FLOAT, [1], [iou]),
        helper.make_tensor("score", TensorProto.FLOAT, [1], [threshold]),
    ]
    node = helper.make_node(
        "NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], ["y"], center_point_box=int(centre)
    )
    graph = helper.make_graph(
        [node],
        "nms",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("boxes", "scores")],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        limits,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"boxes": boxes, "scores": scores.transpose(0, 2, 1)})[0]
    return found


@pytest.mark.parametrize("form", ["corners", "centre"])
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.6])
def test_it_keeps_what_onnx_runtime_keeps(form: Any, iou: float) -> None:
    random = np.random.default_rng(7)
    boxes = np.concatenate((random.uniform(0, 1, (3, 60, 2)), random.uniform(0.1, 0.9, (3, 60, 2))), 2).astype(
        np.float32
    )
    scores = random.uniform(0, 1, (3, 60, 4)).astype(np.float32)
    expected = onnx_nms(boxes, scores, iou, 0.3, form == "centre")
    step = Nms(boxes="boxes", scores="scores", form=form, iou_threshold=iou, score_threshold=0.3, outputs=300)
    kept_boxes, kept_scores, classes, counts = run(step, boxes, scores)
    assert len(expected) == counts.sum()
    assert len(expected) > 10
    for picture in range(3):
        rows = expected[expected[:, 0] == picture]
        rows = rows[np.argsort(-scores[picture, rows[:, 2], rows[:, 1]])]
        count = counts[picture]
        assert classes[picture, :count].tolist() == rows[:, 1].tolist()
        assert np.array_equal(kept_boxes[picture, :count], boxes[picture][rows[:, 2]])
        assert np.array_equal(kept_scores[picture, :count], scores[picture, rows[:, 2], rows[:, 1]])
        assert (classes[picture, count:] == -1).all()
        assert not kept_boxes[picture, count:].any()


def test_the_best_are_kept_when_there_is_no_room() -> None:
    boxes = np.array([[[i, i, i + 0.5, i + 0.5] for i in range(5)]], np.float32)
    scores = np.array([[[0.1], [0.9], [0.5], [np.nan], [0.7]]], np.float32)
    _, values, _, count = run(Nms(boxes="boxes", scores="scores", outputs=2), boxes, scores)
    assert (values.tolist(), count.tolist()) == (np.array([[0.9, 0.7]], np.float32).tolist(), [2])
