"""HTTP requests and responses as the rest of the server sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from ..refusal import Fields, Refusal

JSON = b"application/json"
BINARY = b"application/octet-stream"
HEADER_LENGTH_FIELD = b"inference-header-content-length"

Payload = bytes | bytearray | memoryview


@dataclass(slots=True)
class Request:
    """A complete request. Header names are lower case; `body` is placed so that its first binary tensor is aligned."""

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]
    body: memoryview
    keep_alive: bool
    http_minor: int
    received_ns: int
    """`time.perf_counter_ns()` when its last byte was parsed."""
    on_gone: Callable[[], None] | None = None
    """Set by whoever works on it: called where the client is gone before it was answered."""
    tensors: memoryview | None = None
    """Binary tensors that are not behind the JSON in `body`, but in memory of the client."""


@dataclass(slots=True)
class Response:
    """One response; the parts of the body are written one after the other without being joined if they are large."""

    status: int
    body: list[Payload]
    content_type: bytes = JSON
    headers: Fields = ()


Respond = Callable[[Response], None]
Handler = Callable[[Request, Respond], None]
"""Answers a request by calling `respond` once, now or later. It may raise `Refusal` instead, before it returns."""


def json_response(value: object, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(status, [msgspec.json.encode(value)])


def error_response(error: Refusal) -> Response:
    """Return what the client is told about a refused request. The body is never empty: clients rely on it."""
    return Response(error.status, [msgspec.json.encode({"error": error.message})], headers=error.headers)


_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status.value >= 200
}


def render_head(response: Response, length: int, *, close: bool, http_minor: int) -> bytes:
    """Return status line and header fields of a response whose body has `length` bytes.

    No Date field: a board's clock is often wrong, and RFC 9110 asks for none from a server without a good clock.
    """
    head = b"%bcontent-type: %b\r\ncontent-length: %d" % (_STATUS_LINES[response.status], response.content_type, length)
    for name, value in response.headers:
        head += b"\r\n%b: %b" % (name, value)
    if close:
        return head + b"\r\nconnection: close\r\n\r\n"
    if http_minor == 0:
        return head + b"\r\nconnection: keep-alive\r\n\r\n"
    return head + b"\r\n\r\n"
