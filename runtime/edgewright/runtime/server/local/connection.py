"""One client on a `tensors` socket: from its messages to requests, and from responses to messages.

What a request means is decided where HTTP has it decided: both give the same `Request` to the same handler. The body of
a request is the client's sealed memory itself, mapped and not copied.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import socket
import time
from collections import deque

from ..http.connections import Connections
from ..http.messages import HEADER_LENGTH_FIELD, Handler, Payload, Request, Response, error_response
from ..limits import Limits
from ..refusal import Refusal, not_now
from .descriptors import Received, receive, send, stop_receiving
from .frames import INLINE_BYTES, BadFrame, Call, Reply, decode, encode
from .sealed import NotSealed, map_sealed, sealed_memory

_log = logging.getLogger(__name__)

_METHOD, _TARGET = re.compile("[A-Z]+"), re.compile("[!-~]*")
"""As in a head of HTTP: what ends a line there would begin one in the log."""
_TURN = 8
"""Messages that one client gets taken before others have their turn."""


class TensorConnection:
    """Everything happens on the event loop. See `http.connections.SweptConnection`."""

    def __init__(self, connection: socket.socket, handler: Handler, limits: Limits, connections: Connections) -> None:
        connection.setblocking(False)
        self._socket: socket.socket | None = connection
        self._handler = handler
        self._limits = limits
        self._connections = connections
        self._running: dict[int, tuple[Request, int]] = {}
        """Calls that are not answered yet, and the bytes that each holds."""
        self._held_bytes = 0
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._unsent_since_s = 0.0
        self._draining = False
        self._ending = False
        self._reading = False

    def start(self) -> None:
        self._connections.add(self)
        self._read_on()

    @property
    def idle(self) -> bool:
        """True when nothing runs and nothing waits to be sent."""
        return not self._running and not self._unsent

    def drain(self) -> None:
        """Close when nothing runs any more."""
        self._draining = True

    def close(self) -> None:
        """Close now: what runs is cancelled, every descriptor and mapping is given back."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        running, self._running = self._running, {}
        for request, _ in running.values():
            if request.on_gone is not None:
                request.on_gone()
        for _, descriptor in self._unsent:
            _close(descriptor)
        self._unsent.clear()
        self._connections.remove(self, self._held_bytes)

    def sweep(self, now_s: float) -> None:
        """End what has taken too long: a client that does not read its answers, or one that stays while we drain."""
        stuck = self._unsent and now_s - self._unsent_since_s > self._limits.receive_s
        if stuck or (self._draining and self.idle):
            self.close()

    # --- receiving

    def _read_on(self) -> None:
        room = len(self._running) < self._limits.pipelined and not self._unsent and not self._ending
        if self._socket is None or room == self._reading:
            return
        self._reading = room
        loop = asyncio.get_running_loop()
        if room:
            loop.add_reader(self._socket, self._readable)
        else:
            loop.remove_reader(self._socket)

    def _readable(self) -> None:
        for _ in range(_TURN):
            if self._socket is None or not self._reading:
                return
            try:
                received = receive(self._socket)
            except (BlockingIOError, InterruptedError):
                return
            except BadFrame as error:
                self._end(str(error))
                return
            except OSError:
                self.close()
                return
            if not received.data:
                _close(received.descriptor)
                self.close()
                return
            try:
                self._take(received)
            finally:
                _close(received.descriptor)

    def _take(self, received: Received) -> None:
        try:
            call, inline = decode(received.data, Call)
        except BadFrame as error:
            self._end(str(error))
            return
        if call.call == 0 or call.call in self._running:
            self._end(f"call {call.call} is under way, or is 0, which stands for the connection")
            return
        respond = functools.partial(self._respond, call.call)
        try:
            request = self._request(call, inline, received.descriptor)
        except Refusal as refusal:
            self._send(call.call, error_response(refusal))
            return
        self._running[call.call] = request, _size_of(request)
        self._read_on()
        try:
            self._handler(request, respond)
        except Refusal as refusal:
            respond(error_response(refusal))
        except Exception:  # noqa: BLE001 - the border of one request: our bug must not end the other connections
            _log.exception("bug while answering %s %s", call.method, call.target[:200])
            respond(error_response(Refusal(500, "internal error; the server's log has the details")))

    def _request(self, call: Call, body: memoryview, descriptor: int | None) -> Request:
        if not _METHOD.fullmatch(call.method) or not _TARGET.fullmatch(call.target):
            raise Refusal(400, "a method is upper-case letters, and a target ASCII without spaces")
        if call.memfd_bytes > self._limits.body_bytes:
            raise Refusal(413, f"the tensors are larger than the limit of {self._limits.body_bytes} bytes")
        size_bytes = len(body) + call.memfd_bytes
        if not self._connections.hold(size_bytes):
            raise not_now("too many large requests at one time")
        self._held_bytes += size_bytes
        try:
            tensors = _tensors(call, descriptor)
        except NotSealed as error:
            self._release(size_bytes)
            raise Refusal(400, str(error)) from error
        except OSError as error:
            self._release(size_bytes)
            raise not_now("no memory or descriptor is left for the tensors") from error
        headers = {} if call.json_bytes is None else {HEADER_LENGTH_FIELD: b"%d" % call.json_bytes}
        return Request(
            call.method.encode(), call.target.encode(), headers, body, True, 1, time.perf_counter_ns(), tensors=tensors
        )

    def _release(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
        self._connections.release(size_bytes)

    # --- answering

    def _respond(self, call: int, response: Response) -> None:
        found = self._running.pop(call, None)
        if found is None or self._socket is None:
            return  # the client is gone; what was done stays counted
        self._release(found[1])
        self._send(call, response)
        if self._draining and self.idle:
            self.close()
        else:
            self._read_on()

    def _send(self, call: int, response: Response) -> None:
        self._connections.answered(response.status)
        try:
            message, descriptor = reply_message(call, response)
        except OSError as error:
            _log.error("no shared memory for an answer: %s", error)
            message, descriptor = reply_message(
                call, error_response(not_now("no shared memory is left for the answer"))
            )
        self._unsent.append((message, descriptor))
        if len(self._unsent) == 1:
            self._unsent_since_s = time.monotonic()
            self._writable()

    def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        while self._socket is not None and self._unsent:
            message, descriptor = self._unsent[0]
            try:
                send(self._socket, message, descriptor)
            except (BlockingIOError, InterruptedError):
                loop.add_writer(self._socket, self._writable)
                return
            except OSError as error:
                _log.info("a local client is gone: %s", error)
                self.close()
                return
            self._unsent.popleft()
            self._unsent_since_s = time.monotonic()
            _close(descriptor)
        if self._socket is None:
            return
        loop.remove_writer(self._socket)
        if self._ending or (self._draining and self.idle):
            self.close()
        else:
            self._read_on()

    def _end(self, reason: str) -> None:
        """Say why, and close: after a message that is none, nothing that follows has a meaning."""
        self._ending = True
        self._read_on()
        if self._socket is not None:
            stop_receiving(self._socket)
        self._send(0, error_response(Refusal(400, reason)))


def _tensors(call: Call, descriptor: int | None) -> memoryview | None:
    if descriptor is not None:
        return map_sealed(descriptor, call.memfd_bytes)
    if call.memfd_bytes:
        raise NotSealed(f"a memfd with {call.memfd_bytes} bytes was announced, and none came")
    return None


def _size_of(request: Request) -> int:
    return len(request.body) + (0 if request.tensors is None else len(request.tensors))


def reply_message(call: int, response: Response) -> tuple[bytes, int | None]:
    """Return the message of an answer, and the memfd with its tensors where they are large; the caller closes it.

    Raises:
        OSError: no memory or descriptor is left.
    """
    fields = dict(response.headers)
    json_bytes = fields.pop(HEADER_LENGTH_FIELD, None)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items()}
    size_bytes = sum(map(len, response.body))
    if size_bytes <= INLINE_BYTES:
        length = None if json_bytes is None else int(json_bytes)
        return encode(Reply(call, response.status, 0, length, headers), response.body), None
    # The JSON of an inference stays in the message; any other body that is so large goes into the memfd as a whole.
    inline: list[Payload] = response.body[: 0 if json_bytes is None or len(response.body[0]) > INLINE_BYTES else 1]
    if json_bytes is not None and not inline:
        return reply_message(call, error_response(Refusal(500, "the answer's JSON is too large for a local client")))
    shared = response.body[len(inline) :]
    memfd_bytes = sum(map(len, shared))
    return encode(Reply(call, response.status, memfd_bytes, None, headers), inline), sealed_memory(shared)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
