"""Steps that anybody may have written into a manifest: refused from their shapes, in words, before any work."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest

from edgewright.bundle import steps
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.processing import ProcessingError, model_manifest, pipeline_of
from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.tensor_spec import TensorSpec
from tests.bundle.processing.some_steps import tensor
from tests.bundle.samples import processed_manifest, sample_manifest

SOUND: dict[str, Any] = {
    "tensor": "x",
    "sample_rate_hz": 16_000,
    "frame_length": 400,
    "hop_length": 160,
    "fft_length": 512,
    "mels": 40,
    "high_hz": 8000.0,
}
X = "x"
PICTURE = tensor("UINT8", 32, 32, 3)
REFUSED: list[tuple[Any, TensorSpec, str]] = [
    (steps.Resize(tensor=X, height=8192, width=8192), PICTURE, "bytes a sample"),
    (steps.Resize(tensor=X, height=8, width=8), tensor("UINT8", 2**31 - 1, 1, 1), "bytes a sample"),
    (steps.Resize(tensor=X, height=8, width=8), tensor("UINT8", 60_000_000, 1, 1), "at most 8192 a side"),
    (steps.Resize(tensor=X, height=8, width=8), TensorSpec(name=X, datatype="UINT8", shape=(-1, -1, 5, 3)), "fixed"),
    (steps.Resize(tensor=X, height=8, width=8), tensor("UINT8", 8, 8, 3, layout="NCHW"), "the step says NHWC"),
    (steps.Resize(tensor=X, height=8, width=8), tensor("BYTES", 8, 8, 3), "BYTES"),
    (steps.Resize(tensor=X, height=8, width=8, method="nearest", antialias=True), PICTURE, "antialias"),
    (steps.Resize(tensor=X, height=8, width=8), tensor("UINT8", 8, 8), "4 axes"),
    (steps.Crop(tensor=X, height=33, width=1), PICTURE, "33 x 1"),
    (steps.Cast(tensor=X, datatype="FP64"), tensor("UINT8", 9_000_000), "bytes a sample"),
    (steps.Normalise(tensor=X, mean=(1.0, 2.0)), PICTURE, "expected 1 or 3"),
    (steps.Normalise(tensor=X, std=(1e-60,)), PICTURE, "std holds 0"),
    (steps.Normalise(tensor=X, axis=4), PICTURE, "axis 4"),
    (steps.Normalise(tensor=X, axis=0), PICTURE, "axis 0"),
    (steps.Transpose(tensor=X, axes=(1, 0, 2, 3)), PICTURE, "expected 0"),
    (steps.Transpose(tensor=X, axes=(0, 1, 1, 3)), PICTURE, "in some order"),
    (steps.Reshape(tensor=X, shape=(2**31 - 1,) * 15), PICTURE, "as many values"),
    (steps.LogMel(**SOUND), tensor("FP32", 100), "frames of 400"),
    (steps.LogMel(**(SOUND | {"fft_length": 256})), tensor("FP32", 16_000), "fft_length"),
    (steps.LogMel(**(SOUND | {"high_hz": 9000.0})), tensor("FP32", 16_000), "8000"),
    (steps.LogMel(**(SOUND | {"high_hz": 1e-38})), tensor("FP32", 16_000), "bands of less"),
    (steps.LogMel(**SOUND, coefficients=41), tensor("FP32", 16_000), "41 coefficients"),
    (steps.LogMel(**(SOUND | {"hop_length": 1, "fft_length": 16_384})), tensor("INT16", 33_000_000), "scratch"),
    (steps.Argmax(tensor=X), TensorSpec(name=X, datatype="FP32", shape=(-1,)), "behind the batch"),
    (steps.TopK(tensor=X, k=6), tensor("FP32", 5), "k is 6"),
    (steps.TopK(tensor=X, k=2, labels=("a",)), tensor("FP32", 5), "1 labels for 5"),
    (steps.TopK(tensor=X, k=2, values="a", indices="a"), tensor("FP32", 5), "there already"),
    (steps.Softmax(tensor="y"), tensor("FP32", 5), "no tensor 'y'"),
    (steps.Softmax(tensor=X), tensor("INT8", 5), "INT8"),
    (steps.Dequantize(tensor=X, scale=1.0), tensor("FP32", 5), "FP32"),
    (steps.Nms(boxes=X, scores=X), tensor("FP32", 5, 4), "no tensor"),
]


@pytest.mark.parametrize(
    ("step", "spec", "words"), REFUSED, ids=lambda value: getattr(value, "__class__", str).__name__
)
def test_what_does_not_fit_is_refused_in_words(step: Any, spec: TensorSpec, words: str) -> None:
    tracemalloc.start()
    try:
        begun_s = time.process_time()
        with pytest.raises(ProcessingError, match=words) as refused:
            Chain((step,), (spec,), "preprocess")
        assert time.process_time() - begun_s < 1.0
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "preprocess, step 1" in str(refused.value)


def test_boxes_and_scores_that_do_not_belong_together() -> None:
    nms = steps.Nms(boxes="b", scores="s")
    for boxes, scores in (((5, 3), (5, 2)), ((5, 4), (6, 2))):
        with pytest.raises(ProcessingError, match="boxes"):
            Chain((nms,), (tensor("FP32", *boxes, name="b"), tensor("FP32", *scores, name="s")), "postprocess")


def test_small_samples_do_not_become_a_huge_batch() -> None:
    chain = Chain((steps.Resize(tensor=X, height=2048, width=2048),), (tensor("FP32", 1, 1, 4),), "preprocess")
    with pytest.raises(ProcessingError, match="at most 16 samples"):
        chain.run({X: np.zeros((17, 1, 1, 4), np.float32)})


def test_too_many_steps() -> None:
    with pytest.raises(ProcessingError, match="at most 32"):
        Chain((steps.Softmax(tensor=X),) * 33, (tensor("FP32", 5),), "preprocess")


def test_a_manifest_s_steps_lead_from_client_to_model() -> None:
    processing = pipeline_of(processed_manifest())
    assert processing is not None
    assert processing.model_inputs == processed_manifest().model_inputs
    state = np.ones((2, 8), np.float32)
    found = processing.before({"x": np.full((2, 4), 255, np.uint8), "h_in": state})
    np.testing.assert_allclose(found["x"], 2.0, rtol=1e-6)
    assert found["h_in"] is state
    assert pipeline_of(sample_manifest()) is None
    engine = model_manifest(processed_manifest())
    assert (engine.inputs, engine.preprocess, pipeline_of(engine)) == (processed_manifest().model_inputs, (), None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_inputs": ()}, "the model takes nothing"),
        ({"model_outputs": ()}, "no tensor 'scores'"),
        ({"outputs": (tensor("FP32", 4, name="scores"), tensor("FP32", 8, name="h_out"))}, "outputs are"),
        ({"inputs": (tensor("UINT8", 5), tensor("FP32", 8, name="h_in"))}, "the model takes"),
        ({"preprocess": (), "postprocess": ()}, "but no steps"),
    ],
)
def test_a_manifest_whose_steps_lead_elsewhere(change: dict[str, Any], words: str) -> None:
    manifest: Manifest = msgspec.structs.replace(processed_manifest(), **change)
    with pytest.raises(ProcessingError, match=words):
        pipeline_of(manifest)


def test_tensors_that_no_step_works_on_may_be_large() -> None:
    large = tensor("FP32", 100_000_000, name="large")
    assert Chain((steps.Softmax(tensor=X),), (tensor("FP32", 5), large), "postprocess").result[0] == large
