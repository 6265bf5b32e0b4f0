"""What the head of a call says, and what is no call."""

from __future__ import annotations

import pytest

from edgewright.runtime.server.http2.stream import Fields
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.v2.grpc import head as heads
from edgewright.runtime.server.v2.grpc.head import CallHead, NotGrpc
from tests.runtime.server.v2.grpc.small_stream import fields


def read_head(said: Fields) -> CallHead:
    return heads.read_head(said, DEFAULT_LIMITS)


def test_a_head_says_what_is_asked_and_how_long() -> None:
    head = read_head(
        fields(b"/s/m", (b"grpc-timeout", b"1500m"), (b"grpc-encoding", b"gzip"), (b"authorization", b"Bearer x"))
    )
    assert (head.path, head.timeout_ns, head.coding) == (b"/s/m", 1_500_000_000, b"gzip")
    assert (head.authorization, head.refusal) == (b"Bearer x", None)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        (b"0n", 0),
        (b"7n", 7),
        (b"7u", 7000),
        (b"7m", 7_000_000),
        (b"7S", 7_000_000_000),
        (b"7M", 420_000_000_000),
        (b"24H", 86_400_000_000_000),
        (b"25H", None),
        (b"99999999H", None),
    ],
)
def test_the_units_of_a_timeout(text: bytes, expected_ns: int | None) -> None:
    head = read_head(fields(b"/", (b"grpc-timeout", text)))
    assert (head.timeout_ns, head.refusal) == (expected_ns, None)


@pytest.mark.parametrize("text", [b"", b"m", b"1", b"-1m", b"1.5S", b"123456789n", b"1s", b"\xb2S", b"1 S"])
def test_a_timeout_that_is_none_is_refused(text: bytes) -> None:
    refusal = read_head(fields(b"/", (b"grpc-timeout", text))).refusal
    assert refusal is not None
    assert refusal.status == 400
    assert "eight digits" in refusal.message


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/grpc;charset=utf-8", b"application/grpc"])
def test_content_types_of_grpc(kind: bytes) -> None:
    assert read_head(fields(b"/", content_type=kind)).refusal is None


@pytest.mark.parametrize("kind", [b"", b"application/json", b"application/grpc-web", b"application/grpcx"])
def test_other_content_types_are_http(kind: bytes) -> None:
    with pytest.raises(NotGrpc) as caught:
        read_head(fields(b"/", content_type=kind))
    assert caught.value.status == 415


def test_other_methods_are_http() -> None:
    head = [(name, b"GET" if name == b":method" else value) for name, value in fields(b"/")]
    with pytest.raises(NotGrpc) as caught:
        read_head(head)
    assert caught.value.status == 405


def test_a_proxy_that_drops_trailers_and_an_unknown_coding_are_told() -> None:
    missing = read_head(fields(b"/", te=b"")).refusal
    assert missing is not None
    assert missing.status == 400
    unknown = read_head(fields(b"/", (b"grpc-encoding", b"zstd"))).refusal
    assert unknown is not None
    assert unknown.status == 415


def test_metadata_is_bounded() -> None:
    for more in ([(b"x", b"y" * 33_000)], [(b"x-%d" % number, b"") for number in range(100)]):
        refusal = read_head(fields(b"/", *more)).refusal
        assert refusal is not None
        assert refusal.status == 431
        assert "metadata fields of" in refusal.message
