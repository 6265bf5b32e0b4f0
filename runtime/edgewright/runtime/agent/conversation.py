"""One run of the server: what was asked of it, what it still owes, and by when."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ..control import Done, Failed, Load, Request
from .loop import Scheduler, Timer
from .server_process import ServerRun

Answer = Callable[[str | None], None]
"""Gets None where the request was carried out, else the reason."""


@dataclass(frozen=True, slots=True)
class _Owed:
    request: Request
    answer: Answer
    timer: Timer


class Conversation:
    """Lives on the agent's loop."""

    _ids = itertools.count(1)

    def __init__(self, loop: Scheduler, late: Callable[[Conversation, float], None]) -> None:
        self._loop = loop
        self._late = late
        self._owed: dict[int, _Owed] = {}
        self.run: ServerRun | None = None
        self.incarnation: str | None = None
        """Of a server that is ready."""
        self.grpc_address: str | None = None
        self.killed_because = ""
        self.verdict: str | None = None
        """Why it was killed, in one word (see `vital_signs`)."""

    @property
    def loading(self) -> Load | None:
        """The load that the server is at: it makes one change after the other."""
        return next((owed.request for owed in self._owed.values() if isinstance(owed.request, Load)), None)

    def ask(self, request: Request, deadline_s: float, answer: Answer) -> int:
        """Send a request under a number of its own, which is returned; a late answer, or none, is told to `late`."""
        number = next(self._ids)
        request = msgspec.structs.replace(request, id=number)
        timer = self._loop.call_later(deadline_s, lambda: self._late(self, deadline_s) if self.owes(number) else None)
        self._owed[number] = _Owed(request, answer, timer)
        if self.run is None or not self.run.send(request):
            self.kill("it does not read its control channel")
        return number

    def owes(self, number: int) -> bool:
        """Whether a request has no answer yet."""
        return number in self._owed

    def answered(self, reply: Done | Failed) -> None:
        """Hand an answer to whoever asked; one that nobody asked for is nobody's."""
        if isinstance(reply, Done) and "grpc_address" in reply.detail:  # of one that was told to accept just now
            self.grpc_address = str(reply.detail["grpc_address"])
        owed = self._owed.pop(reply.id, None)
        if owed is not None:
            owed.timer.cancel()
            owed.answer(reply.reason if isinstance(reply, Failed) else None)

    def kill(self, reason: str, verdict: str | None = None) -> None:
        """`kill -9`; the first reason is told when it is gone."""
        if self.run is not None and not self.killed_because:
            self.killed_because, self.verdict = reason, verdict
            self.run.signal(signal.SIGKILL)

    def over(self) -> None:
        """The process is gone; nothing that it owes will come."""
        for owed in self._owed.values():
            owed.timer.cancel()
        self._owed.clear()
        self.incarnation = None
