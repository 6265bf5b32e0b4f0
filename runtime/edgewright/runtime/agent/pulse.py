"""One question to the server whether it lives, and a look at the process while the answer is owed."""

from __future__ import annotations

from collections.abc import Callable

from ..control import Ping
from .conversation import Conversation
from .loop import Scheduler, Timer
from .vital_signs import SAMPLE_S, Signs, judge
from .watch import Watch


class Pulse:
    """Kills a server that is dead by the rules of `vital_signs`; `answered` is called for one that is not."""

    def __init__(self, loop: Scheduler, watch: Watch, server: Conversation, answered: Callable[[], None]) -> None:
        self._loop = loop
        self._watch = watch
        self._server = server
        self._answered = answered
        self._number = 0
        self._asked_s = 0.0
        self._timer: Timer | None = None
        self._before: Signs | None = None

    def ask(self) -> None:
        """Ask."""
        self._asked_s = self._watch.clock()
        self._timer = self._loop.call_later(SAMPLE_S, self._look)
        self._number = self._server.ask(Ping(id=0), self._watch.ping_deadline_s, self._heard)

    def _heard(self, reason: str | None) -> None:
        del reason  # even a refusal is a sign of life
        if self._timer is not None:
            self._timer.cancel()
        self._answered()

    def _look(self) -> None:
        run = self._server.run
        if run is None or not self._server.owes(self._number):
            return
        now_s = self._watch.clock()
        silent_s = now_s - self._asked_s
        now = self._watch.look(run.pid, now_s)
        verdict = judge(silent_s, self._before, now, self._watch.ping_deadline_s)
        if verdict:
            self._server.kill(f"it did not answer for {silent_s:.1f} s ({verdict})", verdict)
            return
        before = self._before
        if before is None or (before.state, before.cpu_ticks) != (now.state, now.cpu_ticks):
            self._before = now
        self._timer = self._loop.call_later(SAMPLE_S, self._look)
