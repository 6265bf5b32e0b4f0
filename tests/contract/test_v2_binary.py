"""The binary tensor data extension in all its forms."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.contract.exchange import (
    DIGITS,
    ECHO,
    LENGTH,
    ONE_IMAGE,
    Answer,
    ask,
    assert_refused,
    binary_image,
    image,
    infer,
    scores,
)
from tests.contract.test_v2_core import VALUES, echo_inputs

pytestmark = pytest.mark.extension("binary_tensor_data")

TAIL = ONE_IMAGE.tobytes()
AS_BINARY = {"binary_data_output": True}
NUMPY: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def encoded(datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [text.encode() for text in VALUES[datatype]]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(VALUES[datatype], NUMPY[datatype]).tobytes()


def check_binary_scores(server: str, answer: Answer) -> None:
    assert answer.status == 200, answer.body[:300]
    header, data = answer.parts
    assert answer.headers["content-type"] == "application/octet-stream"
    (output,) = header["outputs"]
    assert "data" not in output
    assert output["parameters"]["binary_data_size"] == len(data) == 40
    values: NDArray[np.float32] = np.frombuffer(data, np.float32)
    np.testing.assert_allclose(values, scores(server), rtol=1e-5)


def test_binary_in_json_out(v2_server: str) -> None:
    answer = infer(v2_server, {"inputs": [binary_image()]}, TAIL)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    assert LENGTH.lower() not in answer.headers
    np.testing.assert_allclose(np.ravel(answer.json["outputs"][0]["data"]), scores(v2_server), rtol=1e-5)


def test_binary_in_binary_out(v2_server: str) -> None:
    check_binary_scores(v2_server, infer(v2_server, {"inputs": [binary_image()], "parameters": AS_BINARY}, TAIL))


def test_json_in_binary_out(v2_server: str) -> None:
    check_binary_scores(v2_server, infer(v2_server, {"inputs": [image()], "parameters": AS_BINARY}))


def test_one_output_as_binary(v2_server: str) -> None:
    request = {"inputs": [image()], "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}
    check_binary_scores(v2_server, infer(v2_server, request))


def test_an_output_overrules_the_request(v2_server: str) -> None:
    request = {
        "inputs": [image()],
        "parameters": AS_BINARY,
        "outputs": [{"name": "scores", "parameters": {"binary_data": False}}],
    }
    answer = infer(v2_server, request)
    assert answer.status == 200, answer.body[:300]
    assert np.size(answer.json["outputs"][0]["data"]) == 10


def test_id_with_binary(v2_server: str) -> None:
    header, _ = infer(v2_server, {"id": "seven", "inputs": [binary_image()], "parameters": AS_BINARY}, TAIL).parts
    assert header["id"] == "seven"


def test_inputs_of_both_forms_in_one_request(v2_server: str) -> None:
    """Binary tensors follow in the order of the inputs; those with JSON data take no place."""
    tensors, tail = [], b""
    for number, tensor in enumerate(echo_inputs(v2_server)):
        datatype = tensor["datatype"]
        entry = {"name": tensor["name"], "datatype": datatype, "shape": [1, 3]}
        if number % 2 or datatype == "FP16":
            data = encoded(datatype)
            tail += data
            tensors.append({**entry, "parameters": {"binary_data_size": len(data)}})
        else:
            tensors.append({**entry, "data": VALUES[datatype]})
    answer = infer(v2_server, {"inputs": tensors, "outputs": [{"name": "out_int64"}]}, tail, target=ECHO)
    assert answer.status == 200, answer.body[:300]
    found = {output["name"]: output for output in answer.json["outputs"]}
    assert np.ravel(found["out_int64"]["data"]).tolist() == VALUES["INT64"]


def test_binary_of_every_datatype(v2_server: str) -> None:
    described = echo_inputs(v2_server)
    tensors, sent = [], {}
    for tensor in described:
        data = sent[f"out_{tensor['datatype'].lower()}"] = encoded(tensor["datatype"])
        tensors.append(
            {
                "name": tensor["name"],
                "datatype": tensor["datatype"],
                "shape": [1, 3],
                "parameters": {"binary_data_size": len(data)},
            }
        )
    request = {"inputs": tensors, "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in sent]}
    answer = infer(v2_server, request, b"".join(sent.values()), target=ECHO)
    assert answer.status == 200, answer.body[:300]
    header, data = answer.parts
    received, position = {}, 0
    for output in header["outputs"]:
        size = output["parameters"]["binary_data_size"]
        received[output["name"]] = data[position : position + size]
        position += size
    assert position == len(data)
    assert received == sent


def test_tensors_of_no_alignment(v2_server: str) -> None:
    """JSON of any length puts the tensors at any address."""
    for padding in range(8):
        request = {"inputs": [binary_image()], "parameters": AS_BINARY, "id": "x" * padding}
        check_binary_scores(v2_server, infer(v2_server, request, TAIL))


def test_a_raw_binary_request(v2_server: str) -> None:
    """A header length of 0: the body is the one input, batch 1, and the outputs come as binary."""
    answer = ask(v2_server, "POST", DIGITS, TAIL, {LENGTH: "0", "Content-Type": "application/octet-stream"})
    check_binary_scores(v2_server, answer)


@pytest.mark.parametrize("size", [0, 1, 252, 255, 257, 260])
def test_a_raw_binary_request_of_the_wrong_size(v2_server: str, size: int) -> None:
    body = bytes(size)
    assert_refused(ask(v2_server, "POST", DIGITS, body, {LENGTH: "0", "Content-Type": "application/octet-stream"}))


def test_a_raw_binary_request_for_several_inputs(v2_server: str) -> None:
    assert_refused(ask(v2_server, "POST", ECHO, TAIL, {LENGTH: "0", "Content-Type": "application/octet-stream"}))


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "0x10", "1.0", "99999999999999999999", "100000", "1", "10"])
def test_a_header_length_out_of_range(v2_server: str, length: str) -> None:
    body = json.dumps({"inputs": [binary_image()]}).encode() + TAIL
    assert_refused(ask(v2_server, "POST", DIGITS, body, {LENGTH: length, "Content-Type": "application/octet-stream"}))


@pytest.mark.parametrize(
    ("size", "tail_bytes", "shape"),
    [
        pytest.param(256, 255, [1, 64], id="body too short"),
        pytest.param(256, 257, [1, 64], id="body too long"),
        pytest.param(255, 255, [1, 64], id="not a multiple"),
        pytest.param(252, 252, [1, 64], id="an element too few"),
        pytest.param(-1, 256, [1, 64], id="negative size"),
        pytest.param(2**63, 256, [1, 64], id="size beyond int64"),
        pytest.param(2**32 + 256, 256, [1, 64], id="size wraps at 32 bits"),
        pytest.param(256, 256, [2, 64], id="shape too large"),
        pytest.param(256, 256, [2**62, 64], id="shape overflows"),
        pytest.param(256, 256, [2**58 + 1, 64], id="shape wraps to its size"),
        pytest.param(256, 256, [-1, -64], id="negative dimensions"),
        pytest.param(256, 256, [2**70, 64], id="shape beyond int64"),
        pytest.param("256", 256, [1, 64], id="size is text"),
        pytest.param(256.5, 256, [1, 64], id="size is a fraction"),
        pytest.param([256], 256, [1, 64], id="size is a list"),
    ],
)
def test_sizes_that_do_not_fit(v2_server: str, size: Any, tail_bytes: int, shape: list[int]) -> None:
    assert_refused(infer(v2_server, {"inputs": [binary_image(size, shape=shape)]}, b"\0" * tail_bytes))


def test_data_and_binary_data(v2_server: str) -> None:
    assert_refused(infer(v2_server, {"inputs": [image(parameters={"binary_data_size": 256})]}, TAIL))


def test_binary_data_that_belongs_to_no_input(v2_server: str) -> None:
    assert_refused(infer(v2_server, {"inputs": [image()]}, TAIL))


def test_binary_size_without_a_header_length(v2_server: str) -> None:
    assert_refused(infer(v2_server, {"inputs": [binary_image()]}))


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\0\0", b"\0\0\0\0" * 2, b"\0\0\0\0" * 4, b"\x02\0\0\0a"]
)
def test_bytes_elements_that_lie_about_their_length(v2_server: str, data: bytes) -> None:
    described = echo_inputs(v2_server)
    if "BYTES" not in {tensor["datatype"] for tensor in described}:
        pytest.skip("this server's echo has no BYTES")
    tensor = {"name": "in_bytes", "datatype": "BYTES", "shape": [1, 3], "parameters": {"binary_data_size": len(data)}}
    assert_refused(infer(v2_server, {"inputs": [tensor]}, data, target=ECHO))
