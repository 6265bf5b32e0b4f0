"""Non-maximum suppression, one picture at a time, greedy by falling score (as ONNX NonMaxSuppression, per class).

Of equal scores the earlier box and, of one box, the lower class comes first. Each box that is kept costs one vectorised
comparison with all candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..steps import Nms
from ..tensor_spec import TensorSpec
from .bound import FLOATS, Array, Bound, ProcessingError, check_cost, numpy_of, sample_shape, spec

Floats = NDArray[np.float64]


def bind(step: Nms, boxes: TensorSpec, scores: TensorSpec) -> Bound:
    """The suppression for so many boxes and classes."""
    dtype, score_dtype = numpy_of(boxes, FLOATS), numpy_of(scores, FLOATS)
    count, four = sample_shape(boxes, 3)
    rows, classes = sample_shape(scores, 3)
    if four != 4 or rows != count or boxes.shape[0] != scores.shape[0]:
        raise ProcessingError(
            f"boxes {list(boxes.shape)} and scores {list(scores.shape)}; expected [n, b, 4] and [n, b, classes]"
        )
    candidates = min(step.candidates, count * classes)
    cost = {
        "scratch_bytes": 32 * count * classes + 128 * candidates,
        "operations": 40 * count * classes + 20 * candidates * min(step.outputs, candidates),
    }
    check_cost(**cost)
    batch, m = boxes.shape[0], step.outputs
    gives = (
        spec(boxes, name=step.output_boxes, shape=(batch, m, 4), layout=None),
        spec(scores, name=step.output_scores, shape=(batch, m), layout=None),
        spec(scores, name=step.output_classes, datatype="INT64", shape=(batch, m), layout=None),
        spec(scores, name=step.output_count, datatype="INT64", shape=(batch,), layout=None),
    )

    def run(places: Array, values: Array) -> tuple[Array, ...]:
        kept_boxes, kept_scores = np.zeros((len(places), m, 4), dtype), np.zeros((len(places), m), score_dtype)
        kept_classes, counts = np.full((len(places), m), -1, np.int64), np.zeros(len(places), np.int64)
        with np.errstate(all="ignore"):
            for picture in range(len(places)):
                box, kind = _kept(step, places[picture], values[picture], candidates)
                counts[picture] = found = len(box)
                kept_boxes[picture, :found] = places[picture][box]
                kept_scores[picture, :found] = values[picture][box, kind]
                kept_classes[picture, :found] = kind
        return kept_boxes, kept_scores, kept_classes, counts

    return Bound(takes=(boxes.name, scores.name), gives=gives, run=run, **cost)


def _kept(step: Nms, boxes: Array, scores: Array, candidates: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Box and class of what stays, by falling score."""
    flat = scores.astype(np.float64).ravel()
    flat[~(flat > step.score_threshold)] = -np.inf  # NaN is not larger
    order = np.argsort(-flat, kind="stable")[:candidates]
    order = order[flat[order] > -np.inf]
    box, kind = np.divmod(order, scores.shape[1])
    corners = _corners(step, boxes[box].astype(np.float64))
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    while len(kept) < step.outputs and alive.any():
        first = int(alive.argmax())
        kept.append(first)
        alive[first] = False
        alive &= ~((kind == kind[first]) & (_overlap(corners, corners[first]) > step.iou_threshold))
    return box[kept], kind[kept]


def _corners(step: Nms, boxes: Floats) -> Floats:
    """The lower corner, then the upper one."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if step.form == "centre":
        return np.concatenate((first - second / 2, first + second / 2), axis=1)
    return np.concatenate((np.minimum(first, second), np.maximum(first, second)), axis=1)


def _overlap(boxes: Floats, one: Floats) -> Floats:
    """Intersection over union; 0 where both are empty."""
    sides = np.maximum(0.0, np.minimum(boxes[:, 2:], one[2:]) - np.maximum(boxes[:, :2], one[:2]))
    inner = sides[:, 0] * sides[:, 1]
    union = _area(boxes) + float(_area(one[None])[0]) - inner
    shares: Floats = np.where(union > 0, inner / union, 0.0)
    return shares


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
