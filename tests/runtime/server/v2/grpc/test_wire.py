"""The layer that is read by hand agrees with protobuf, and is bounded."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.grpc.wire import fields_of, split_request
from tests.runtime.server.v2.grpc.messages import LIMITS, Request, Response

NAMES = st.text(max_size=200)
BLOBS = st.lists(st.binary(max_size=300), max_size=5)


@given(NAMES, NAMES, st.lists(NAMES, max_size=3), BLOBS)
def test_a_message_is_split_as_protobuf_reads_it(model: str, id_: str, inputs: list[str], raw: list[bytes]) -> None:
    request = Request(model_name=model, id=id_, raw_input_contents=raw)
    for name in inputs:
        request.inputs.add(name=name, shape=[1, 2])
    head, found = split_request(request.SerializeToString(), LIMITS)
    assert [bytes(each) for each in found] == raw
    request.ClearField("raw_input_contents")
    assert Request.FromString(head) == request


@given(st.lists(st.sampled_from(["model", "id", "input", "raw"]), max_size=12), st.data())
def test_the_order_of_fields_does_not_matter(kinds: list[str], data: st.DataObject) -> None:
    pieces = {
        "model": Request(model_name="m"),
        "id": Request(id="i"),
        "input": Request(inputs=[{"name": "x"}]),
        "raw": Request(raw_input_contents=[data.draw(st.binary(max_size=200))]),
    }
    message = b"".join(pieces[kind].SerializeToString() for kind in kinds)
    expected = Request.FromString(message)
    head, raw = split_request(message, LIMITS)
    assert [bytes(each) for each in raw] == list(expected.raw_input_contents)
    expected.ClearField("raw_input_contents")
    assert Request.FromString(head) == expected


@given(st.binary(max_size=200))
def test_what_protobuf_cannot_read_is_refused_and_nothing_else_happens(message: bytes) -> None:
    try:
        head, raw = split_request(message, LIMITS)
        Request.FromString(head)
    except (Refusal, DecodeError):
        return
    expected = Request.FromString(message)
    assert [bytes(each) for each in raw] == list(expected.raw_input_contents)


@pytest.mark.parametrize(
    "message",
    [
        b"\x3a",  # a tag without a length
        b"\x3a\x05abc",  # shorter than it says
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of eleven bytes
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # 2⁶³ - 1 bytes
        b"\x02\x00",  # field number 0
        b"\x0b\x0c",  # a group
        b"\x09\x00",  # 8 bytes of which 1 is there
        b"\xff\xff\xff\xff\x7f\x00",  # a field number that is too large
    ],
)
def test_a_broken_message_is_refused(message: bytes) -> None:
    with pytest.raises(Refusal, match="not a ModelInferRequest") as caught:
        split_request(message, LIMITS)
    assert caught.value.status == 400


def test_parts_are_counted_before_protobuf_takes_memory_for_them() -> None:
    with pytest.raises(Refusal, match="more than 8 inputs"):
        split_request(b"\x2a\x00" * 100, LIMITS)
    with pytest.raises(Refusal, match="the limit is 1000") as caught:
        split_request(Request(id="i" * 1001).SerializeToString(), Limits(json_bytes=1000))
    assert caught.value.status == 413
    raw = Request(raw_input_contents=[b"x" * 5000]).SerializeToString()
    assert split_request(raw, Limits(json_bytes=1000))[0] == b""


def test_raw_tensors_are_views_of_the_message() -> None:
    message = Request(model_name="m", raw_input_contents=[b"abcd"]).SerializeToString()
    _, (raw,) = split_request(message, LIMITS)
    assert raw.obj is message


@given(BLOBS)
def test_fields_that_are_put_behind_a_message_are_read_by_protobuf(raw: list[bytes]) -> None:
    message = Response(model_name="m").SerializeToString() + b"".join(fields_of(6, raw))
    assert Response.FromString(message) == Response(model_name="m", raw_output_contents=raw)
