"""A bundle with steps, loaded and served: outside there are only the client's tensors."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.processing import ProcessingError
from edgewright.bundle.steps import Argmax, Crop, Normalise, Reshape, Resize
from edgewright.runtime.control import Done
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.server.loading import GoldenTestFailed, load_bundle
from tests.runtime.processed_bundle import with_steps
from tests.runtime.small_bundle import digits_bundle, echo_bundle

PICTURE = TensorSpec(name="image", datatype="UINT8", shape=(-1, 8, 8, 1), layout="NHWC")
BEFORE = (Normalise(tensor="image", scale=1 / 255), Reshape(tensor="image", shape=(64,)))
PICTURES = np.random.default_rng(3).integers(0, 256, (6, 8, 8, 1), np.uint8)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return with_steps(
        digits_bundle(tmp_path / "digits"), (PICTURE,), BEFORE, (Argmax(tensor="scores"),), {"image": PICTURES}
    )


def test_a_loaded_model_takes_and_gives_the_client_s_tensors(directory: Path, tmp_path: Path) -> None:
    loaded = load_bundle(directory, LoadOptions())
    assert loaded.manifest.inputs == (PICTURE,)
    plain = digits_bundle(tmp_path / "plain")
    scores = plain.run({"image": PICTURES.reshape(6, 64) * np.float32(1 / 255)})["scores"]
    assert loaded.instance.run({"image": PICTURES})["scores"].tolist() == scores.argmax(1).tolist()
    loaded.instance.close()


def test_the_self_test_covers_the_steps(directory: Path) -> None:
    manifest = read_manifest(directory)
    broken = (Normalise(tensor="image", scale=-1.0), BEFORE[1])
    write_manifest(directory, msgspec.structs.replace(manifest, preprocess=broken))
    with pytest.raises(GoldenTestFailed, match="scores"):
        load_bundle(directory, LoadOptions())


def test_steps_that_do_not_fit_are_refused_before_the_engine_loads(directory: Path) -> None:
    manifest = read_manifest(directory)
    (directory / "model/model.onnx").write_bytes(b"no model")
    write_manifest(directory, msgspec.structs.replace(manifest, preprocess=BEFORE[:1]))
    with pytest.raises(ProcessingError, match="the model takes image"):
        load_bundle(directory, LoadOptions())


def test_a_request_that_would_become_huge_is_400_and_says_how_many_fit(tmp_path: Path) -> None:
    dot = TensorSpec(name="in_uint8", datatype="UINT8", shape=(-1, 1, 1, 3), layout="NHWC")
    before = (
        Resize(tensor="in_uint8", height=4096, width=4096, method="nearest"),
        Crop(tensor="in_uint8", height=1, width=1),
        Reshape(tensor="in_uint8", shape=(3,)),
    )
    small = echo_bundle(tmp_path / "echo", ("UINT8",))
    directory = with_steps(small, (dot,), before, (), {"in_uint8": np.ones((1, 1, 1, 3), np.uint8)})
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        assert isinstance(child.load(directory, "echo", "1", small.digest), Done)
        connection = http.client.HTTPConnection("127.0.0.1", tcp.getsockname()[1], timeout=20)
        for rows, status in ((1, 200), (22, 400)):
            tensor = {"name": "in_uint8", "datatype": "UINT8", "shape": [rows, 1, 1, 3], "data": [7] * 3 * rows}
            connection.request("POST", "/v2/models/echo/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            told = json.load(answer)
            assert answer.status == status, told
        assert "at most 21 samples fit" in told["error"]
        connection.close()
