"""The compiler calls libraries as devices do: any number of samples, outputs by name, nothing converted."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.bundle.native_call import InputRefused
from edgewright.bundle.native_library import NativeEntry, NativeTensor
from edgewright.compiler.lower.native.session import NativeSession, ports_of
from tests.compiler.native.single_layer import PLAIN
from tests.runtime.native_bundle import CLASSES, FEATURES, Classifier, needs_gcc

pytestmark = needs_gcc


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> NativeSession:
    path = tmp_path_factory.mktemp("native") / "model.so"
    Classifier().write_library(path, PLAIN, batches=(1, 8))
    return NativeSession(path)


def test_a_session_says_what_it_takes(session: NativeSession) -> None:
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("image", (None, FEATURES))]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("scores", (None, CLASSES))]


@pytest.mark.parametrize("rows", [1, 7, 8, 21])
def test_all_samples_go_in_at_once(session: NativeSession, rows: int) -> None:
    image = np.random.default_rng(rows).normal(size=(rows, FEATURES)).astype(np.float32)
    expected = Classifier().scores(image)
    for names in (None, ["scores"]):
        (scores,) = session.run(names, {"image": image})
        assert np.allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_no_input_is_converted(session: NativeSession) -> None:
    with pytest.raises(InputRefused, match="is float64"):
        session.run(None, {"image": np.zeros((1, FEATURES))})


def test_an_output_without_a_batch_fixes_the_batch() -> None:
    """Its samples cannot be told apart."""
    image, total = NativeTensor("image", "FP32", (1, 4), 16), NativeTensor("total", "FP32", (), 4)
    shared = NativeTensor("shared", "FP32", (3,), 12)
    alone = ports_of((NativeEntry(1, 0, 64, (image, shared), (total,)),))
    assert [port.shape for port in (*alone.inputs, *alone.outputs)] == [(1, 4), (3,), ()]
    batched = ports_of((NativeEntry(1, 0, 64, (image, shared), (image,)),))
    assert [port.shape for port in (*batched.inputs, *batched.outputs)] == [(-1, 4), (3,), (-1, 4)]
    fixed = ports_of((NativeEntry(4, 0, 64, (NativeTensor("image", "FP32", (4, 4), 64),), (image,)),))
    assert fixed.leading is None
