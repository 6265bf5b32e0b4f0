"""What the agent and its server say to each other, one JSON object a line, over a socket pair.

The agent asks and the server answers with the same `id`; the server also speaks unasked (`Ready`, `BreakerMoved`).
Neither side trusts the other to be alive: the agent gives each request a deadline, and end of file means that the other
side is gone.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .serving import ModelSettings

MAX_LINE_BYTES = 1024 * 1024
"""A list of installed models, or routes, is the longest that is said."""

BreakerState = Literal["closed", "open", "half_open"]


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
    beside: bool = False
    """Whether another version of the name goes on serving those who name none; this one serves those who name it."""
    breaker: BreakerState = "closed"
    """What the agent remembers: `half_open` where the last run of this bundle ended in a crash and this is a try."""


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag="unload"):
    """Stop serving a model; requests that are running are answered first."""

    id: int
    model: str
    version: str | None = None
    """Only this version; None takes out all of the name."""


class Installed(msgspec.Struct, frozen=True, kw_only=True, tag="installed"):
    """Everything that could be loaded here now: at the start, and after each change. Loads nothing."""

    id: int
    models: tuple[Load, ...]
    held: tuple[str, ...] = ()
    """Models that are not loaded for now because they made the server crash: 503, and not 404, until they are."""


class SetRoutes(msgspec.Struct, frozen=True, kw_only=True, tag="set_routes"):
    """Switch all routes at once; `Failed` where the text is not right, and the routes stay what they were."""

    id: int
    toml: str
    """Empty: no routes."""


class Accept(msgspec.Struct, frozen=True, kw_only=True, tag="accept"):
    """Accept connections from now on: to a server that was started `paused`, to load its models first."""

    id: int


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Accept nothing new, answer what was accepted, close the counters, exit 0."""

    id: int


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """Are you there? Answered from the event loop that serves requests."""

    id: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The server is up and accepts requests (with whatever models it has been given so far)."""

    incarnation: str
    grpc_address: str | None = None
    """Where gRPC is served, with the port that was bound; None where it is not."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The request with this id was carried out."""

    id: int
    detail: dict[str, float | int | str] = {}


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The request with this id was not carried out; what ran before still runs."""

    id: int
    reason: str


class BreakerMoved(msgspec.Struct, frozen=True, kw_only=True, tag="breaker_moved"):
    """Said unasked: the breaker of a version opened or closed. The agent remembers it across runs of the server."""

    model: str
    version: str
    state: BreakerState
    reason: str = ""
    crashed: bool = False
    """Whether it opened because the model's worker process died."""


Request = Load | Unload | Installed | SetRoutes | Accept | Drain | Ping
Reply = Ready | Done | Failed | BreakerMoved

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
