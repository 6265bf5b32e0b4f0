"""A request that is refused, whatever protocol brought it."""

from __future__ import annotations

Fields = tuple[tuple[bytes, bytes], ...]


class Refusal(Exception):
    """Why a request is not answered with outputs: spelled as the HTTP status that fits, which gRPC has a table for.

    Attributes:
        status: 400 to 599. 400 does not fit the model, 404 unknown, 413 too large, 429/503 not now, 504 too late.
        message: what the client is told, as `{"error": …}`: no path and nothing of other clients.
        headers: HTTP header fields of the answer, such as Retry-After.
    """

    def __init__(self, status: int, message: str, *, headers: Fields = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


def not_now(message: str, retry_after_s: float = 1.0) -> Refusal:
    """503 with Retry-After, in whole seconds and at least one, as RFC 9110 spells it."""
    return Refusal(503, message, headers=((b"retry-after", b"%d" % max(1, round(retry_after_s))),))
