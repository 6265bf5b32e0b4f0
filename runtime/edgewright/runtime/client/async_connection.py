"""One connection to a server, on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from .address import Address
from .errors import BadAnswer, Unreachable
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

_PIECE_BYTES = 256 * 1024


class AsyncConnection:
    """A pair of streams. Used by one call at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._keep_alive = True
        self.used = False
        """Whether an answer has come over it before."""

    @classmethod
    async def connect(cls, address: Address, context: ssl.SSLContext | None) -> Self:
        """Connect.

        Raises:
            Unreachable: nobody listens there, or the TLS handshake failed.
        """
        try:
            if address.path is not None:
                streams = await asyncio.open_unix_connection(address.path, limit=MAX_HEAD_BYTES)
            else:
                streams = await asyncio.open_connection(address.name, address.port, ssl=context, limit=MAX_HEAD_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise Unreachable(f"{address} could not be connected to: {error}", sent=False) from error
        return cls(*streams)

    @property
    def usable(self) -> bool:
        """False where the server has closed it."""
        return self._keep_alive and not self._reader.at_eof() and not self._writer.is_closing()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def exchange(self, request: Outgoing) -> Answer:
        """Send a request and return the answer.

        Raises:
            Unreachable: the connection ended.
            BadAnswer: what came is not HTTP.
        """
        try:
            await self._send((request_head(request), *request.body))
            head = parse_head(await self._line(END_OF_HEAD))
            while head.interim:
                head = parse_head(await self._line(END_OF_HEAD))
            body = await self._read_body(head)
        except asyncio.IncompleteReadError as error:
            raise Unreachable("the server closed the connection before the answer ended", sent=True) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise Unreachable(f"the connection ended before the answer did: {error}", sent=True) from error
        self._keep_alive = head.keep_alive and not (head.length() is None and not head.chunked)
        self.used = True
        return Answer(head.status, head.headers, body)

    async def _send(self, parts: Sequence[Payload]) -> None:
        self._writer.writelines([part for part in parts if len(part)])
        # A server that refuses a large request answers before it has read it all, and closes: its reason is there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._writer.drain()

    async def _line(self, end: bytes) -> bytes:
        try:
            line = await self._reader.readuntil(end)
        except asyncio.LimitOverrunError as error:
            raise BadAnswer(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes") from error
        return line[: -len(end)]

    async def _read_body(self, head: AnswerHead) -> memoryview:
        if head.chunked:
            return await self._read_chunks()
        length = head.length()
        if length is None:
            body = bytearray()
            while piece := await self._reader.read(_PIECE_BYTES):
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise BadAnswer(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            return memoryview(body)
        buffer = body_buffer(head, length)
        done = 0
        while done < length:
            piece = await self._reader.read(min(length - done, _PIECE_BYTES))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            buffer[done : done + len(piece)] = piece
            done += len(piece)
        return buffer

    async def _read_chunks(self) -> memoryview:
        body = bytearray()
        while size := chunk_size(await self._line(b"\r\n")):
            if len(body) + size > MAX_BODY_BYTES:
                raise BadAnswer(f"the answer is larger than {MAX_BODY_BYTES} bytes")
            body += (await self._reader.readexactly(size + 2))[:size]
        while await self._line(b"\r\n"):
            pass  # trailer fields
        return memoryview(body)
