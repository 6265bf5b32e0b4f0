"""The V2 REST protocol and its binary extension, as the specification has them, over a plain HTTP client."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import pytest

DIGITS = "/v2/models/digits/infer"
ONE_IMAGE = np.linspace(0, 1, 64, dtype=np.float32)
LENGTH = "Inference-Header-Content-Length"


class Answer:
    """Status, headers and body of one response."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> tuple[Any, bytes]:
        length = int(self.headers[LENGTH.lower()])
        return json.loads(self.body[:length]), self.body[length:]


def ask(server: str, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(server, timeout=20)
    try:
        connection.request(method, target, body, headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def infer(server: str, request: dict[str, Any], tail: bytes = b"", *, target: str = DIGITS) -> Answer:
    head = json.dumps(request).encode()
    return ask(server, "POST", target, head + tail, {LENGTH: str(len(head))} if tail else None)


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": ONE_IMAGE.tolist(), **changes}


def scores(server: str) -> np.ndarray:
    return np.array(infer(server, {"inputs": [image()]}).json["outputs"][0]["data"], np.float32)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health(v2_server: str, target: str, expected: Any) -> None:
    answer = ask(v2_server, "GET", target)
    assert (answer.status, answer.json) == (200, expected)


def test_nested_and_flat_data_are_the_same(v2_server: str) -> None:
    flat = scores(v2_server)
    nested = infer(v2_server, {"inputs": [image(data=[ONE_IMAGE.tolist()])]}).json["outputs"][0]
    assert nested["shape"] == [1, 10]
    np.testing.assert_array_equal(np.array(nested["data"], np.float32), flat)


def test_binary_in_and_out(v2_server: str) -> None:
    tail = ONE_IMAGE.tobytes()
    tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": len(tail)}}
    request = {"id": "x", "inputs": [tensor], "parameters": {"binary_data_output": True}}
    header, data = infer(v2_server, request, tail).parts
    assert header["outputs"][0]["parameters"] == {"binary_data_size": len(data)} == {"binary_data_size": 40}
    assert header["id"] == "x"
    np.testing.assert_allclose(np.frombuffer(data, np.float32), scores(v2_server), rtol=1e-6)


def test_an_output_may_overrule_the_request(v2_server: str) -> None:
    request = {
        "inputs": [image()],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "scores", "parameters": {"binary_data": False}}],
    }
    assert len(infer(v2_server, request).json["outputs"][0]["data"]) == 10


def test_raw_binary_request(v2_server: str) -> None:
    answer = ask(v2_server, "POST", DIGITS, ONE_IMAGE.tobytes(), {LENGTH: "0"})
    header, data = answer.parts
    assert header["outputs"][0]["shape"] == [1, 10]
    np.testing.assert_allclose(np.frombuffer(data, np.float32), scores(v2_server), rtol=1e-6)


def test_chunked_request(v2_server: str) -> None:
    body = json.dumps({"inputs": [image()]}).encode()
    pieces = (body[index : index + 100] for index in range(0, len(body), 100))
    assert ask(v2_server, "POST", DIGITS, pieces).status == 200


