"""What can go wrong between a client and its server, one class for each thing that a caller would do differently."""

from __future__ import annotations


class ClientError(Exception):
    """Base of the errors of a client."""


class ServerRefused(ClientError):
    """The server answered, and said no.

    Attributes:
        status: 400 does not fit, 404 unknown, 413 too large, 429 and 503 not now, 504 too late, 500 the model failed.
        message: the server's reason.
        retry_after_s: when the server says that it is worth asking again, where it says so.
    """

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class Unreachable(ClientError):
    """No answer: the server could not be connected to, or the connection ended before the answer did.

    Attributes:
        sent: whether the server may have seen the request, and have acted on it.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class AnswerTimeout(ClientError):
    """The answer did not come in time. The connection is closed, which tells the server to drop the request."""


class BadAnswer(ClientError):
    """What came back is not HTTP, or not the V2 protocol."""
