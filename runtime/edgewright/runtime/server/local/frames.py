"""The messages of a `tensors` socket: what HTTP says of a request or answer, without HTTP.

A message is one datagram of a SOCK_SEQPACKET Unix socket:

    length of the envelope, 2 bytes, little-endian | envelope, JSON | body

Bodies are those of the V2 protocol over HTTP. Where tensors are large, the body ends with its JSON, and they are in the
one memfd that comes with the message (SCM_RIGHTS): sealed, from its first byte on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

MESSAGE_BYTES = 64 * 1024
"""A longer message is refused; the kernel's default buffer takes three of them."""
INLINE_BYTES = 32 * 1024
"""A body up to this size travels in its message: cheaper than a file for it."""

_PREFIX_BYTES = 2
_Size = Annotated[int, Meta(ge=0, le=2**40)]


class Call(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request."""

    call: Annotated[int, Meta(ge=0, lt=2**53)]
    """Comes back with the answer; of all calls under way on one connection it is the only one with this number."""
    target: Annotated[str, Meta(max_length=8192)]
    """Path of the V2 protocol."""
    memfd_bytes: _Size = 0
    """Of the memfd that comes with the message; 0 where none does."""
    json_bytes: _Size | None = None
    """Of a body that holds tensors too, as Inference-Header-Content-Length has it."""
    method: Annotated[str, Meta(max_length=16)] = "POST"


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer; call 0 speaks of the connection, which ends with it."""

    call: int
    status: int
    memfd_bytes: int = 0
    json_bytes: int | None = None
    headers: dict[str, str] = {}
    """Those that matter without HTTP: names in lower case."""


Envelope = TypeVar("Envelope", Call, Reply)


class BadFrame(ValueError):
    """A message that is none; the text says why."""


def encode(envelope: Call | Reply, inline: Iterable[bytes | bytearray | memoryview] = ()) -> bytes:
    """Return a message.

    Raises:
        BadFrame: it would be longer than a message may be.
    """
    text = msgspec.json.encode(envelope)
    if len(text) + _PREFIX_BYTES + INLINE_BYTES > MESSAGE_BYTES:
        raise BadFrame(f"an envelope of {len(text)} bytes does not fit into a message")
    return b"".join((len(text).to_bytes(_PREFIX_BYTES, "little"), text, *inline))


def decode(message: bytes, kind: type[Envelope]) -> tuple[Envelope, memoryview]:
    """Return the envelope of a message and the body that is in it.

    Raises:
        BadFrame: it is no such message.
    """
    end = _PREFIX_BYTES + int.from_bytes(message[:_PREFIX_BYTES], "little")
    if not _PREFIX_BYTES < end <= len(message):
        raise BadFrame(f"a message of {len(message)} bytes does not hold the envelope that it begins with")
    try:
        envelope = msgspec.json.decode(message[_PREFIX_BYTES:end], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"the envelope is not understood: {error}") from error
    return envelope, memoryview(message)[end:]
