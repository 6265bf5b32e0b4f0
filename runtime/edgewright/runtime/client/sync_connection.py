"""One blocking connection to a server."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .address import Address
from .deadline import Deadline
from .errors import AnswerTimeout, BadAnswer, Unreachable
from .http1 import (
    END_OF_HEAD,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    Answer,
    AnswerHead,
    Outgoing,
    Payload,
    body_buffer,
    chunk_size,
    parse_head,
    request_head,
)

if TYPE_CHECKING:
    import ssl

_PIECE_BYTES = 64 * 1024
_SENT_AT_ONCE = 64
"""Buffers of one sendmsg; the kernel takes at most 1024."""


class SyncConnection:
    """A socket and what was read from it too far. Used by one thread at a time."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        """Connect.

        Raises:
            Unreachable: nobody listens there, or the TLS handshake failed.
            AnswerTimeout: it took too long.
        """
        try:
            self._socket = _connected(address, context, deadline)
        except TimeoutError as error:
            raise AnswerTimeout(f"{address} could not be connected to in time") from error
        except OSError as error:
            raise Unreachable(f"{address} could not be connected to: {error}", sent=False) from error
        self._secure = context is not None
        self._unread = bytearray()
        self._keep_alive = True
        self.used = False
        """Whether an answer has come over it before."""

    @property
    def usable(self) -> bool:
        """False where the server has closed it, or has said what nobody asked."""
        if not self._keep_alive or self._unread:
            return False
        try:
            self._socket.setblocking(False)
            self._socket.recv(1)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            return self._secure and type(error).__name__ == "SSLWantReadError"
        return False  # end of file, or bytes out of turn

    def close(self) -> None:
        self._socket.close()

    def exchange(self, request: Outgoing, deadline: Deadline) -> Answer:
        """Send a request and return the answer.

        Raises:
            Unreachable: the connection ended.
            AnswerTimeout: it took too long.
            BadAnswer: what came is not HTTP.
        """
        try:
            self._send((request_head(request), *request.body), deadline)
            head = self._read_head(deadline)
            while head.interim:
                head = self._read_head(deadline)
            body = self._read_body(head, deadline)
        except TimeoutError as error:
            raise AnswerTimeout("the server did not answer in time") from error
        except OSError as error:
            raise Unreachable(f"the connection ended before the answer did: {error}", sent=True) from error
        self._keep_alive = head.keep_alive and not (head.length() is None and not head.chunked)
        self.used = True
        return Answer(head.status, head.headers, body)

    def _send(self, parts: Sequence[Payload], deadline: Deadline) -> None:
        waiting = [memoryview(part).cast("B") for part in parts if len(part)]
        try:
            while waiting:
                self._socket.settimeout(deadline.left_s())
                if self._secure:
                    self._socket.sendall(waiting.pop(0))
                    continue
                sent = self._socket.sendmsg(waiting[:_SENT_AT_ONCE])
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting.pop(0))
                if sent:
                    waiting[0] = waiting[0][sent:]
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a large request answers and closes before it has read it all: its reason is there.
            return

    def _receive(self, deadline: Deadline) -> None:
        self._socket.settimeout(deadline.left_s())
        piece = self._socket.recv(_PIECE_BYTES)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        self._unread += piece

    def _read_until(self, end: bytes, deadline: Deadline) -> bytes:
        while (at := self._unread.find(end)) < 0:
            if len(self._unread) > MAX_HEAD_BYTES:
                raise BadAnswer(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes")
            self._receive(deadline)
        line = bytes(self._unread[:at])
        del self._unread[: at + len(end)]
        return line

    def _read_head(self, deadline: Deadline) -> AnswerHead:
        return parse_head(self._read_until(END_OF_HEAD, deadline))

    def _read_body(self, head: AnswerHead, deadline: Deadline) -> memoryview:
        if head.chunked:
            return self._read_chunks(deadline)
        length = head.length()
        if length is None:
            return self._read_to_end(deadline)
        buffer = body_buffer(head, length)
        self._read_into(buffer, deadline)
        return buffer

    def _read_into(self, buffer: memoryview, deadline: Deadline) -> None:
        done = min(len(self._unread), len(buffer))
        buffer[:done] = self._unread[:done]
        del self._unread[:done]
        while done < len(buffer):
            self._socket.settimeout(deadline.left_s())
            count = self._socket.recv_into(buffer[done:])
            if not count:
                raise ConnectionResetError("the server closed the connection")
            done += count

    def _read_chunks(self, deadline: Deadline) -> memoryview:
        body = bytearray()
        while size := chunk_size(self._read_until(b"\r\n", deadline)):
            if len(body) + size > MAX_BODY_BYTES:
                raise BadAnswer(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            piece = memoryview(bytearray(size + 2))
            self._read_into(piece, deadline)
            body += piece[:size]
        while self._read_until(b"\r\n", deadline):
            pass  # trailer fields
        return memoryview(body)

    def _read_to_end(self, deadline: Deadline) -> memoryview:
        while len(self._unread) <= MAX_BODY_BYTES:
            try:
                self._receive(deadline)
            except ConnectionResetError:
                break
        body, self._unread = self._unread, bytearray()
        return memoryview(body)


def _connected(address: Address, context: ssl.SSLContext | None, deadline: Deadline) -> socket.socket:
    if address.path is not None:
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.settimeout(deadline.left_s())
            connected.connect(address.path)
        except OSError:
            connected.close()
            raise
        return connected
    connected = socket.create_connection((address.name, address.port), deadline.left_s())
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected if context is None else context.wrap_socket(connected, server_hostname=address.name)
    except OSError:
        connected.close()
        raise
