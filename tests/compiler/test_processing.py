"""`--processing`: raw data in, the same steps in the bundle, and the same bits from a real server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import read_golden
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.processing import ProcessingError, pipeline_of
from edgewright.bundle.reference import read_reference
from edgewright.compiler.pipeline import compile_model, prepare
from edgewright.compiler.processing import Declared, ProcessingFileError, client_names, read_processing
from edgewright.compiler.report.progress import SilentStages
from edgewright.compiler.request import Request, load_boards
from edgewright.compiler.scratch import Scratch
from edgewright.runtime.batch import run_batches
from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp

STEPS = """
[[before]]
step = "rename"
tensor = "picture"
name = "x"

[[before]]
step = "resize"
tensor = "x"
height = 8
width = 8
antialias = true

[[before]]
step = "normalise"
tensor = "x"
mean = [127.5]
std = [40.0]

[[before]]
step = "transpose"
tensor = "x"
axes = [0, 3, 1, 2]

[[after]]
step = "softmax"
tensor = "scores"

[[after]]
step = "top-k"
tensor = "scores"
k = 2
labels = ["cat", "dog", "cow", "ümlaut"]
"""


@pytest.fixture
def raw() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (120, 20, 17, 1), np.uint8)


@pytest.fixture
def processed_request(tmp_path: Path, raw: NDArray[np.uint8], make_request: Callable[..., Request]) -> Request:
    (tmp_path / "steps.toml").write_text(STEPS)
    np.savez(tmp_path / "raw.npz", picture=raw, y=np.arange(len(raw)) % 4)
    return make_request(
        data=tmp_path / "raw.npz", processing=tmp_path / "steps.toml", targets=("host",), max_drop="99%"
    )


def test_the_server_gives_what_the_compiler_computed_to_the_bit(processed_request: Request, tmp_path: Path) -> None:
    report = compile_model(processed_request)
    assert report.exit_code in {0, 3}
    bundle = processed_request.out / "host.bundle"
    manifest = unpack(bundle, tmp_path / "unpacked")
    _check_manifest(manifest)
    with Scratch(tmp_path / "again") as scratch:
        _, build = prepare(processed_request, load_boards(("host",)), SilentStages(), scratch)
        model_side, client_side = build.data.test.inputs["x"], build.client.data.test.inputs["picture"]
    processing = pipeline_of(manifest)
    assert processing is not None
    rows = client_side[:5]
    assert processing.before({"picture": rows})["x"].tobytes() == model_side[:5].tobytes()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(tmp_path / "unpacked/model/model.onnx", settings, providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"x": model_side[:5]})[0]
    expected = build.client.after({"scores": scores})
    found = _served(tmp_path, manifest, rows)
    assert found["values"] == expected["values"].ravel().astype(np.float64).tolist()
    assert found["indices"] == expected["indices"].ravel().tolist()
    assert found["labels"] == [["cat", "dog", "cow", "ümlaut"][place] for place in found["indices"]]
    _check_batch(bundle, rows, expected, tmp_path)


def _check_manifest(manifest: Manifest) -> None:
    assert manifest.format_version == 2
    assert [(spec.name, spec.datatype, spec.shape, spec.layout) for spec in manifest.inputs] == [
        ("picture", "UINT8", (-1, 20, 17, 1), "NHWC")
    ]
    assert [spec.name for spec in manifest.outputs] == ["values", "indices", "labels"]
    assert [spec.name for spec in manifest.model_inputs] == ["x"]
    assert [spec.name for spec in manifest.model_outputs] == ["scores"]


def _served(tmp_path: Path, manifest: Manifest, rows: NDArray[np.uint8]) -> dict[str, list[Any]]:
    tensor = {"name": "picture", "datatype": "UINT8", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        assert isinstance(child.load(tmp_path / "unpacked", manifest.model, "1", "sha256:" + "0" * 64), Done)
        connection = http.client.HTTPConnection("127.0.0.1", tcp.getsockname()[1], timeout=20)
        connection.request("POST", f"/v2/models/{manifest.model}/infer", json.dumps({"inputs": [tensor]}))
        outputs = json.load(connection.getresponse())["outputs"]
        connection.request("GET", f"/v2/models/{manifest.model}")
        metadata = json.load(connection.getresponse())
        connection.close()
    assert [(each["name"], each["datatype"]) for each in metadata["inputs"]] == [("picture", "UINT8")]
    return {each["name"]: each["data"] for each in outputs}


def _check_batch(bundle: Path, rows: NDArray[np.uint8], expected: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=rows)
    run_batches(
        bundle,
        tmp_path / "in.npz",
        tmp_path / "out.npz",
        batch_size=2,
        threads=None,
        emulated=False,
        on_progress=lambda _done, _all: None,
    )
    with np.load(tmp_path / "out.npz") as written:
        assert np.array_equal(written["indices"], expected["indices"])
        assert np.array_equal(written["labels"].astype(object), expected["labels"])


def test_self_test_and_reference_are_the_client_s(processed_request: Request, tmp_path: Path) -> None:
    compile_model(processed_request)
    unpack(processed_request.out / "host.bundle", tmp_path / "unpacked")
    golden = read_golden(tmp_path / "unpacked/golden.safetensors")
    assert {name: array.dtype for name, array in golden.inputs.items()} == {"picture": np.uint8}
    assert {name: array.dtype for name, array in golden.outputs.items()} == {"values": np.float32, "indices": np.int64}
    reference = read_reference((tmp_path / "unpacked/reference.cbor").read_bytes())
    assert {histogram.source.tensor for histogram in reference.histograms} == {"picture", "values", "indices"}
    assert not {histogram.source.statistic for histogram in reference.histograms} & {"class", "confidence"}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ('[[before]]\nstep = "exec"', "exec"),
        ('[[before]]\nstep = "rename"\ntensor = "x"', "name"),
        ('[[before]]\nstep = "cast"\ntensor = "x"\ndatatype = "FP32"\nmore = 1', "more"),
        ("[before", "steps.toml"),
        ("middle = []", "middle"),
    ],
)
def test_files_that_are_none_are_told_in_words(tmp_path: Path, steps: str, words: str) -> None:
    (tmp_path / "steps.toml").write_text(steps)
    with pytest.raises(ProcessingFileError, match=words) as told:
        read_processing(tmp_path / "steps.toml")
    assert told.value.exit_code == 2
    with pytest.raises(ProcessingFileError, match="No such file"):
        read_processing(tmp_path / "none.toml")


def test_steps_that_do_not_lead_to_the_model(processed_request: Request, tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text(STEPS.replace("height = 8", "height = 9"))
    with pytest.raises(ProcessingError, match=r"x FP32 \[-1, 1, 9, 8\]; the model takes x FP32 \[-1, 1, 8, 8\]"):
        compile_model(processed_request)


def test_names_go_back_through_renames(tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text(STEPS)
    assert client_names(read_processing(tmp_path / "steps.toml"), ["x", "other"]) == ("picture", "other")
    assert client_names(Declared(), ["x"]) == ("x",)
