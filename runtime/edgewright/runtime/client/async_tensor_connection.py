"""The same connection over which memory is shared, on an event loop: with `recvmsg`, which streams do not have."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Self

from ..server.local.descriptors import receive, send
from ..server.local.frames import BadFrame
from .address import Address
from .errors import BadAnswer, Unreachable
from .http1 import Answer, Outgoing
from .tensor_messages import TensorMessages


class AsyncTensorConnection:
    """A socket of datagrams, each with a body or with the memory in which it is. Used by one call at a time."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._messages = TensorMessages()

    @classmethod
    def connect(cls, address: Address) -> Self:
        """Connect, which needs no waiting: a Unix socket takes a connection at once, or its backlog is full.

        Raises:
            Unreachable: nobody listens there, or too many wait.
        """
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            connected.connect(address.path or "")
        except OSError as error:
            connected.close()
            raise Unreachable(f"{address} could not be connected to: {error}", sent=False) from error
        return cls(connected)

    @property
    def used(self) -> bool:
        """Whether an answer has come over it before."""
        return self._messages.used

    @property
    def usable(self) -> bool:
        """False where the server has closed it, or has said what nobody asked."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        self._socket.close()

    async def wait_closed(self) -> None:
        self._socket.close()

    async def exchange(self, request: Outgoing) -> Answer:
        """Send a request and return the answer.

        Raises:
            Unreachable: the connection ended.
            BadAnswer: what came is no answer.
            ValueError: the name of the model is too long for a message.
            OSError: no memory or descriptor is left for the tensors.
        """
        message, descriptor = self._messages.spell(request)
        try:
            refused = await self._send(message, descriptor)
            received = await self._once(receive, asyncio.get_running_loop().add_reader)
        except BadFrame as error:
            raise BadAnswer(f"the answer is none: {error}") from error
        except OSError as error:
            raise Unreachable(f"the connection ended before the answer did: {error}", sent=True) from error
        if not received.data:
            raise Unreachable("the server closed the connection before it answered", sent=not refused)
        return self._messages.answer(received)

    async def _send(self, message: bytes, descriptor: int | None) -> bool:
        """Send a request; true where the server had closed before it was sent, and may have said why."""
        try:
            await self._once(
                lambda connection: send(connection, message, descriptor), asyncio.get_running_loop().add_writer
            )
        except BrokenPipeError:
            return True
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return False

    async def _once(self, act: Callable[[socket.socket], Any], add: Callable[..., Any]) -> Any:
        """Do something with the socket, as soon as it would not block."""
        loop = asyncio.get_running_loop()
        remove = loop.remove_reader if add == loop.add_reader else loop.remove_writer
        while True:
            try:
                return act(self._socket)
            except (BlockingIOError, InterruptedError):
                ready: asyncio.Future[None] = loop.create_future()
                add(self._socket, _wake, ready)
                try:
                    await ready
                finally:
                    remove(self._socket)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
