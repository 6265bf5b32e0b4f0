"""The head of a call: HTTP/2 header fields in, what they say of the call out (doc/PROTOCOL-HTTP2.md of grpc/grpc)."""

from __future__ import annotations

from dataclasses import dataclass

from ...http.compression import CODINGS
from ...http2.stream import Fields
from ...limits import Limits
from ...refusal import Refusal

CONTENT_TYPE = b"application/grpc"
ACCEPTED = b"identity, deflate, gzip"

_NS_OF_UNIT = {b"H": 3600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 1000, b"n": 1}
_TIMEOUT_DIGITS = 8
_LONGEST_NS = 24 * 3600 * 10**9
"""Who waits for longer has no deadline."""

_NO_TRAILERS = Refusal(
    400,
    "the header field 'te: trailers' is missing: whatever took it away may drop the trailers, which carry the status",
)
_NO_CODING = Refusal(415, "messages are taken as they are, or with grpc-encoding gzip or deflate")


class NotGrpc(Exception):
    """A request of plain HTTP.

    Attributes:
        status: its HTTP status, which is all the answer that it gets.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the client says before its messages. One object for all calls with the same fields."""

    path: bytes
    timeout_ns: int | None
    coding: bytes | None
    """Of messages that are compressed; None where none is."""
    authorization: bytes | None
    refusal: Refusal | None
    """Why such a call cannot be served, whatever it asks."""


def read_head(fields: Fields, limits: Limits) -> CallHead:
    """Return what the fields of a request say.

    Raises:
        NotGrpc: it is no call of gRPC.
    """
    said = dict(fields)
    kind = said.get(b"content-type", b"")
    # `application/grpc+proto` is the same, `application/grpc-web` is not.
    if not kind.startswith(CONTENT_TYPE) or kind[len(CONTENT_TYPE) :][:1] not in {b"", b"+", b";"}:
        raise NotGrpc(415)
    if said.get(b":method") != b"POST":
        raise NotGrpc(405)
    refusal = _too_large(fields, limits)
    if said.get(b"te") != b"trailers":
        refusal = _NO_TRAILERS
    coding = said.get(b"grpc-encoding", b"identity").lower()
    if coding not in {b"identity", *CODINGS}:
        refusal = _NO_CODING
    timeout_ns: int | None = None
    try:
        timeout_ns = _timeout_ns(said.get(b"grpc-timeout"))
    except Refusal as error:
        refusal = error
    return CallHead(
        said.get(b":path", b""),
        timeout_ns,
        None if coding == b"identity" else coding,
        said.get(b"authorization"),
        refusal,
    )


def _too_large(fields: Fields, limits: Limits) -> Refusal | None:
    size = sum(len(name) + len(value) for name, value in fields)
    if len(fields) <= limits.headers and size <= limits.head_bytes:
        return None
    return Refusal(
        431,
        f"{len(fields)} metadata fields of {size} bytes; the limits are {limits.headers} and {limits.head_bytes} bytes",
    )


def _timeout_ns(text: bytes | None) -> int | None:
    """Return how long the client waits: up to eight digits and a unit; raises `Refusal` where it is something else."""
    if text is None:
        return None
    digits, unit = text[:-1], _NS_OF_UNIT.get(text[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _TIMEOUT_DIGITS:
        raise Refusal(400, "grpc-timeout must be up to eight digits and one of H, M, S, m, u and n")
    timeout_ns = int(digits) * unit
    return timeout_ns if timeout_ns <= _LONGEST_NS else None
