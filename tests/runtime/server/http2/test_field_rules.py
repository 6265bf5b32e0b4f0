"""Header fields of requests (RFC 9113, sections 8.2 and 8.3)."""

from __future__ import annotations

import pytest

from edgewright.runtime.server.http2.faults import Code
from edgewright.runtime.server.http2.stream import Fields
from tests.runtime.server.http2.client import REQUEST, Server, nothing, request, resets

PSEUDO = REQUEST[:3]


@pytest.mark.parametrize(
    "fields",
    [
        PSEUDO,
        (*PSEUDO, (b":authority", b"a"), (b"host", b"a"), (b"te", b"trailers")),
        (*PSEUDO, (b"content-length", b"0"), (b"content-length", b"0")),
        (*PSEUDO, (b"x-bytes", b"\x80\xff \t!"), (b"x-empty", b"")),
    ],
)
def test_requests_that_keep_the_rules(fields: Fields) -> None:
    server = Server(nothing)
    assert server.feed(request(1, b"", fields)) == []
    assert server.calls[0].fields == tuple(fields)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        PSEUDO[1:],
        (PSEUDO[0], PSEUDO[2]),
        PSEUDO[:2],
        (*PSEUDO[:2], (b":path", b"")),
        (*PSEUDO, PSEUDO[0]),
        (*PSEUDO, (b":status", b"200")),
        (*PSEUDO, (b":protocol", b"websocket")),
        (*PSEUDO[:2], (b"a", b"b"), PSEUDO[2]),
        ((b":method", b"CONNECT"), (b":authority", b"a:1")),
        (*PSEUDO[:2], (b":path", b"/a\r\nb")),
        (*PSEUDO, (b"Upper", b"a")),
        (*PSEUDO, (b"", b"a")),
        (*PSEUDO, (b"a b", b"a")),
        (*PSEUDO, (b"a:b", b"a")),
        (*PSEUDO, (b"a\n", b"a")),
        (*PSEUDO, (b"\xe9", b"a")),
        (*PSEUDO, (b"a", b"b\r\nc: d")),
        (*PSEUDO, (b"a", b"b\0")),
        (*PSEUDO, (b"a", b" b")),
        (*PSEUDO, (b"a", b"b\t")),
        (*PSEUDO, (b"connection", b"close")),
        (*PSEUDO, (b"keep-alive", b"5")),
        (*PSEUDO, (b"proxy-connection", b"close")),
        (*PSEUDO, (b"transfer-encoding", b"chunked")),
        (*PSEUDO, (b"upgrade", b"h2c")),
        (*PSEUDO, (b"te", b"gzip")),
        (*PSEUDO, (b"te", b"trailers, gzip")),
        (*PSEUDO, (b"content-length", b"+1")),
        (*PSEUDO, (b"content-length", b"")),
        (*PSEUDO, (b"content-length", b"9" * 5000)),
        (*PSEUDO, (b"content-length", b"0"), (b"content-length", b"1")),
        (*PSEUDO, (b":authority", b"a"), (b"host", b"b")),
    ],
)
def test_requests_that_break_them_are_reset_each_time(fields: Fields) -> None:
    server = Server(nothing)
    for stream_id in (1, 3):
        assert resets(server.feed(request(stream_id, None, fields))) == [(stream_id, Code.PROTOCOL_ERROR)]
    assert server.calls == []
    assert not server.core.ended
