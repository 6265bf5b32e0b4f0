"""What the server and a worker say to each other over a socket pair: four bytes of length, then MessagePack.

The tensors themselves lie in memory that both map (see `arena`); a message says where. One question is under way at a
time, and end of file means that the other side is gone.
"""

from __future__ import annotations

import socket
import struct

import msgspec

from edgewright.targets.faults import EnvironmentFault

MAX_MESSAGE_BYTES = 1024 * 1024

_LENGTH = struct.Struct("<I")


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A tensor in the arena, in one piece."""

    name: str
    dtype: str
    """As `numpy.dtype.str` spells it."""
    shape: tuple[int, ...]
    offset: int


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run the model on these inputs, and put the outputs behind `end`."""

    arena_bytes: int
    """Size of the arena now."""
    end: int
    inputs: tuple[Place, ...]


class Proved(msgspec.Struct, frozen=True, tag="proved"):
    """The model is loaded, gave what it should, and is warm."""

    p50_s: float
    warm_up: tuple[tuple[int, float], ...]
    """As in `loading.LoadedModel`; without the way to the worker and back."""


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """The outputs are there."""

    arena_bytes: int
    outputs: tuple[Place, ...]


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """The model could not be loaded, or this run failed. The worker lives on after the latter."""

    kind: str
    """Name of the exception's class."""
    reason: str
    refused: bool = False
    """Whether the inputs are at fault, not the model."""


Message = Run | Proved | Ran | Raised

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


class ChannelError(EnvironmentFault):
    """The other side is gone, or says what is no message."""


class ChannelClosed(ChannelError):
    """The other side is gone."""


def send(channel: socket.socket, message: Message) -> None:
    """Send a message; raises ChannelError where the other side is gone."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ChannelError(f"a message of {len(body)} bytes to or from a worker; the most is {MAX_MESSAGE_BYTES}")
    try:
        channel.sendall(_LENGTH.pack(len(body)) + body)
    except OSError as error:
        raise ChannelClosed(f"the other side is gone: {error}") from error


def receive(channel: socket.socket) -> Message:
    """Wait for a message; raises ChannelError where the other side is gone or says what is none."""
    try:
        (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            raise ChannelError(f"a message of {length} bytes to or from a worker; the most is {MAX_MESSAGE_BYTES}")
        return _decoder.decode(_exactly(channel, length))
    except OSError as error:
        raise ChannelClosed(f"the other side is gone: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ChannelError(f"the other side says what is no message: {error}") from error


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise ChannelClosed("the other side is gone")
        parts += part
    return bytes(parts)
