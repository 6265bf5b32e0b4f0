"""A second server on the same listening sockets, on its way to take over from the first without a gap.

    started, accepts nothing --Ready--> told what the first was told, loads what it serves --all done--> Accept --> over

Anything else that happens ends the attempt: the first server never notices.
"""

from __future__ import annotations

from collections.abc import Callable

from ..control import Accept, Request
from .conversation import Answer, Conversation
from .loop import Scheduler

_READY_DEADLINE_S = 60.0
_LOAD_DEADLINE_S = 300.0


class Replacement:
    """Lives on the agent's loop. `end` gets None when the new server accepts requests, else why it never will."""

    def __init__(
        self,
        loop: Scheduler,
        server: Conversation,
        said: tuple[Request, ...],
        end: Callable[[str | None, Answer], None],
        done: Answer,
    ) -> None:
        self.server = server
        self._said = list(said)
        self._end = end
        self._done = done
        self._over = False
        self._timer = loop.call_later(_READY_DEADLINE_S, lambda: self.give_up("the new server was not ready in time"))

    def ready(self) -> None:
        """The new server listens to us."""
        self._timer.cancel()
        self._next(None)

    def give_up(self, reason: str) -> None:
        """End the attempt."""
        self._finish(reason)

    def _next(self, reason: str | None) -> None:
        if self._over:
            return
        if reason is not None:
            self._finish(f"the new server refuses what the old one serves: {reason}")
        elif self._said:
            self.server.ask(self._said.pop(0), _LOAD_DEADLINE_S, self._next)
        else:
            self.server.ask(Accept(id=0), _READY_DEADLINE_S, self._finish)

    def _finish(self, reason: str | None) -> None:
        if not self._over:
            self._over = True
            self._timer.cancel()
            self._end(reason, self._done)
