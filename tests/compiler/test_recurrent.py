"""`--state`: pairs of the model, samples with the state that the float model has, and a bundle that says so."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import read_golden
from edgewright.bundle.manifest import StatePair
from edgewright.bundle.reference import read_reference
from edgewright.compiler.graph import from_proto
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.recurrent import StateError, reached_states, state_pairs, with_zero_states
from edgewright.compiler.request import Request
from edgewright.compiler.scratch import Scratch
from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp

W = np.random.default_rng(1).normal(0, 0.5, (3, 4)).astype(np.float32)
U = np.random.default_rng(2).normal(0, 0.5, (4, 4)).astype(np.float32)


def recurrent() -> onnx.ModelProto:
    """h_out = tanh(x W + h_in U); y = h_out summed up."""
    tensors = {"x": 3, "h_in": 4, "h_out": 4, "y": 4}
    info = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in tensors.items()
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "a"),
        helper.make_node("MatMul", ["h_in", "u"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["c"], "c"),
        helper.make_node("Tanh", ["c"], ["h_out"], "t"),
        helper.make_node("MatMul", ["h_out", "u"], ["y"], "y"),
    ]
    weights = [numpy_helper.from_array(W, "w"), numpy_helper.from_array(U, "u")]
    graph = helper.make_graph(nodes, "r", [info["x"], info["h_in"]], [info["y"], info["h_out"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def states(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Before each sample, step by step over the whole file."""
    state, found = np.zeros(4, np.float32), []
    for row in inputs:
        found.append(state)
        state = np.tanh(row @ W + state @ U)
    return np.array(found)


def test_every_sample_gets_the_state_after_those_before_it(scratch: Scratch) -> None:
    graph, x = from_proto(recurrent()), np.random.default_rng(3).normal(size=(40, 3)).astype(np.float32)
    pairs = state_pairs(("h_in=h_out",), graph)
    arrays = with_zero_states({"x": x}, pairs, graph, ("x", "h_in"))
    assert not arrays["h_in"].any()
    found = reached_states(graph, arrays, pairs, scratch)["h_in"]
    np.testing.assert_allclose(found[:9], states(x)[:9], atol=1e-6)
    np.testing.assert_allclose(found, states(x), atol=0.2)  # what is older than eight samples has little say


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("h_in",), "expected INPUT=OUTPUT"),
        (("h_in=nothing",), "outputs"),
        (("x=h_out",), "expected the same"),
        (("h_in=h_out", "h_in=h_out"), "two pairs"),
    ],
)
def test_pairs_that_are_none_are_told_in_words(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(StateError, match=words) as told:
        state_pairs(given, from_proto(recurrent()))
    assert told.value.exit_code == 2


def test_the_bundle_says_it(tmp_path: Path, make_request: Callable[..., Request]) -> None:
    onnx.save(recurrent(), tmp_path / "r.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(4).normal(size=(60, 3)).astype(np.float32))
    request = make_request(
        model=str(tmp_path / "r.onnx"), data=tmp_path / "d.npz", state=("h_in=h_out",), targets=("host",), max_drop=None
    )
    assert compile_model(request).exit_code in {0, 3}
    manifest = unpack(request.out / "host.bundle", tmp_path / "unpacked")
    assert manifest.format_version == 2
    assert manifest.state == (StatePair(input="h_in", output="h_out"),)
    assert manifest.model_inputs == ()
    golden = read_golden(tmp_path / "unpacked/golden.safetensors")
    assert golden.inputs["h_in"].any()
    assert golden.outputs.keys() == {"y", "h_out"}
    reference = read_reference((tmp_path / "unpacked/reference.cbor").read_bytes())
    assert {histogram.source.tensor for histogram in reference.histograms} == {"x", "y"}
    x = np.random.default_rng(9).normal(size=(6, 3)).astype(np.float32)
    expected = np.tanh(x @ W + states(x) @ U) @ U
    np.testing.assert_allclose(_sequence(tmp_path, manifest.model, x), expected, atol=0.05, err_msg=manifest.precision)


def _sequence(tmp_path: Path, model: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The answers of a real server to the steps of one sequence."""
    answers = []
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        assert isinstance(child.load(tmp_path / "unpacked", model, "1", "sha256:" + "0" * 64), Done)
        connection = http.client.HTTPConnection("127.0.0.1", tcp.getsockname()[1], timeout=20)
        for place, row in enumerate(x):
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": row.tolist()}
            step = {"sequence_id": 7, "sequence_start": place == 0, "sequence_end": place == len(x) - 1}
            connection.request(
                "POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor], "parameters": step})
            )
            answer = json.load(connection.getresponse())
            assert [output["name"] for output in answer["outputs"]] == ["y"]
            answers.append(answer["outputs"][0]["data"])
        connection.close()
    return np.array(answers)
