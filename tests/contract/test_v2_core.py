"""The six calls of the Open Inference Protocol, as its specification has them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.contract.exchange import DIGITS, ECHO, ONE_IMAGE, Answer, ask, image, infer, scores

DATATYPES = {
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES", "BF16",
}  # fmt: skip

# JSON numbers at the borders of each datatype; those of floats are exact in binary.
VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    **{f"UINT{bits}": [0, 1, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    "FP16": [-1.5, 0.0, 65504.0],
    "FP32": [-1.5, 0.0, 2.0**100],
    "FP64": [-1.5, 1e-300, 2.0**1000],
    "BYTES": ["", "two words", "grün 猫"],
}


def echo_inputs(server: str) -> list[dict[str, Any]]:
    inputs: list[dict[str, Any]] = ask(server, "GET", "/v2/models/echo").json["inputs"]
    return inputs


@pytest.mark.parametrize(
    "target",
    ["/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"],
)
def test_health_is_a_200(v2_server: str, target: str) -> None:
    assert ask(v2_server, "GET", target).status == 200


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1/ready", {"name": "digits", "ready": True}),
    ],
)
def test_a_ready_model_says_so_in_its_body(v2_server: str, target: str, expected: Any) -> None:
    assert ask(v2_server, "GET", target).json == expected


def test_server_metadata(v2_server: str) -> None:
    answer = ask(v2_server, "GET", "/v2")
    metadata = answer.json
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert all(isinstance(metadata[key], str) and metadata[key] for key in ("name", "version"))
    assert isinstance(metadata["extensions"], list)
    assert all(isinstance(name, str) for name in metadata["extensions"])


@pytest.mark.parametrize("target", ["/v2/models/digits", "/v2/models/digits/versions/1"])
def test_model_metadata(v2_server: str, target: str) -> None:
    metadata = ask(v2_server, "GET", target).json
    assert metadata["name"] == "digits"
    assert isinstance(metadata["platform"], str)
    assert metadata["inputs"][0].items() >= {"name": "image", "datatype": "FP32", "shape": [-1, 64]}.items()
    assert metadata["outputs"][0].items() >= {"name": "scores", "datatype": "FP32", "shape": [-1, 10]}.items()


def test_versions_are_strings(v2_server: str) -> None:
    versions = ask(v2_server, "GET", "/v2/models/digits").json.get("versions", [])
    assert all(isinstance(version, str) for version in versions)


def test_datatypes_of_metadata_are_those_of_the_protocol(v2_server: str) -> None:
    metadata = ask(v2_server, "GET", "/v2/models/echo").json
    assert {tensor["datatype"] for tensor in (*metadata["inputs"], *metadata["outputs"])} <= DATATYPES


def check_scores(answer: Answer, shape: list[int]) -> None:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", shape)
    values = np.array(output["data"], np.float32).reshape(shape)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-4)


def test_an_inference(v2_server: str) -> None:
    answer = infer(v2_server, {"inputs": [image()]})
    check_scores(answer, [1, 10])
    assert answer.json["model_name"] == "digits"


def test_an_inference_of_a_version(v2_server: str) -> None:
    answer = infer(v2_server, {"inputs": [image()]}, target="/v2/models/digits/versions/1/infer")
    check_scores(answer, [1, 10])
    assert answer.json["model_version"] == "1"


@pytest.mark.parametrize("rows", [2, 7])
def test_several_rows(v2_server: str, rows: int) -> None:
    data = ONE_IMAGE.tolist() * rows
    answer = infer(v2_server, {"inputs": [image(shape=[rows, 64], data=data)]})
    check_scores(answer, [rows, 10])
    np.testing.assert_allclose(
        np.array(answer.json["outputs"][0]["data"]).ravel(), np.tile(scores(v2_server), rows), rtol=1e-5
    )


def test_nested_and_flat_data_are_the_same(v2_server: str) -> None:
    nested = infer(v2_server, {"inputs": [image(data=[ONE_IMAGE.tolist()])]})
    check_scores(nested, [1, 10])
    np.testing.assert_allclose(np.array(nested.json["outputs"][0]["data"]).ravel(), scores(v2_server), rtol=1e-6)


@pytest.mark.parametrize("name", ["x", "", "ü-猫", "a" * 500], ids=["short", "empty", "beyond ASCII", "long"])
def test_an_id_comes_back(v2_server: str, name: str) -> None:
    assert infer(v2_server, {"id": name, "inputs": [image()]}).json.get("id", "") == name


def test_a_named_output(v2_server: str) -> None:
    check_scores(infer(v2_server, {"inputs": [image()], "outputs": [{"name": "scores"}]}), [1, 10])


def test_outputs_may_be_an_empty_list(v2_server: str) -> None:
    check_scores(infer(v2_server, {"inputs": [image()], "outputs": []}), [1, 10])


def test_only_the_outputs_that_are_asked_for(v2_server: str, announced: frozenset[str]) -> None:
    inputs, tail = as_json(echo_inputs(v2_server), announced)
    wanted = ["out_int8", "out_fp32"]
    answer = infer(v2_server, {"inputs": inputs, "outputs": [{"name": n} for n in wanted]}, tail, target=ECHO)
    assert [output["name"] for output in answer.json["outputs"]] == wanted


@pytest.mark.extension("parameters")
@pytest.mark.parametrize("value", ["text", 3, 2.5, True])
def test_unknown_parameters_do_no_harm(v2_server: str, value: Any) -> None:
    request = {"parameters": {"note": value}, "inputs": [image(parameters={"note": value})]}
    check_scores(infer(v2_server, request), [1, 10])


def test_whitespace_and_escapes_in_json(v2_server: str) -> None:
    text = json.dumps({"inputs": [image()]}, indent=3).replace('"image"', '"\\u0069mage"')
    check_scores(ask(v2_server, "POST", DIGITS, text, {"Content-Type": "application/json"}), [1, 10])


@pytest.mark.parametrize("spelling", ["0", "0.0", "-0.0", "0e3", "0E-3"])
def test_spellings_of_a_number(v2_server: str, spelling: str) -> None:
    text = json.dumps({"inputs": [image(data=[])]}).replace("[]", f"[{','.join([spelling] * 64)}]")
    check_scores(ask(v2_server, "POST", DIGITS, text, {"Content-Type": "application/json"}), [1, 10])


def as_json(inputs: list[dict[str, Any]], announced: frozenset[str]) -> tuple[list[dict[str, Any]], bytes]:
    """The inputs of `echo` as JSON, and half precision, which has no JSON form, behind it."""
    tensors, tail = [], b""
    for tensor in inputs:
        datatype = tensor["datatype"]
        entry = {"name": tensor["name"], "datatype": datatype, "shape": [1, 3]}
        if datatype == "FP16":
            if "binary_tensor_data" not in announced:
                pytest.skip("echo has half precision, which has no JSON form, and no binary_tensor_data to send it")
            data = np.array(VALUES["FP16"], np.float16).tobytes()
            tail += data
            tensors.append({**entry, "parameters": {"binary_data_size": len(data)}})
        else:
            tensors.append({**entry, "data": VALUES[datatype]})
    return tensors, tail


@pytest.mark.parametrize("datatype", [name for name in VALUES if name != "FP16"])
def test_json_of_every_datatype(v2_server: str, announced: frozenset[str], datatype: str) -> None:
    described = echo_inputs(v2_server)
    if datatype not in {tensor["datatype"] for tensor in described}:
        pytest.skip(f"this server's echo has no {datatype}")
    inputs, tail = as_json(described, announced)
    name = f"out_{datatype.lower()}"
    answer = infer(v2_server, {"inputs": inputs, "outputs": [{"name": name}]}, tail, target=ECHO)
    assert answer.status == 200, answer.body
    found = {output["name"]: output for output in answer.json["outputs"]}[name]
    assert (found["datatype"], found["shape"]) == (datatype, [1, 3])
    data = found["data"][0] if isinstance(found["data"][0], list) else found["data"]  # nested, or flat
    assert data == VALUES[datatype]
