"""Hostile requests: whatever comes in, the answer is one whole response with a reason, and the server lives on."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.http.messages import Request
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.pipeline import Outcome, Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.inference import Inference, read_request, write_response
from edgewright.runtime.server.v2.tensors import MAX_TEXTS
from tests.runtime.server.conftest import Running

LIMITS = Limits(json_bytes=1_000_000, body_bytes=2_000_000)
NUMERIC = tuple(name for name in NUMPY_OF_DATATYPE if name not in {"BYTES", "FP16", "BF16"})


def signature(*specs: TensorSpec) -> Signature:
    by_name = {spec.name: spec for spec in specs}
    return Signature("m", "1", by_name, by_name)


SIGNATURE = signature(
    TensorSpec(name="a", datatype="FP32", shape=(-1, 2)), TensorSpec(name="b", datatype="BYTES", shape=(-1,))
)


def request(body: bytes, header_length: int | bytes | None = None) -> Request:
    text = b"%d" % header_length if isinstance(header_length, int) else header_length
    headers = {} if text is None else {b"inference-header-content-length": text}
    return Request(b"POST", b"/", headers, memoryview(body), True, 1, 0)


def outcome(incoming: Request, of: Signature = SIGNATURE) -> Inference | Refusal:
    """Return what was made of a request; anything but an inference or a refusal fails the test."""
    try:
        return read_request(incoming, of, LIMITS)
    except Refusal as error:
        refused = error
    assert refused.message
    assert refused.status in {400, 413, 501}
    return refused


WORDS = st.sampled_from(
    ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "binary_data_size", "id", "a", "b", "FP32"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": WORDS | VALUES,
        "shape": st.lists(st.integers(-2, 2**63), max_size=3) | VALUES,
        "datatype": WORDS | VALUES,
    },
    optional={"data": VALUES, "parameters": st.dictionaries(WORDS, VALUES, max_size=2)},
)


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300) | st.binary(max_size=5))
def test_arbitrary_bytes(body: bytes, header_length: int | bytes | None) -> None:
    outcome(request(body, header_length))


@given(VALUES | st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=3)}), st.binary(max_size=40))
def test_arbitrary_json_with_a_binary_tail(value: Any, tail: bytes) -> None:
    text = json.dumps(value).encode()
    outcome(request(text + tail, len(text)))


@given(st.data())
def test_a_valid_request_is_understood_and_a_damaged_one_is_refused_or_understood(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 4))
    a = {"name": "a", "datatype": "FP32", "shape": [rows, 2], "parameters": {"binary_data_size": rows * 8}}
    b = {"name": "b", "datatype": "BYTES", "shape": [rows], "data": ["x"] * rows}
    text = json.dumps({"inputs": [a, b]}).encode()
    body = text + bytes(rows * 8)
    good = outcome(request(body, len(text)))
    assert isinstance(good, Inference)
    assert good.rows == rows
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    outcome(request(bytes(damaged), len(text)))
    outcome(request(body[:at], len(text)))


@given(st.data(), st.sampled_from(NUMERIC), st.booleans(), st.booleans())
def test_numbers_survive_json_and_binary(data: st.DataObject, datatype: str, nested: bool, binary: bool) -> None:
    dtype = NUMPY_OF_DATATYPE[datatype]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        element: st.SearchStrategy[Any] = st.integers(int(limits.min), int(limits.max))
    elif dtype.kind == "b":
        element = st.booleans()
    else:
        element = st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    rows = data.draw(st.integers(1, 3))
    array = np.array(data.draw(st.lists(element, min_size=rows * 2, max_size=rows * 2)), dtype).reshape(rows, 2)
    of = signature(TensorSpec(name="x", datatype=datatype, shape=(-1, 2)))  # type: ignore[arg-type]
    values = array.tolist() if nested else array.ravel().tolist()
    text = json.dumps({"inputs": [{"name": "x", "datatype": datatype, "shape": [rows, 2], "data": values}]}).encode()
    got = outcome(request(text), of)
    assert isinstance(got, Inference)
    np.testing.assert_array_equal(got.inputs["x"], array)
    got.wanted = {"x": binary}
    response = write_response(got, Outcome(got.inputs, None, "m", "1"), of)
    head = json.loads(bytes(response.body[0]))["outputs"][0]
    back = np.frombuffer(response.body[1], dtype) if binary else np.array(head["data"], dtype)
    np.testing.assert_array_equal(back.reshape(rows, 2), array)


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=5))
def test_bytes_survive_the_binary_form(elements: list[bytes]) -> None:
    of = signature(TensorSpec(name="x", datatype="BYTES", shape=(-1,)))
    tail = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    tensor = {"name": "x", "datatype": "BYTES", "shape": [len(elements)], "parameters": {"binary_data_size": len(tail)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    got = outcome(request(text + tail, len(text)), of)
    assert isinstance(got, Inference)
    assert got.inputs["x"].tolist() == elements
    got.wanted = {"x": True}
    assert bytes(write_response(got, Outcome(got.inputs, None, "m", "1"), of).body[1]) == tail


@pytest.mark.parametrize("shape", [(-1,), (1, 1)])
def test_a_raw_bytes_request_is_the_one_element(shape: tuple[int, ...]) -> None:
    got = outcome(request(b"hello", 0), signature(TensorSpec(name="x", datatype="BYTES", shape=shape)))
    assert isinstance(got, Inference)
    assert got.inputs["x"].ravel().tolist() == [b"hello"]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((-1, 4), 16, (1, 4)),
        ((2, 4), 32, (2, 4)),
        ((-1, -1), 12, (1, 3)),
        ((-1, 2, -1), 16, (1, 2, 2)),
        ((4,), 16, (4,)),
    ],
)
def test_a_raw_request_has_the_shape_that_its_length_tells(
    shape: tuple[int, ...], size: int, expected: tuple[int, ...]
) -> None:
    of = signature(TensorSpec(name="x", datatype="FP32", shape=shape))
    got = outcome(request(bytes(size), 0), of)
    assert isinstance(got, Inference)
    assert got.inputs["x"].shape == expected
    assert isinstance(outcome(request(bytes(size + 3), 0), of), Refusal)


@pytest.mark.parametrize("depth", [101, 5000, 200_000])
@pytest.mark.parametrize("where", ['{"x":%s}', '{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":%s}]}'])
def test_deep_json_is_refused(depth: int, where: str) -> None:
    body = (where % ("[" * depth + "]" * depth)).encode()
    assert isinstance(outcome(request(body)), Refusal)


def test_many_numbers_for_a_small_shape_take_no_memory() -> None:
    body = b'{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","data":[' + b"1," * 400_000 + b"1]}]}"
    refused = outcome(request(body), signature(SIGNATURE.inputs["a"]))
    assert isinstance(refused, Refusal)
    assert "400001 elements" in refused.message


def test_texts_that_nobody_announced_are_not_read() -> None:
    """Sixteen megabytes of empty texts for a shape of one: all were made before they were counted."""
    texts = TensorSpec(name="b", datatype="BYTES", shape=(-1,))
    size = 16_000_000
    tensor = {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    incoming = request(text + bytes(size), len(text))
    begun_s = time.process_time()
    with pytest.raises(Refusal, match="must be 1 elements"):
        read_request(incoming, signature(texts), Limits())
    assert time.process_time() - begun_s < 1


@pytest.mark.parametrize("form", [{"data": ["x"]}, {"parameters": {"binary_data_size": 8}}])
def test_more_texts_than_are_taken_at_once(form: dict[str, Any]) -> None:
    tensor = {"name": "b", "datatype": "BYTES", "shape": [MAX_TEXTS + 1], **form}
    refused = outcome(
        request(json.dumps({"inputs": [tensor]}).encode()),
        signature(TensorSpec(name="b", datatype="BYTES", shape=(-1,))),
    )
    assert isinstance(refused, Refusal)
    assert refused.status == 413


def test_too_much_json_is_told_to_come_as_binary() -> None:
    refused = outcome(request(b" " * 1_000_001))
    assert isinstance(refused, Refusal)
    assert refused.status == 413


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(body=st.binary(max_size=300), chunked=st.booleans(), length=st.none() | st.integers(0, 300))
def test_a_real_server_answers_every_body_and_lives_on(
    running: Running, body: bytes, chunked: bool, length: int | None
) -> None:
    header = "" if length is None else f"Inference-Header-Content-Length: {length}\r\n"
    head = f"POST /v2/models/digits/infer HTTP/1.1\r\n{header}"
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else body
    kind = "Transfer-Encoding: chunked\r\n\r\n" if chunked and body else f"Content-Length: {len(body)}\r\n\r\n"
    with running.connect() as connection:
        connection.sendall((head + kind).encode() + framed)
        answer = connection.recv(65536)
        assert b"HTTP/1.1 400 " in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(junk=st.binary(min_size=1, max_size=300))
def test_a_real_server_survives_bytes_that_are_no_http(running: Running, junk: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert running.ask("GET", "/v2/health/live")[0] == 200


def test_a_client_that_leaves_in_the_middle_does_no_harm(running: Running) -> None:
    for _ in range(20):
        with running.connect() as connection:
            connection.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
    assert running.ask("GET", "/v2/health/ready")[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
