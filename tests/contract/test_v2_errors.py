"""Requests that are wrong: each is answered with a 4xx and a reason in the protocol's form, never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.exchange import DIGITS, ECHO, ask, assert_refused, assert_told, image, infer

BARE = {"name": "image", "shape": [1, 64], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/models/absent"),
        ("GET", "/v2/models/absent/ready"),
        ("GET", "/v2/models/digits/versions/99"),
        ("GET", "/v2/models/digits/versions/99/ready"),
        ("GET", "/v2/models/digits/nothing"),
        ("GET", "/v2/nothing"),
        ("GET", "/v2/models/%2e%2e%2fetc/ready"),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd"),
        ("GET", f"/v2/models/{'x' * 2000}"),
    ],
)
def test_unknown_resources(v2_server: str, method: str, target: str) -> None:
    assert_refused(ask(v2_server, method, target))


@pytest.mark.parametrize("target", ["/v2/models/absent/infer", "/v2/models/digits/versions/99/infer"])
def test_inference_of_what_is_not_there(v2_server: str, target: str) -> None:
    assert_refused(infer(v2_server, {"inputs": [image()]}, target=target))


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", DIGITS),
        ("PUT", DIGITS),
        ("DELETE", "/v2/models/digits"),
        ("POST", "/v2/health/live"),
        ("PATCH", "/v2"),
    ],
)
def test_wrong_verbs(v2_server: str, method: str, target: str) -> None:
    assert_refused(ask(v2_server, method, target))


BODIES: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"   ",
    "not json": b"hello",
    "half of it": json.dumps({"inputs": [image()]}).encode()[:-10],
    "two of them": json.dumps({"inputs": [image()]}).encode() * 2,
    "no utf-8": b'{"inputs": [{"name": "\xff\xfe"}]}',
    "a lone surrogate": b'{"id": "\\ud800", "inputs": []}',
    "null": b"null",
    "a number": b"1",
    "a list": b"[]",
    "an object": b"{}",
    "NaN": b'{"inputs": NaN}',
    "nul bytes": b"\0" * 64,
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_request(v2_server: str, name: str) -> None:
    assert_refused(ask(v2_server, "POST", DIGITS, BODIES[name], {"Content-Type": "application/json"}))


WRONG: dict[str, Any] = {
    "no inputs": {"inputs": []},
    "inputs is an object": {"inputs": {}},
    "inputs is null": {"inputs": None},
    "no name": {"inputs": [{}]},
    "input is a number": {"inputs": [1]},
    "unknown input": {"inputs": [image(name="other")]},
    "name is a number": {"inputs": [image(name=1)]},
    "twice the same input": {"inputs": [image(), image()]},
    "datatype that the model has not": {"inputs": [image(datatype="INT8")]},
    "unknown datatype": {"inputs": [image(datatype="complex")]},
    "datatype in lower case": {"inputs": [image(datatype="fp32")]},
    "wrong rank": {"inputs": [image(shape=[64])]},
    "rank too high": {"inputs": [image(shape=[1, 1, 64])]},
    "rank of thousands": {"inputs": [image(shape=[1] * 5000)]},
    "negative dimension": {"inputs": [image(shape=[-1, 64])]},
    "two negative dimensions": {"inputs": [image(shape=[-1, -64])]},
    "dimension is text": {"inputs": [image(shape=["1", "64"])]},
    "dimension is a fraction": {"inputs": [image(shape=[1.5, 64])]},
    "dimension is null": {"inputs": [image(shape=[None, 64])]},
    "dimension overflows": {"inputs": [image(shape=[2**62, 64])]},
    "dimension beyond 64 bits": {"inputs": [image(shape=[2**70, 64])]},
    "product wraps to 64": {"inputs": [image(shape=[2**58 + 1, 64])]},
    "shape is missing": {"inputs": [{"name": "image", "datatype": "FP32", "data": [1.0] * 64}]},
    "datatype is missing": {"inputs": [{"name": "image", "shape": [1, 64], "data": [1.0] * 64}]},
    "too few elements": {"inputs": [image(data=[1.0] * 63)]},
    "too many elements": {"inputs": [image(data=[1.0] * 65)]},
    "no elements": {"inputs": [image(data=[])]},
    "ragged": {"inputs": [image(shape=[2, 64], data=[[1.0] * 63, [1.0] * 65])]},
    "text in numbers": {"inputs": [image(data=["one"] * 64)]},
    "null in numbers": {"inputs": [image(data=[None] * 64)]},
    "objects in numbers": {"inputs": [image(data=[{}] * 64)]},
    "no data": {"inputs": [BARE]},
    "data is an object": {"inputs": [image(data={})]},
    "data is a number": {"inputs": [image(data=1.0)]},
    "unknown output": {"inputs": [image()], "outputs": [{"name": "other"}]},
    "twice the same output": {"inputs": [image()], "outputs": [{"name": "scores"}, {"name": "scores"}]},
    "outputs is text": {"inputs": [image()], "outputs": "scores"},
    "id is a number": {"id": 3, "inputs": [image()]},
    "parameters is a list": {"inputs": [image()], "parameters": [1]},
}


@pytest.mark.parametrize("name", WRONG)
def test_requests_that_do_not_fit(v2_server: str, name: str) -> None:
    assert_refused(infer(v2_server, WRONG[name]))


def test_an_input_that_is_missing(v2_server: str) -> None:
    assert_refused(infer(v2_server, {"inputs": [image()]}, target=ECHO))


@pytest.mark.parametrize("depth", [101, 5_000, 200_000])
@pytest.mark.parametrize("where", ['{"x":%s,"inputs":[]}', '{"inputs":[{"name":"image","data":%s}]}', "%s"])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_json(v2_server: str, depth: int, where: str, brackets: str) -> None:
    opening = brackets[0] if brackets == "[]" else '{"a":'
    inner = "1" if brackets == "{}" else ""
    text = where % (opening * depth + inner + brackets[1] * depth)
    assert_refused(ask(v2_server, "POST", DIGITS, text.encode(), {"Content-Type": "application/json"}))


@pytest.mark.parametrize("value", ["256", "-1", "1.5", "1e3", "1e400"])
def test_numbers_beyond_a_small_datatype(v2_server: str, value: str) -> None:
    described = ask(v2_server, "GET", "/v2/models/echo").json["inputs"]
    tensors = [
        {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [1, 3], "data": [0, 0, 0]}
        for tensor in described
        if tensor["datatype"] == "UINT8"
    ]
    text = json.dumps({"inputs": tensors}).replace("[0, 0, 0]", f"[0, 0, {value}]")
    assert_refused(ask(v2_server, "POST", ECHO, text, {"Content-Type": "application/json"}))


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        pytest.param("GET", "/v2/models/absent", None, id="unknown model"),
        pytest.param("GET", "/v2/models/digits/versions/99", None, id="unknown version"),
        pytest.param("GET", "/v2/nothing", None, id="unknown resource"),
        pytest.param("GET", DIGITS, None, id="wrong verb"),
        pytest.param("POST", DIGITS, b"hello", id="no JSON"),
        pytest.param("POST", DIGITS, b'{"inputs": 1}', id="no request"),
        pytest.param("POST", DIGITS, json.dumps({"inputs": [image(shape=[1, 63])]}).encode(), id="does not fit"),
        pytest.param("POST", "/v2/models/absent/infer", json.dumps({"inputs": [image()]}).encode(), id="infer nothing"),
    ],
)
def test_errors_are_spelled_as_the_protocol_has_it(
    v2_server: str, method: str, target: str, body: bytes | None
) -> None:
    answer = ask(v2_server, method, target, body, {"Content-Type": "application/json"})
    assert_refused(answer)
    assert_told(answer)


def test_the_server_is_still_well(v2_server: str) -> None:
    assert infer(v2_server, {"inputs": [image()]}).status == 200
