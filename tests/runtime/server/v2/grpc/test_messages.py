"""Messages come out of a body whatever pieces it comes in, and what they hold is bounded."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http.connections import Connections
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.grpc.messages import Messages
from tests.runtime.server.v2.grpc.small_stream import framed

ENVELOPE = 64 * 1024
LIMITS = Limits(body_bytes=1000, total_body_bytes=200_000, expanded_bytes=50_000)


def messages(coding: bytes | None = None, connections: Connections | None = None) -> Messages:
    return Messages(Connections(LIMITS) if connections is None else connections, LIMITS, coding)


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_every_split_gives_the_same_messages_and_all_memory_back(sent: list[bytes], data: st.DataObject) -> None:
    body = b"".join(map(framed, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    connections = Connections(LIMITS)
    found = messages(connections=connections)
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found.add(body[start:end])
        while data.draw(st.booleans()) and (message := found.take()) is not None:
            got.append(bytes(message))
            found.release(found.taken_bytes)
    while (message := found.take()) is not None:
        got.append(bytes(message))
    assert got == sent
    assert found.empty
    found.release()
    assert connections.hold(LIMITS.total_body_bytes), "nothing is held any more"


def test_what_is_too_large_is_refused_with_its_first_bytes() -> None:
    found = messages()
    found.add(b"\0\1\0")
    with pytest.raises(Refusal, match="a message of 16777216 bytes; the limit is 66536") as caught:
        found.add(b"\0\0")
    assert caught.value.status == 413
    second = messages()
    second.add(framed(b"a") + b"\0\xff\xff\xff\xff")
    with pytest.raises(Refusal, match="a message of 4294967295 bytes"):
        second.take()


def test_all_connections_together_hold_so_much_and_no_more() -> None:
    connections = Connections(LIMITS)
    first, second = messages(connections=connections), messages(connections=connections)
    first.add(b"\0\0\0\xff\xff" + bytes(60_000))
    assert connections.hold(LIMITS.total_body_bytes - 60_005)
    with pytest.raises(Refusal, match="too many large requests") as caught:
        second.add(b"\0")
    assert caught.value.status == 503
    first.release()
    second.add(b"\0")


@pytest.mark.parametrize(("coding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_a_compressed_message_is_expanded_and_what_that_takes_is_held(coding: bytes, compress: object) -> None:
    assert callable(compress)
    connections = Connections(LIMITS)
    found = messages(coding, connections)
    plain = bytes(range(256)) * 100
    packed = compress(plain)
    found.add(framed(packed, 1) + framed(b"plain"))
    assert found.take() == plain
    assert found.taken_bytes == len(packed) + 5 + len(plain)
    assert found.take() == b"plain"
    found.release()
    assert connections.hold(LIMITS.total_body_bytes)


@pytest.mark.parametrize(
    ("coding", "body", "status", "sentence"),
    [
        (b"gzip", framed(gzip.compress(bytes(60_000), mtime=0), 1), 413, "more than the limit of 50000 bytes"),
        (b"gzip", framed(b"no gzip", 1), 400, "is not gzip"),
        (b"gzip", framed(gzip.compress(b"whole", mtime=0)[:-3], 1), 400, "not one whole gzip stream"),
        (b"gzip", framed(b"", 2), 400, "the first byte of a message is 2; expected 0, or 1"),
        (None, framed(b"", 1), 500, "no grpc-encoding says how"),
    ],
)
def test_what_cannot_be_expanded_is_refused(coding: bytes | None, body: bytes, status: int, sentence: str) -> None:
    found = messages(coding)
    found.add(body)
    with pytest.raises(Refusal, match=sentence) as caught:
        found.take()
    assert caught.value.status == status
