"""One connection of a gRPC client: an `asyncio.Protocol` around the connection of HTTP/2."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import cast

from ...http.connections import Connections
from ...http.messages import Payload
from ...http2.connection import Http2
from ...http2.limits import Http2Limits
from ...http2.stream import Opened
from ...limits import Limits

_log = logging.getLogger(__name__)

_JOIN_BYTES = 16 * 1024
"""What is smaller together is written as one piece."""


class Connection(asyncio.Protocol):
    """Bytes from the transport to `Http2` and back. What time does to it comes in by `sweep`."""

    def __init__(self, opened: Opened, http2_limits: Http2Limits, limits: Limits, connections: Connections) -> None:
        self._http2 = Http2(http2_limits, opened, self._write)
        self._limits = limits
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._full_since_s: float | None = None
        self._finished_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # listeners are stream sockets
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._http2.lost()
        self._connections.remove(self, 0)  # calls that are gone have given back what they held

    def data_received(self, data: bytes) -> None:
        if self._finished_s is None:
            self._http2.feed(data)
            self._finish_ended()

    def eof_received(self) -> bool:
        """HTTP/2 knows no half of a connection."""
        return False

    def pause_writing(self) -> None:
        """The client does not read: what it asks meanwhile waits in the kernel."""
        self._full_since_s = time.monotonic()
        self._http2.pause_writing()
        if self._transport is not None and self._finished_s is None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full_since_s = None
        if self._transport is not None and self._finished_s is None:
            self._transport.resume_reading()
        self._http2.resume_writing()

    @property
    def idle(self) -> bool:
        return self._http2.idle

    def drain(self) -> None:
        self._http2.drain()
        self._finish_ended()

    def close(self) -> None:
        self._http2.close()
        self._finish_ended()

    def sweep(self, now_s: float) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._finished_s is not None:
            self._sweep_finished(transport, now_s - self._finished_s)
        elif self._full_since_s is not None and now_s - self._full_since_s > self._limits.receive_s:
            transport.abort()
        else:
            self._http2.sweep(now_s)
            self._finish_ended()

    def _write(self, parts: list[Payload]) -> None:
        transport = self._transport
        if transport is not None and parts and self._finished_s is None:
            if len(parts) == 1:
                transport.write(parts[0])
            elif sum(map(len, parts)) <= _JOIN_BYTES:
                transport.write(b"".join(parts))
            else:
                transport.writelines(parts)
        self._finish_ended()

    def _finish_ended(self) -> None:
        if self._http2.ended:
            self._finish()

    def _finish(self) -> None:
        """End; what was written is still sent.

        Closing with unread input sends a reset, which can overtake the last answer: it is read on for a while instead.
        """
        transport = self._transport
        if transport is None or self._finished_s is not None:
            return
        self._finished_s = time.monotonic()
        if self._http2.failed is not None:
            # Not at the level of others' mistakes: strangers could fill a board's log with it.
            _log.debug("a gRPC connection was ended: %s", self._http2.failed)
        if transport.is_closing() or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        transport.resume_reading()

    def _sweep_finished(self, transport: asyncio.Transport, age_s: float) -> None:
        limits = self._limits
        if age_s > (limits.receive_s if transport.get_write_buffer_size() else limits.linger_s):
            transport.abort()
