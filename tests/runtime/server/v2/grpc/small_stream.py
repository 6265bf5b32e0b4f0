"""A stream of HTTP/2 without HTTP/2: what a call does on it is kept, and the test is the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edgewright.runtime.server.http.messages import Payload
from edgewright.runtime.server.http2.stream import Fields


class SmallStream:
    """Implements `http2.stream.Stream`."""

    def __init__(self) -> None:
        self.id = 1
        self.writable = True
        self.head: Fields | None = None
        self.body = b""
        self.trailers: dict[bytes, bytes] | None = None
        """With the head, where that came with them."""
        self.over = asyncio.Event()
        self.took_bytes = 0
        self.code: int | None = None
        self._waits: Callable[[], None] | None = None

    def takes(self, size_bytes: int) -> bool:
        del size_bytes
        return self.writable

    def begin(self, fields: Fields) -> None:
        assert self.head is None
        self.head = fields

    def send(self, parts: Sequence[Payload]) -> None:
        assert self.head is not None, "a head comes first"
        assert self.trailers is None, "nothing follows the end"
        self.body += b"".join(parts)

    def end(self, trailers: Fields) -> None:
        assert self.trailers is None, "one end"
        assert (trailers[0][0] == b":status") is (self.head is None), "status first, once"
        self.trailers = dict(trailers)
        self.over.set()

    def answer(self, fields: Fields, parts: Sequence[Payload], trailers: Fields) -> None:
        self.begin(fields)
        self.send(parts)
        self.end(trailers)

    def took(self, size_bytes: int) -> None:
        self.took_bytes += size_bytes

    def reset(self, code: int) -> None:
        self.code = code

    def on_writable(self, call: Callable[[], None]) -> None:
        self._waits = call

    def become_writable(self) -> None:
        self.writable = True
        if self._waits is not None:
            self._waits()

    @property
    def status(self) -> int | None:
        """The grpc-status, None where the call is not over."""
        return None if self.trailers is None else int(self.trailers[b"grpc-status"])

    @property
    def message(self) -> str:
        return (self.trailers or {})[b"grpc-message"].decode()

    @property
    def messages(self) -> list[bytes]:
        """The messages of the answer so far."""
        found, rest = [], self.body
        while rest:
            end = 5 + int.from_bytes(rest[1:5], "big")
            found.append(rest[5:end])
            rest = rest[end:]
        return found


def framed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def fields(path: bytes, *more: tuple[bytes, bytes], **changes: bytes) -> Fields:
    """Return the head of a call; `changes` are of the usual fields, `te=b""` leaves one out."""
    usual = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    for name, value in changes.items():
        usual[name.replace("_", "-").encode()] = value
    return (*((name, value) for name, value in usual.items() if value), *more)
