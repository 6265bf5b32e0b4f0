"""Every bound that the server puts on what a client may send. Nothing that a client controls is unbounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server. The defaults suit a board with 1 GB of memory."""

    head_bytes: int = 32 * 1024
    """Request line and header fields together, and again the trailer fields of a chunked body."""
    headers: int = 100
    body_bytes: int = 64 * 1024 * 1024
    total_body_bytes: int = 256 * 1024 * 1024
    """Bodies of all connections that are held at one time; beyond it a request is told to come again (503)."""
    chunks: int = 16 * 1024
    """Chunks of one chunked body: tiny chunks cost far more time than their bytes (CVE-2025-23310 was of this kind)."""
    chunk_overhead_bytes: int = 512 * 1024
    """Bytes of a chunked body that are not data: sizes, extensions, trailers."""
    json_bytes: int = 16 * 1024 * 1024
    """JSON part of an inference request. A number costs up to 16 times its text in memory."""
    expanded_bytes: int = 32 * 1024 * 1024
    """A compressed body after it is expanded; that is done on the event loop."""
    expansion: int = 200
    """How many times its size a compressed body may become, beyond the first megabyte."""
    tensors: int = 256
    """Inputs, and requested outputs, of one request."""
    rank: int = 16
    connections: int = 256
    pipelined: int = 32
    """Requests of one connection that wait while an earlier one runs; then its socket is not read any more."""
    idle_s: float = 75.0
    """A connection without a request is closed after this time."""
    receive_s: float = 60.0
    """A request that has not arrived completely after this time is refused."""
    linger_s: float = 2.0
    """How long the rest of a refused request is thrown away, so that the client sees the answer before a reset."""
    drain_idle_s: float = 0.5
    """While draining, a connection that was busy a moment ago gets this long to send one more request."""


DEFAULT_LIMITS = Limits()
