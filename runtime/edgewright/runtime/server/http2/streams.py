"""The open streams of one connection, and what is remembered of those that are over (RFC 9113, section 5.1)."""

from __future__ import annotations

from collections.abc import Callable

from .abuse import Floods
from .exchange import Exchange
from .faults import Code, ConnectionFault
from .frames import LARGEST_WINDOW_BYTES, reset_frame, window_update_frame
from .limits import Http2Limits
from .sending import Sending
from .windows import ReceiveWindow

_RESETS_REMEMBERED = 256
"""Streams that we have reset: frames of theirs may still be under way."""


class Streams:
    """Implements `exchange.Home`."""

    def __init__(self, limits: Http2Limits, sending: Sending, floods: Floods) -> None:
        self._limits = limits
        self._window = ReceiveWindow(limits.connection_window_bytes)
        self._resets: dict[int, None] = {}
        self.sending = sending
        self.floods = floods
        self.open: dict[int, Exchange] = {}
        self.last_id = 0
        """The highest stream that the client has opened."""
        self.when_none: Callable[[], None] | None = None
        """Called when the last stream is over."""
        self.spent: ConnectionFault | None = None
        """A budget that was spent outside of `feed`; for the next one to say."""

    def new(self, stream_id: int, content_length: int | None) -> Exchange:
        """Return a new open stream."""
        receiving = ReceiveWindow(self._limits.stream_window_bytes)
        exchange = Exchange(stream_id, self, receiving, content_length)
        self.open[stream_id] = exchange
        return exchange

    def was_reset(self, stream_id: int) -> bool:
        """Return whether we have reset the stream a moment ago."""
        return stream_id in self._resets

    def count_data(self, size_bytes: int) -> None:
        """Count DATA of any stream.

        Raises:
            ConnectionFault: more than the connection's window.
        """
        if not self._window.take(size_bytes):
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the connection's window")

    def give_back(self, size_bytes: int) -> None:
        """Give back window of the connection."""
        increment = self._window.give_back(size_bytes)
        if increment:
            self.sending.out.append(window_update_frame(0, increment))

    def initial_window(self, size_bytes: int) -> None:
        """Take the client's INITIAL_WINDOW_SIZE: open streams change by the difference (RFC 9113, section 6.9.2).

        Raises:
            ConnectionFault: the window of a stream is above 2^31-1 now.
        """
        difference = size_bytes - self.sending.stream_window
        self.sending.stream_window = size_bytes
        if any(exchange.window + difference > LARGEST_WINDOW_BYTES for exchange in self.open.values()):
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "stream window above 2^31-1")
        for exchange in tuple(self.open.values()):
            exchange.widen(difference)

    def over(self, exchange: Exchange) -> None:
        """Forget a stream whose answer was sent to the end."""
        self.floods.answered()
        if not exchange.request_ended:
            # RFC 9113, section 8.1: the client need not send the rest.
            self.sending.out.append(reset_frame(exchange.id, Code.NO_ERROR))
            self._remember_reset(exchange.id)
        self._forget(exchange)

    def reset(self, stream_id: int, code: int) -> None:
        """Reset a stream by the word of who answers it. A client may provoke that, so it counts like its own."""
        try:
            self.refuse(stream_id, code)
        except ConnectionFault as fault:
            self.spent = fault
        self.sending.flush()

    def refuse(self, stream_id: int, code: int) -> None:
        """Reset a stream, open or not, by the client's fault.

        Raises:
            ConnectionFault: once too often (CVE-2025-8671).
        """
        self.sending.out.append(reset_frame(stream_id, code))
        self._remember_reset(stream_id)
        self.drop(stream_id)

    def drop(self, stream_id: int) -> None:
        """Forget a stream that has no answer, or only a part of one.

        Raises:
            ConnectionFault: once too often (CVE-2023-44487).
        """
        exchange = self.open.get(stream_id)
        if exchange is not None:
            exchange.gone()
            self._forget(exchange)
        self.floods.reset()

    def drop_all(self) -> None:
        """Forget all streams."""
        streams, self.open = self.open, {}
        for exchange in streams.values():
            exchange.gone()

    def reset_stalled(self, now_s: float) -> None:
        """Reset those whose answer has waited too long for the client.

        Raises:
            ConnectionFault: once too often.
        """
        for exchange in tuple(self.open.values()):
            if exchange.stalled(now_s, self._limits):
                self.refuse(exchange.id, Code.CANCEL)

    def _forget(self, exchange: Exchange) -> None:
        self.open.pop(exchange.id, None)
        if exchange.held_bytes:
            self.give_back(exchange.held_bytes)
        if self.when_none is not None and not self.open:
            self.when_none()

    def _remember_reset(self, stream_id: int) -> None:
        self._resets[stream_id] = None
        if len(self._resets) > _RESETS_REMEMBERED:
            del self._resets[next(iter(self._resets))]
