"""One stream: a request that comes in and its answer that goes out (RFC 9113, section 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..http.messages import Payload
from .abuse import Floods
from .faults import Code, StreamFault
from .frames import LARGEST_WINDOW_BYTES, window_update_frame
from .limits import Http2Limits
from .outgoing_body import OutgoingBody
from .sending import Sending
from .stream import Answering, Fields
from .windows import ReceiveWindow


class Home(Protocol):
    """What a stream needs of its connection."""

    sending: Sending
    floods: Floods

    def over(self, exchange: Exchange) -> None:
        """Forget the stream; its answer was sent to the end."""

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM and forget the stream."""

    def give_back(self, size_bytes: int) -> None:
        """Give back window of the connection."""


class Exchange:
    """Implements `stream.Stream`; its connection calls the methods of the first half, who answers the others."""

    __slots__ = (
        "_answering",
        "_begun",
        "_body",
        "_call_when_writable",
        "_home",
        "_missing_bytes",
        "_progress_bytes",
        "_queued",
        "_receiving",
        "_since_s",
        "_trailers",
        "held_bytes",
        "id",
        "over",
        "request_ended",
        "window",
    )

    def __init__(self, stream_id: int, home: Home, receiving: ReceiveWindow, content_length: int | None) -> None:
        self.id = stream_id
        self.window = home.sending.stream_window
        """What the client lets this stream send; it may be negative."""
        self.held_bytes = 0
        """Received and not given back."""
        self.request_ended = False
        self.over = False
        self._home = home
        self._receiving = receiving
        self._missing_bytes = content_length
        self._answering: Answering | None = None
        self._begun = False
        self._body: OutgoingBody | None = None
        self._trailers: Fields | None = None
        self._queued = False
        self._call_when_writable: Callable[[], None] | None = None
        self._progress_bytes = 0
        self._since_s: float | None = None

    # What the client does.

    def answered_by(self, answering: Answering) -> None:
        """Tell `answering` the rest, unless the answer has been given already."""
        if not self.over and self._trailers is None:
            self._answering = answering

    def received(self, data: bytes, size_bytes: int, *, ends: bool) -> None:
        """Take DATA.

        Raises:
            StreamFault: behind the end, beyond the window, or not what content-length says.
        """
        self.held_bytes += size_bytes
        if self.request_ended:
            raise StreamFault(Code.STREAM_CLOSED, "DATA behind the end of the request")
        if not self._receiving.take(size_bytes):
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more than the stream's window")
        if self._missing_bytes is not None:
            self._missing_bytes -= len(data)
            if self._missing_bytes < 0:
                raise StreamFault(Code.PROTOCOL_ERROR, "body is longer than content-length")
        if ends:
            self.complete()
        if self._answering is None:
            # The answer is given, and waits for the client. Other streams' requests must not wait for that, too.
            self.held_bytes -= size_bytes
            self._home.give_back(size_bytes)
        elif data:
            self._answering.data(data, size_bytes)
        else:
            self.took(size_bytes)
        if ends:
            self.tell_ended(())

    def complete(self) -> None:
        """Take the end of the request.

        Raises:
            StreamFault: it had ended already, or content-length says that there is more.
        """
        if self.request_ended:
            raise StreamFault(Code.STREAM_CLOSED, "HEADERS behind the end of the request")
        if self._missing_bytes:
            raise StreamFault(Code.PROTOCOL_ERROR, "body is shorter than content-length")
        self.request_ended = True

    def tell_ended(self, trailers: Fields) -> None:
        """Tell who answers that the request is complete."""
        if self._answering is not None:
            self._answering.ended(trailers)

    def widen(self, increment: int) -> None:
        """Take the client's WINDOW_UPDATE, or a changed initial window; `increment` may be negative then.

        Raises:
            StreamFault: the window is larger than 2^31-1 now.
        """
        self.window += increment
        if self.window > LARGEST_WINDOW_BYTES:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "stream window above 2^31-1")
        if self._body is not None and self._body.size_bytes:
            self._queue()

    def gone(self) -> None:
        """Tell who answers that nothing can be sent any more."""
        self.over = True
        answering = self._forget()
        if answering is not None:
            answering.gone()

    def stalled(self, now_s: float, limits: Http2Limits) -> bool:
        """Return whether the client takes too little of what waits. Called about once a second."""
        if self._body is None or not self._body.size_bytes:
            self._since_s = None
        elif self._since_s is None or self._progress_bytes >= limits.progress_bytes:
            self._since_s, self._progress_bytes = now_s, 0
        return self._since_s is not None and now_s - self._since_s > limits.stall_s

    def send_frame(self) -> bool:
        """Send one frame of the body, or what is behind it; False when nothing may be sent for now."""
        body = self._body
        if self.over or body is None:
            return False
        self._send_data(body)
        if not body.size_bytes:
            self._queued = False
            if self._trailers is not None:
                self._send_end(self._trailers)
        elif self.window <= 0:
            self._queued = False
        self._tell_writable()
        return self._queued

    def _send_data(self, body: OutgoingBody) -> None:
        sending = self._home.sending
        size = min(body.size_bytes, self.window, sending.window, sending.frame_bytes)
        if size > 0:
            self._progress_bytes += size
            self.window -= size
            sending.data(self.id, body.take(size), size)
            self._home.floods.sent(size)

    def _tell_writable(self) -> None:
        if self._call_when_writable is not None and self.writable and not self.over:
            call, self._call_when_writable = self._call_when_writable, None
            call()

    def _queue(self) -> None:
        if not self._queued and self.window > 0:
            self._queued = True
            self._home.sending.wait(self)
        self._home.sending.pump()

    def _send_end(self, trailers: Fields) -> None:
        self._home.sending.headers(self.id, trailers, end_stream=True)
        self._finish()

    def _finish(self) -> None:
        self.over = True
        self._forget()
        self._home.over(self)

    def _forget(self) -> Answering | None:
        answering, self._answering = self._answering, None
        self._call_when_writable = None
        if self._queued:
            self._queued = False
            self._home.sending.wait_no_more(self)
        self._body = None
        return answering

    # What who answers does: `stream.Stream`.

    @property
    def writable(self) -> bool:
        return self._body is None or not self._body.size_bytes

    def takes(self, size_bytes: int) -> bool:
        sending = self._home.sending
        return self.writable and size_bytes <= self.window and size_bytes <= sending.window and not sending.paused

    def begin(self, fields: Fields) -> None:
        if not self.over and not self._begun:
            self._begun = True
            self._home.sending.headers(self.id, fields, end_stream=False)
            self._home.sending.flush()

    def send(self, parts: Sequence[Payload]) -> None:
        size = sum(map(len, parts))
        if self.over or self._trailers is not None or not size:
            return
        if self._body is None:
            self._body = OutgoingBody()
        self._body.put(parts, size)
        self._home.floods.message()
        self._queue()

    def end(self, trailers: Fields) -> None:
        if self.over or self._trailers is not None:
            return
        self._trailers = trailers
        self._answering = None
        if self._body is None or not self._body.size_bytes:
            self._send_end(trailers)
            self._home.sending.flush()

    def answer(self, fields: Fields, parts: Sequence[Payload], trailers: Fields) -> None:
        if self.over or self._begun:
            return
        sending = self._home.sending
        size = sum(map(len, parts))
        if 0 < size <= sending.frame_bytes and self.takes(size):
            self.window -= size
            sending.answer(self.id, fields, parts, size, trailers)
            self._home.floods.message()
            self._home.floods.sent(size)
            self._finish()
            sending.flush()
            return
        collecting, sending.collecting = sending.collecting, True
        self.begin(fields)
        self.send(parts)
        self.end(trailers)
        sending.collecting = collecting
        sending.flush()

    def took(self, size_bytes: int) -> None:
        if self.over:
            return
        self.held_bytes -= size_bytes
        self._home.give_back(size_bytes)
        increment = self._receiving.give_back(size_bytes)
        if increment and not self.request_ended:
            self._home.sending.out.append(window_update_frame(self.id, increment))
        self._home.sending.flush()

    def reset(self, code: int) -> None:
        if not self.over:
            self._answering = None
            self._home.reset(self.id, code)

    def on_writable(self, call: Callable[[], None]) -> None:
        self._call_when_writable = call
        self._tell_writable()
