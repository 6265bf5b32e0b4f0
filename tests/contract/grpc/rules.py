"""What a rule of HTTP/2 is: what a client says, and what is expected of the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.contract.grpc.peer import Peer
from tests.contract.grpc.raw_http2 import (
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADERS,
    LIVE,
    PROTOCOL_ERROR,
    STREAM,
    STREAM_CLOSED,
    WATCH,
    Field,
    block,
    call,
    frame,
    head,
    message,
    request_fields,
)

LAST = frame(DATA, END_STREAM, 1, message())

Says = Callable[[Peer], None]
Expects = Callable[[Peer], None]


@dataclass(frozen=True)
class Rule:
    """What a client says, and what a server must make of it."""

    name: str
    says: Says
    expects: Expects


def say(*parts: bytes) -> Says:
    return lambda peer: peer.send(*parts)


def connection_error(*codes: int) -> Expects:
    """Expect GOAWAY with one of these codes, and the end (section 5.4.1)."""

    def expects(peer: Peer) -> None:
        assert peer.until(lambda: bool(peer.goaways)), "closed without GOAWAY"
        peer.until(lambda: False)
        assert peer.goaways[-1][1] in codes

    return expects


def stream_error(*codes: int, stream: int = 1) -> Expects:
    """Expect a reset with one of these codes and a connection that goes on, or the end of the whole connection."""

    def expects(peer: Peer) -> None:
        answer = peer.answer(stream)
        peer.until(lambda: answer.reset is not None or bool(peer.goaways))
        if peer.goaways:
            connection_error(*codes)(peer)
        else:
            assert answer.reset in codes
            assert peer.alive()

    return expects


def malformed(peer: Peer) -> None:
    """Expect PROTOCOL_ERROR on the stream, or before it an answer that says so (section 8.1.1)."""
    answer = peer.answer(1)
    if (answer.http_status or b"").startswith(b"4"):
        assert peer.alive()
    else:
        stream_error(PROTOCOL_ERROR)(peer)


def answered(peer: Peer) -> None:
    assert peer.answer(1).grpc_status == 0


def alive(peer: Peer) -> None:
    assert peer.alive()
    assert not peer.goaways


def harmless(peer: Peer) -> None:
    """Expect nothing but that the server ends the stream or the connection in good order, or ignores it all."""
    if not peer.alive():
        assert peer.goaways, "closed without GOAWAY"


def has_a_status(peer: Peer) -> None:
    assert peer.answer(1).grpc_status is not None


protocol_error = connection_error(PROTOCOL_ERROR)
frame_size_error = connection_error(FRAME_SIZE_ERROR)
flow_control_error = connection_error(FLOW_CONTROL_ERROR)
compression_error = connection_error(COMPRESSION_ERROR)
closed_error = connection_error(PROTOCOL_ERROR, STREAM_CLOSED)
size_or_protocol_error = connection_error(FRAME_SIZE_ERROR, PROTOCOL_ERROR)


def opened(path: bytes = STREAM, stream: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, head(path))


def watching(*then: bytes) -> Says:
    """Say something on a stream that is half closed, and whose answer goes on for good."""

    def says(peer: Peer) -> None:
        peer.send(call(1, WATCH))
        assert peer.until(lambda: 1 in peer.answers and bool(peer.answers[1].body))
        peer.send(*then)

    return says


def closed(*then: bytes) -> Says:
    """Say something on a stream that has been answered."""

    def says(peer: Peer) -> None:
        peer.send(call(1, LIVE))
        assert peer.answer(1).grpc_status == 0
        peer.send(*then)

    return says


def begun(data: bytes) -> bytes:
    """Return a call whose header block is these bytes."""
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, data)


def with_fields(*fields: Field) -> Says:
    """Say a call that is right but for these fields behind it."""
    return say(frame(HEADERS, END_HEADERS, 1, head(LIVE, *fields)), LAST)


def without(*names: bytes, first: tuple[Field, ...] = ()) -> Says:
    """Say a call that lacks these fields, and has others in front."""
    fields = first + tuple(each for each in request_fields(LIVE) if each[0] not in names)
    return say(frame(HEADERS, END_HEADERS, 1, block(*fields)), LAST)
