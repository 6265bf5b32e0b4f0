"""What a refusal is in gRPC: a code, a message and how long to wait, in the trailers of a call."""

from __future__ import annotations

from enum import IntEnum

from ...http2.stream import Fields
from ...refusal import Refusal


class Code(IntEnum):
    """The codes that this server answers with; their numbers are gRPC's (doc/statuscodes.md of grpc/grpc)."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


INTERNAL = Refusal(500, "internal error; the server's log has the details")

_CODE_OF_STATUS = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.UNIMPLEMENTED,
    429: Code.RESOURCE_EXHAUSTED,
    431: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

_MESSAGE_LENGTH = 4096
"""It travels as a header, and clients take 8 kB of these together."""

_WRITTEN = tuple(b"%c" % byte if 0x20 <= byte <= 0x7E and byte != ord("%") else b"%%%02X" % byte for byte in range(256))


def code_of(refusal: Refusal) -> Code:
    """Return the status code that says the same as an HTTP status."""
    otherwise = Code.INTERNAL if refusal.status >= 500 else Code.INVALID_ARGUMENT
    return _CODE_OF_STATUS.get(refusal.status, otherwise)


def message_of(refusal: Refusal) -> str:
    return refusal.message[:_MESSAGE_LENGTH]


def trailers_of(refusal: Refusal) -> Fields:
    """Return the trailers of a refused call: with them how long to wait, which gRPC's own retries obey (A6)."""
    fields = [(b"grpc-status", b"%d" % code_of(refusal)), (b"grpc-message", _percent_encoded(refusal.message))]
    wait = dict(refusal.headers).get(b"retry-after", b"")
    if wait.isdigit():
        fields.append((b"grpc-retry-pushback-ms", b"%d" % (int(wait) * 1000)))
    return tuple(fields)


def _percent_encoded(message: str) -> bytes:
    """Return a `grpc-message` (doc/PROTOCOL-HTTP2.md of grpc/grpc, "Status-Message"); what is too long is cut."""
    text = message[:_MESSAGE_LENGTH].encode(errors="replace")
    written = b"".join(map(_WRITTEN.__getitem__, text))
    if len(written) <= _MESSAGE_LENGTH:
        return written
    kept = written[:_MESSAGE_LENGTH]
    escape = kept.rfind(b"%", _MESSAGE_LENGTH - 2)
    return kept if escape < 0 else kept[:escape]