def test_head_has_the_headers_and_no_body(v2_server: str) -> None:
    answer = ask(v2_server, "HEAD", "/v2/models/digits")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(ask(v2_server, "GET", "/v2/models/digits").body)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/digits/versions/99", 404),
        ("GET", "/v2/models/digits/nothing", 404),
        ("GET", "/v2/models/%2e%2e%2fetc/ready", 404),
        ("POST", "/v2/models/absent/infer", 404),
        ("GET", DIGITS, 405),
        ("DELETE", "/v2/models/digits", 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_wrong_resources_and_verbs(v2_server: str, method: str, target: str, status: int) -> None:
    answer = ask(v2_server, method, target)
    assert answer.status == status
    assert answer.json.keys() == {"error"}
    assert answer.json["error"]
    assert ("allow" in answer.headers) == (status == 405)


BINARY = {"name": "image", "shape": [1, 64], "datatype": "FP32"}
WRONG = {
    "no inputs": {"inputs": []},
    "not an object": [],
    "no name": {"inputs": [{}]},
    "unknown input": {"inputs": [image(name="other")]},
    "twice": {"inputs": [image(), image()]},
    "datatype": {"inputs": [image(datatype="INT8")]},
    "unknown datatype": {"inputs": [image(datatype="complex")]},
    "rank": {"inputs": [image(shape=[64])]},
    "negative": {"inputs": [image(shape=[-1, 64])]},
    "zero": {"inputs": [image(shape=[0, 64], data=[])]},
    "too few": {"inputs": [image(data=[1.0] * 63)]},
    "too many": {"inputs": [image(data=[1.0] * 65)]},
    "ragged": {"inputs": [image(shape=[2, 64], data=[[1.0] * 63, [1.0] * 65])]},
    "strings": {"inputs": [image(data=["1"] * 64)]},
    "null": {"inputs": [image(data=[None] * 64)]},
    "too deep": {"inputs": [image(data=[[[1.0] * 64]])]},
    "no data": {"inputs": [BINARY]},
    "data is an object": {"inputs": [image(data={})]},
    "unknown output": {"inputs": [image()], "outputs": [{"name": "other"}]},
    "output twice": {"inputs": [image()], "outputs": [{"name": "scores"}, {"name": "scores"}]},
    "size without binary": {"inputs": [{**BINARY, "parameters": {"binary_data_size": 256}}]},
    "size and data": {"inputs": [image(parameters={"binary_data_size": 0})]},
    "size is text": {"inputs": [{**BINARY, "parameters": {"binary_data_size": "256"}}]},
    "id is a number": {"id": 3, "inputs": [image()]},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_with_a_reason(v2_server: str, name: str) -> None:
    answer = infer(v2_server, WRONG[name])  # type: ignore[arg-type]
    assert answer.status == 400, answer.body
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("size", "tail", "shape"),
    [
        (256, 255, [1, 64]),
        (256, 257, [1, 64]),
        (255, 255, [1, 64]),
        (-1, 256, [1, 64]),
        (2**63, 256, [1, 64]),
        (256, 256, [2, 64]),
        (256, 256, [2**62, 64]),
    ],
)
def test_wrong_binary_sizes(v2_server: str, size: int, tail: int, shape: list[int]) -> None:
    request = {"inputs": [{**BINARY, "shape": shape, "parameters": {"binary_data_size": size}}]}
    answer = infer(v2_server, request, b"\0" * tail)
    assert answer.status in {400, 413}
    assert answer.json["error"]


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999999999999999999", "100000"])
def test_wrong_header_lengths(v2_server: str, length: str) -> None:
    answer = ask(v2_server, "POST", DIGITS, json.dumps({"inputs": [image()]}), {LENGTH: length})
    assert answer.status == 400
    assert LENGTH in answer.json["error"]


@pytest.mark.parametrize(
    "parameters", [{"shared_memory_region": "r"}, {"classification": 3}, {"sequence_id": 7, "sequence_start": True}]
)
def test_what_is_not_served_is_said_so(v2_server: str, parameters: dict[str, Any]) -> None:
    answer = infer(v2_server, {"inputs": [image()], "parameters": parameters})
    assert answer.status == 501
    assert next(iter(parameters)) in answer.json["error"]


def test_compressed_bodies_are_not_served(v2_server: str) -> None:
    assert ask(v2_server, "POST", DIGITS, b"x", {"Content-Encoding": "gzip"}).status == 415


def test_half_precision_has_no_json_form(v2_server: str) -> None:
    tensors = [{"name": "in_fp16", "shape": [1, 3], "datatype": "FP16", "data": [1, 2, 3]}]
    answer = infer(v2_server, {"inputs": tensors}, target="/v2/models/echo/infer")
    assert answer.status == 400
    assert "binary" in answer.json["error"]


def test_numbers_beyond_their_datatype_are_refused(v2_server: str) -> None:
    answer = infer(
        v2_server,
        {"inputs": [{"name": "in_uint8", "shape": [1, 3], "datatype": "UINT8", "data": [1, 2, 256]}]},
        target="/v2/models/echo/infer",
    )
    assert answer.status == 400
    assert "UINT8" in answer.json["error"]
