"""Takes connections from a listening socket, whatever is spoken on them.

The sockets of HTTP/1.1 are inherited from the agent: what the kernel has queued on one survives this process and waits
for the next one. Connections are taken only while there is room, so that a crowd waits in that queue instead of in our
memory. Each listener has room of its own: clients on TCP cannot shut out the agent on the Unix socket.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..limits import Limits
from .connections import Connections

if TYPE_CHECKING:  # OpenSSL stays outside where no listener speaks TLS
    import ssl

_log = logging.getLogger(__name__)
_TURN = 32
_HANDSHAKE_S = 10.0
"""A client that connects and never says hello must not keep its place among the connections."""

Connected = Callable[[Connections], asyncio.Protocol]
"""Returns what speaks with a client that has connected, and that keeps itself in the set of connections."""


class Listener:
    """One listening socket. All methods are called on the event loop."""

    def __init__(
        self, listening: socket.socket, connected: Connected, limits: Limits, tls: ssl.SSLContext | None = None
    ) -> None:
        listening.setblocking(False)
        self._socket = listening
        self._connected = connected
        self._limits = limits
        self._tls = tls
        self._starting: set[asyncio.Task[None]] = set()
        self._begun = False
        self._accepting = False
        self._stopped = False
        self.connections = Connections(limits)
        self.connections.on_room = self._go_on

    def resume(self) -> None:
        """Take connections: until then they wait in the kernel, for whoever is in service."""
        self._begun = True
        self._go_on()

    def _go_on(self) -> None:
        if self._begun and not self._accepting and not self._stopped:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def stop(self) -> None:
        """Take what the kernel has queued by now, and no more; all that was taken is set up when this returns.

        Where nobody else listens on the socket, whoever is left in its queue is reset when it is closed. A listener
        that has not begun leaves the queue to the server that it should have followed.
        """
        self._stopped = True
        self._pause()
        while self._begun and self._accept_one():
            pass
        self._socket.close()
        if self._starting:
            await asyncio.wait(self._starting)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _accept(self) -> None:
        for _ in range(_TURN):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        """Take one connection; False where there is none, or no room for it."""
        if len(self.connections) + len(self._starting) >= self._limits.connections:
            self._pause()
            return False
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            _log.error("cannot accept a connection: %s", error)
            self._pause()  # out of file descriptors or memory: `sweep` tries again in a second
            return False
        task = asyncio.get_running_loop().create_task(self._start(accepted))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _start(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._connected(self.connections),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_S,
            )
        except OSError as error:
            _log.info("a connection ended before it began: %s", error)
            accepted.close()

    def sweep(self, now_s: float) -> None:
        """End what has taken too long, and see whether there is room again. Call about once a second."""
        self.connections.sweep(now_s)
        if len(self.connections) < self._limits.connections:
            self._go_on()
