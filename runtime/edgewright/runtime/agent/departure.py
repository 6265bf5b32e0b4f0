"""Servers on their way out: they answer what they have accepted, and whoever takes too long is ended."""

from __future__ import annotations

import signal

from ..control import Drain
from .conversation import Conversation
from .loop import Scheduler

_TERMINATE_PATIENCE_S = 2.0


class Departures:
    """Servers that were replaced and still live. Lives on the agent's loop."""

    def __init__(self, loop: Scheduler) -> None:
        self._loop = loop
        self.servers: list[Conversation] = []

    def add(self, server: Conversation) -> None:
        """It has no part in serving any more, but lives."""
        self.servers.append(server)

    def gone(self, server: Conversation) -> bool:
        """A server has ended; returns whether it was one of these."""
        if server not in self.servers:
            return False
        self.servers.remove(server)
        return True

    def see_off(self, server: Conversation, patience_s: float) -> None:
        """Have a server answer what it has accepted: SIGTERM after so many seconds, SIGKILL two seconds later."""
        run = server.run
        if run is None:
            return
        if not run.send(Drain(id=0)):
            run.signal(signal.SIGTERM)
        self._loop.call_later(patience_s, lambda: run.signal(signal.SIGTERM))
        self._loop.call_later(patience_s + _TERMINATE_PATIENCE_S, lambda: run.signal(signal.SIGKILL))
