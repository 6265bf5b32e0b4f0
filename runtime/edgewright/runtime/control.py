"""What the agent and its server say to each other, one JSON object a line, over a socket pair.

The agent asks and the server answers with the same `id`; the server also speaks unasked (`Ready`). Neither side trusts
the other to be alive: the agent gives each request a deadline, and end of file means that the other side is gone.
"""

from __future__ import annotations

import msgspec

from .serving import ModelSettings

MAX_LINE_BYTES = 64 * 1024


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Load a bundle beside what runs, warm it, check its golden samples, then switch the model's name to it."""

    id: int
    model: str
    version: str
    bundle: str
    """`sha256:…` of the archive that the directory was unpacked from; goes into telemetry."""
    directory: str
    """Unpacked bundle, an absolute path."""
    settings: ModelSettings = ModelSettings()


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag="unload"):
    """Stop serving a model; requests that are running are answered first."""

    id: int
    model: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Accept nothing new, answer what was accepted, close the counters, exit 0."""

    id: int


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """Are you there? Answered from the event loop that serves requests."""

    id: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The server is up and accepts requests (with whatever models it has been given so far)."""

    incarnation: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The request with this id was carried out."""

    id: int
    detail: dict[str, float | int | str] = {}


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The request with this id was not carried out; what ran before still runs."""

    id: int
    reason: str


Request = Load | Unload | Drain | Ping
Reply = Ready | Done | Failed

_request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_encoder = msgspec.json.Encoder()


def encode(message: Request | Reply) -> bytes:
    """Return the message as one line, with its newline."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request in a line; raises `msgspec.DecodeError` (or its ValidationError) where it is none."""
    return _request_decoder.decode(line)


def decode_reply(line: bytes) -> Reply:
    """Return the reply in a line; raises `msgspec.DecodeError` (or its ValidationError) where it is none."""
    return _reply_decoder.decode(line)
