"""A connection in order: requests in, answers out, and how it ends."""

from __future__ import annotations

from edgewright.runtime.server.http2 import frames as f
from edgewright.runtime.server.http2.faults import Code

from .client import GREETING, OK, REQUEST, STATUS, Server, fields_of, request


def test_a_unary_call_is_one_write_of_head_body_and_trailers() -> None:
    server = Server()
    before = server.writes
    sent = server.feed(request(1, b"hello"))
    assert [(s.kind, s.flags, s.stream_id) for s in sent] == [
        (f.HEADERS, f.END_HEADERS, 1),
        (f.DATA, 0, 1),
        (f.HEADERS, f.END_HEADERS | f.END_STREAM, 1),
    ]
    assert server.writes == before + 1
    assert sent[1].payload == b"hello"
    assert fields_of(sent) == [OK, STATUS]
    assert server.calls[0].fields == REQUEST
    assert server.core.idle
