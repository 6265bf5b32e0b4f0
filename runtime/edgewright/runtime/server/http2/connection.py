"""One HTTP/2 connection of a server (RFC 9113): bytes in, streams out. No sockets, no clock, no event loop."""

from __future__ import annotations

from collections.abc import Callable

from ..http.messages import Payload
from .limits import Http2Limits
from .stream import Opened

Write = Callable[[list[Payload]], None]
"""Takes bytes for the client, in order. Called once for all that one `feed` causes, and for each answer that comes later.

Look at `Http2.ended` behind each call: where it is true, these are the last bytes, and the transport is to be closed.
The list may be empty then.
"""


class Http2:
    """The server's side of one connection.

    A stream's `Answering` hears `data`, then `ended`, or at any time `gone`; none of them after `gone`, and none after
    the stream's `end`, `answer` or `reset`. What it has not given back by `took` when the stream is over is given back
    for it. Two requests with the same head, byte for byte, bring the same `Fields` object.
    """

    def __init__(self, limits: Http2Limits, opened: Opened, write: Write) -> None:
        self.failed: str | None = None
        """Why the connection was ended, where somebody broke the rules; for the log."""

    @property
    def streams(self) -> int:
        """Streams that are open."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """True when no stream is open and no head is being received."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """True when nothing more is taken or sent: after a failure, after `close`, or drained."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take what has been received. Raises nothing, whatever it is."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Hold bodies back: the transport has enough. Heads and control frames still go out; stop feeding, too."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """Send again."""
        raise NotImplementedError

    def drain(self) -> None:
        """Ask for no more streams (GOAWAY in two steps, RFC 9113, section 6.8); `ended` when those that are open are over."""
        raise NotImplementedError

    def close(self, code: int = 0) -> None:
        """Say GOAWAY with `code` and end now; open streams are gone."""
        raise NotImplementedError

    def lost(self) -> None:
        """The transport is gone: open streams are gone, nothing is written any more."""
        raise NotImplementedError

    def sweep(self, now_s: float) -> None:
        """Let time pass, about once a second: refill budgets, ask silent clients, end what has taken too long."""
        raise NotImplementedError
