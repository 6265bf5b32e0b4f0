"""What a connection and whoever answers its streams say to each other.

The connection keeps the protocol: frames, header compression, flow control in both directions, the life of each stream,
and the bounds on all of it. Who answers sees fields and bytes, and never a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..http.messages import Payload

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields in their order, pseudo-header fields first; names are in lower case."""


class Answering(Protocol):
    """One side of a stream: what the client does. Called on the event loop, never after `gone`."""

    def data(self, data: bytes, size_bytes: int) -> None:
        """Take a part of the request's body.

        Args:
            data: the bytes, without padding.
            size_bytes: what they hold of the flow control window, padding included: to be given back by `Stream.took`.
        """

    def ended(self, trailers: Fields) -> None:
        """The request is complete."""

    def gone(self) -> None:
        """The client has reset the stream, or the connection is lost; nothing can be sent any more."""


class Stream(Protocol):
    """The other side: what the server does."""

    @property
    def id(self) -> int: ...

    @property
    def writable(self) -> bool:
        """False while a part of the body waits for the client's window: all of it stays in memory until then."""

    def takes(self, size_bytes: int) -> bool:
        """Return whether a body of this size would go out at once."""

    def begin(self, fields: Fields) -> None:
        """Send the head of the answer."""

    def send(self, parts: Sequence[Payload]) -> None:
        """Send a part of the body; it waits here for the client's window."""

    def end(self, trailers: Fields) -> None:
        """End the answer behind everything that was sent; `begin` may have been left out (gRPC's trailers-only)."""

    def answer(self, fields: Fields, parts: Sequence[Payload], trailers: Fields) -> None:
        """`begin`, `send` and `end` in one: the answer of a small call is one write."""

    def took(self, size_bytes: int) -> None:
        """Give back window: so many bytes of `Answering.data` are not held any more."""

    def reset(self, code: int) -> None:
        """End the stream at once, with an error code of RFC 9113, section 7."""

    def on_writable(self, call: Callable[[], None]) -> None:
        """Have `call` called once, when the stream can take more."""


Opened = Callable[[Stream, Fields], Answering]
"""Takes a new stream and the head of its request; returns who hears of the rest. Raises nothing."""
