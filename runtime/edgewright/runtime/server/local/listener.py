"""Takes connections from a listening SOCK_SEQPACKET Unix socket that belongs to the agent; compare `http.listener`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

from ..http.connections import Connections
from ..http.messages import Handler, error_response
from ..limits import Limits
from ..refusal import Refusal
from .connection import TensorConnection, reply_message
from .descriptors import peer_uid, send, stop_receiving

_log = logging.getLogger(__name__)
_TURN = 32


class TensorListener:
    """One listening socket. All methods are called on the event loop."""

    def __init__(
        self, listening: socket.socket, handler: Handler, limits: Limits, uids: frozenset[int] = frozenset()
    ) -> None:
        """Prepare to listen; root, the user who runs the server and the users in `uids` may connect."""
        if (listening.family, listening.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            raise ValueError("a listener of kind 'tensors' needs a Unix socket of type SOCK_SEQPACKET")
        listening.setblocking(False)
        self._socket = listening
        self._handler = handler
        self._limits = limits
        self._uids = uids | {0, os.geteuid()}
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
        """Take no more connections."""
        self._stopped = True
        self._pause()
        self._socket.close()

    def sweep(self, now_s: float) -> None:
        """End what has taken too long, and see whether there is room again. Call about once a second."""
        self.connections.sweep(now_s)
        if len(self.connections) < self._limits.connections:
            self._go_on()

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _accept(self) -> None:
        for _ in range(_TURN):
            if len(self.connections) >= self._limits.connections:
                self._pause()
                return
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept a connection: %s", error)
                self._pause()  # out of file descriptors or memory: `sweep` tries again in a second
                return
            self._start(accepted)

    def _start(self, accepted: socket.socket) -> None:
        uid = peer_uid(accepted)
        if uid in self._uids:
            TensorConnection(accepted, self._handler, self._limits, self.connections).start()
            return
        _log.warning("a client of user %d is not let in", uid)
        with accepted:
            stop_receiving(accepted)
            refusal = Refusal(403, f"user {uid} may not use this socket; its server lets in {sorted(self._uids)}")
            with contextlib.suppress(OSError):  # it did not wait for the reason
                send(accepted, *reply_message(0, error_response(refusal)))
