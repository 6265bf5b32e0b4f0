"""An answer that does not go out at once: it counts among the bodies that are held until all of it is sent."""

from __future__ import annotations

from ...http2.stream import Stream
from ...refusal import Refusal
from .answers import HEAD, OK, only_trailers
from .messages import Message, Messages, framed

SMALL_BYTES = 1024
"""Smaller ones are not counted: the streams of a connection are, and each has one answer."""


class WaitingAnswer:
    """Sends itself, or the refusal where too much is held already. A window of zero costs a client nothing."""

    __slots__ = ("_messages", "_stream")

    def __init__(self, stream: Stream, message: Message, messages: Messages) -> None:
        self._stream = stream
        self._messages = messages
        try:
            messages.hold(len(message))
        except Refusal as refusal:
            stream.end(only_trailers(refusal))
            return
        stream.begin(HEAD)
        stream.send(framed(message))
        if stream.writable:
            self._sent()
        else:
            stream.on_writable(self._sent)

    def gone(self) -> None:
        """Nobody waits for it any more."""
        self._messages.release()

    def _sent(self) -> None:
        self._messages.release()
        self._stream.end(OK)
