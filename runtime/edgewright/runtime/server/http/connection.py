"""One HTTP/1.1 connection: bytes in, requests in order to the handler, responses in the same order out.

Pipelined inferences are handed on together, so that they can share a batch; everything else waits for what came before
it (RFC 9112 §9.3.2 asks for that where requests change something). Responses leave in the order of their requests.

The connection decides nothing about models. It keeps the limits, the order of pipelined requests, flow control in both
directions, and the ways in which a connection ends. Time comes in: `sweep(now_s)` is called about once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from ..limits import Limits
from ..refusal import Refusal
from .connections import Connections
from .incoming import Incoming
from .messages import Handler, Request, Response, error_response, render_head

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TURN = 32
"""Requests of one connection that are answered before the other connections have their turn."""
_JOIN_BYTES = 16 * 1024
"""Bodies up to this size are joined with their head into one write."""


_OVERLAPPING = b"/infer"
"""Targets that end like this change nothing, so they may run beside each other."""


class _Exchange:
    """One request on its way to its response; called with the response, once."""

    __slots__ = ("_answered", "held_bytes", "item", "response")

    def __init__(self, item: Request | Refusal, answered: Callable[[], None]) -> None:
        self.item = item
        self.response: Response | None = None
        self.held_bytes = len(item.body) if isinstance(item, Request) else 0
        """Of the body as it came: whoever handles the request may put another in its place."""
        self._answered = answered

    def __call__(self, response: Response) -> None:
        if self.response is None:
            self.response = response
            self._answered()


class Connection(asyncio.Protocol):
    """An `asyncio.Protocol`; `incoming` finds the requests in the bytes."""

    def __init__(self, handler: Handler, limits: Limits, connections: Connections) -> None:
        self._handler = handler
        self._limits = limits
        self._pipelined = limits.pipelined
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._incoming = Incoming(limits, connections.hold, connections.admits)
        self._waiting = self._incoming.arrived
        self._open: deque[_Exchange] = deque()
        self._flushing = False
        self._advancing = False
        self._reading = True
        self._writable = True
        self._deaf = False  # a request was refused: what still comes is thrown away
        self._closing = False  # no response after the current one
        self._half_closed = False
        self._draining = False
        self._since_s = time.monotonic()

    # --- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # listeners are stream sockets
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        for exchange in self._open:
            if isinstance(exchange.item, Request) and exchange.item.on_gone is not None:
                exchange.item.on_gone()
        # What is not let go of here would stay until the collector comes by.
        self._open.clear()
        self._waiting.clear()
        self._incoming.forget()
        self._connections.remove(self, self._incoming.held_bytes)

    def eof_received(self) -> bool:
        self._half_closed = True
        return bool(self._open or self._waiting)

    def pause_writing(self) -> None:
        self._writable = False
        self._since_s = time.monotonic()

    def resume_writing(self) -> None:
        self._writable = True
        self._advance()

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._closing:
            return
        incoming = self._incoming
        begun = incoming.messages
        incoming.feed(data)
        if incoming.midway and incoming.messages != begun:
            self._since_s = time.monotonic()
        if incoming.refusal is not None:
            self._deaf = True
            self._since_s = time.monotonic()
        self._advance()

    # --- answering -------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Hand waiting requests to the handler, as far as they may run beside what is open, and write what is ready."""
        if self._advancing:
            return
        self._advancing = True
        waiting, opened, turn = self._waiting, self._open, _TURN
        while waiting and self._writable and not self._closing and (not opened or self._may_begin(waiting[0])):
            if turn == 0:
                asyncio.get_running_loop().call_soon(self._advance)
                break
            turn -= 1
            exchange = _Exchange(waiting.popleft(), self._flush)
            opened.append(exchange)
            self._handle(exchange)
        self._advancing = False
        if self._incoming.continue_owed:
            self._pay_continue()
        if self._reading != (self._writable and len(waiting) + len(opened) <= self._pipelined):
            self._set_reading(not self._reading)

    def _may_begin(self, item: Request | Refusal) -> bool:
        """Whether a request may run beside the last of those that are open."""
        previous = self._open[-1].item
        return (
            len(self._open) < self._pipelined
            and isinstance(item, Request)
            and isinstance(previous, Request)
            and item.target.endswith(_OVERLAPPING)
            and previous.target.endswith(_OVERLAPPING)
            and previous.keep_alive
        )

    def _handle(self, exchange: _Exchange) -> None:
        item = exchange.item
        if isinstance(item, Refusal):
            exchange(error_response(item))
            return
        try:
            self._handler(item, exchange)
        except Refusal as error:
            exchange(error_response(error))
        except Exception:  # noqa: BLE001 - the border of one request: our bug must not end the other connections
            _log.exception("bug while answering %s %s", item.method.decode(), item.target[:200])
            exchange(error_response(Refusal(500, "internal error; the server's log has the details")))

    def _flush(self) -> None:
        """Write the responses that are there, in the order of their requests."""
        if self._flushing:
            return
        self._flushing = True
        opened = self._open
        while opened and self._transport is not None and not self._closing:
            response = opened[0].response
            if response is None:
                break
            self._answer(self._transport, opened.popleft(), response)
        self._flushing = False
        if (self._waiting or not self._reading or self._incoming.continue_owed) and not self._closing:
            self._advance()

    def _answer(self, transport: asyncio.Transport, exchange: _Exchange, response: Response) -> None:
        item = exchange.item
        last = self._draining or isinstance(item, Refusal) or not item.keep_alive
        if self._half_closed and not self._waiting and not self._open:
            last = True
        self._connections.answered(response.status)
        _write(transport, item, response, close=last)
        self._since_s = time.monotonic()
        # Each answer gives back what its request held: a client that always has a next one under way is never idle.
        self._connections.release(exchange.held_bytes)
        self._incoming.held_bytes -= exchange.held_bytes
        if last:
            self._finish(transport, lingering=isinstance(exchange.item, Refusal))

    def _finish(self, transport: asyncio.Transport, *, lingering: bool) -> None:
        self._closing = True
        self._open.clear()
        self._waiting.clear()
        if lingering and not self._half_closed and transport.can_write_eof():
            # Closing with unread input sends a reset, which can overtake the answer. Read on for a while instead.
            self._deaf = True
            self._set_reading(True)
            transport.write_eof()
        else:
            transport.close()

    def _pay_continue(self) -> None:
        if self._incoming.continue_owed and self._transport and not self._open and not self._waiting:
            self._incoming.continue_owed = False
            self._transport.write(_CONTINUE)

    def _set_reading(self, wanted: bool) -> None:
        if self._transport is None or self._reading == wanted or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # --- time and end ----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True when no request is being received, waits or runs."""
        return not (self._open or self._waiting or self._incoming.midway)

    def drain(self) -> None:
        """Close after the next response."""
        self._draining = True

    def close(self) -> None:
        """Close now; what was written is still sent."""
        if self._transport is not None:
            self._transport.close()

    def sweep(self, now_s: float) -> None:
        """End what has taken too long."""
        age_s = now_s - self._since_s
        if self._transport is None or (self._open and self._writable):
            return
        if self._deaf:
            if age_s > self._limits.linger_s:
                self._transport.abort()
        elif not self._writable:
            if age_s > self._limits.receive_s:
                self._transport.abort()
        elif self._draining and self.idle:
            if age_s > self._limits.drain_idle_s:
                self._transport.close()
        elif self.idle:
            if age_s > self._limits.idle_s:
                self._transport.close()
        elif age_s > self._limits.receive_s:
            self._waiting.append(Refusal(408, f"the request did not arrive within {self._limits.receive_s:g} s"))
            self._deaf = True
            self._advance()


def _write(transport: asyncio.Transport, item: Request | Refusal, response: Response, *, close: bool) -> None:
    length = sum(map(len, response.body))
    minor = item.http_minor if isinstance(item, Request) else 1
    head = render_head(response, length, close=close, http_minor=minor)
    if isinstance(item, Request) and item.method == b"HEAD":
        transport.write(head)
    elif length <= _JOIN_BYTES:
        transport.write(b"".join((head, *response.body)))
    else:
        transport.writelines([head, *response.body])
