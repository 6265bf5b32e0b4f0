"""The bounds that a server puts on one HTTP/2 connection. Nothing that a client controls is unbounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """Bounds of one connection; times are measured by the calls of `Http2.sweep`, about one in a second."""

    head_bytes: int = 32 * 1024
    """Header fields of one request, compressed and again expanded (names, values and 32 bytes for each field)."""
    headers: int = 100
    """Header fields of one request."""
    streams: int = 100
    """Streams that are open at one time."""
    frame_bytes: int = 16 * 1024
    """The largest frame; a frame is handed on when it is there completely. RFC 9113 allows no smaller one."""
    stream_window_bytes: int = 1024 * 1024
    """What may be under way, or held, of one request's body; at least 65 535, which a client begins with."""
    connection_window_bytes: int = 4 * 1024 * 1024
    """The same of all requests together."""
    hello_s: float = 10.0
    """The client's preface, its settings and its acknowledgement of ours are due after this time."""
    head_s: float = 20.0
    """A head, or a frame, that has begun is complete after this time."""
    stall_s: float = 60.0
    """A stream whose answer waits so long for the client's window without getting on by `progress_bytes` is reset."""
    progress_bytes: int = 64 * 1024
    """A window of a byte now and then would keep an answer in memory for years."""
    keepalive_s: float = 60.0
    """A silent client is asked whether it is there after this time."""
    keepalive_answer_s: float = 20.0
    """Without any sign of life after so much more, the connection is given up."""
