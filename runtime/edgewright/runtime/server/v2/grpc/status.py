"""What a refusal is in gRPC."""

from __future__ import annotations

from grpc import StatusCode

from ...refusal import Refusal

_CODE_OF_STATUS = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}

_MESSAGE_LENGTH = 4096
"""It travels as a header, and clients take 8 kB of these together."""


def code_of(refusal: Refusal) -> StatusCode:
    """Return the status code that says the same as an HTTP status."""
    otherwise = StatusCode.INTERNAL if refusal.status >= 500 else StatusCode.INVALID_ARGUMENT
    return _CODE_OF_STATUS.get(refusal.status, otherwise)


def message_of(refusal: Refusal) -> str:
    return refusal.message[:_MESSAGE_LENGTH]


def trailer_of(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata: how long to wait before the next attempt, which gRPC's own retries obey (A6)."""
    fields = dict(refusal.headers)
    wait = fields.get(b"retry-after", b"")
    return (("grpc-retry-pushback-ms", str(int(wait) * 1000)),) if wait.isdigit() else ()
