"""Keeps one server running: starts it, asks whether it lives, starts it again after a growing pause when it died."""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..control import Done, Drain, Failed, Load, Ping, Ready, Reply, Request, Unload
from .crashes import CrashHistory
from .loop import Scheduler, Timer
from .model_state import Slot
from .server_process import ServerRun, Spawn

_log = logging.getLogger(__name__)

_START_DEADLINE_S = 60.0
_LOAD_DEADLINE_S = 300.0
_DRAIN_PATIENCE_S = 5.0
_TERMINATE_PATIENCE_S = 2.0

Answer = Callable[[str | None], None]
"""Gets None where the request was carried out, else the reason."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How the server is watched, and who hears of it."""

    ping_interval_s: float
    ping_deadline_s: float
    clock: Callable[[], float]
    on_ready: Callable[[], None]
    """The server accepts requests: time to load the models."""
    on_serving: Callable[[], None]
    """What was asked to be loaded is loaded, or has failed."""
    on_alive: Callable[[], None]
    """The server answered a ping."""
    on_crash: Callable[[str], None]
    on_crash_loop: Callable[[str], None]


@dataclass
class _Pending:
    answer: Answer
    timer: Timer


class Supervisor:
    """The server as the rest of the agent sees it. Lives on the agent's loop."""

    def __init__(self, loop: Scheduler, spawn: Spawn) -> None:
        self._loop = loop
        self._spawn = spawn
        self._watch: Watch | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._run: ServerRun | None = None
        self._started_s = 0.0
        self._timers: list[Timer] = []
        self._killed_because = ""
        self._stopped: Callable[[], None] | None = None
        self._loading: set[int] = set()
        self._announced = False
        self.incarnation: str | None = None
        """Of the server that accepts requests; None where there is none."""
        self.crashes = CrashHistory()

    @property
    def pid(self) -> int | None:
        """Process id of the server, where there is one."""
        return self._run.pid if self._run else None

    def start(self) -> None:
        """Start the server. Replies are handled from `watch` on."""
        self._run = self._spawn(self._heard, self._gone)

    def watch(self, watch: Watch) -> None:
        """Begin to look after the server that was started."""
        self._watch = watch
        self._started_s = watch.clock()
        self._later(_START_DEADLINE_S, self._not_ready)

    def load(self, model: str, slot: Slot, directory: Path, done: Answer) -> None:
        """Ask for a bundle to be loaded; does nothing where no server is ready."""
        if self.incarnation is None:
            return
        number = next(self._ids)
        self._loading.add(number)
        self._ask(
            Load(id=number, model=model, version=slot.version, bundle=slot.bundle, directory=str(directory)),
            _LOAD_DEADLINE_S,
            done,
        )

    def unload(self, model: str) -> None:
        """Ask for a model to be served no more."""
        if self.incarnation is not None:
            self._ask(Unload(id=next(self._ids), model=model), _LOAD_DEADLINE_S, _ignore)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Let the server answer what it has accepted, then end it; `stopped` is called when it is gone."""
        self._stopped = stopped
        self._cancel_timers()
        run = self._run
        if run is None:
            stopped()
            return
        if not run.send(Drain(id=next(self._ids))):
            run.signal(signal.SIGTERM)
        self._later(_DRAIN_PATIENCE_S, lambda: run.signal(signal.SIGTERM))
        self._later(_DRAIN_PATIENCE_S + _TERMINATE_PATIENCE_S, lambda: run.signal(signal.SIGKILL))

    def kill(self) -> None:
        """End the server at once; for when the agent itself cannot start."""
        if self._run is not None:
            self._run.signal(signal.SIGKILL)

    def _ask(self, request: Request, deadline_s: float, answer: Answer) -> None:
        run = self._run
        if run is None:
            return
        number = request.id
        timer = self._loop.call_later(deadline_s, lambda: self._hung(number, deadline_s))
        self._pending[number] = _Pending(answer, timer)
        if not run.send(request):
            self._kill("it does not read its control channel")

    def _heard(self, reply: Reply) -> None:
        match reply:
            case Ready(incarnation=incarnation):
                self._ready(incarnation)
            case Done(id=number) | Failed(id=number):
                pending = self._pending.pop(number, None)
                if pending is not None:
                    pending.timer.cancel()
                    pending.answer(reply.reason if isinstance(reply, Failed) else None)
                self._loading.discard(number)
                self._announce()

    def _ready(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self._cancel_timers()
        if self._watch is not None and self._stopped is None:
            _log.info("server %s is ready, process %s", incarnation, self.pid)
            self._later(self._watch.ping_interval_s, self._ping)
            self._announced = False
            self._watch.on_ready()
            self._announce()

    def _announce(self) -> None:
        if self._watch is not None and not self._announced and not self._loading and self.incarnation is not None:
            self._announced = True
            self._watch.on_serving()

    def _ping(self) -> None:
        if self._watch is None or self.incarnation is None:
            return
        watch = self._watch

        def answered(_: str | None) -> None:
            watch.on_alive()
            self._later(watch.ping_interval_s, self._ping)

        self._ask(Ping(id=next(self._ids)), watch.ping_deadline_s, answered)

    def _hung(self, number: int, deadline_s: float) -> None:
        if number in self._pending:
            self._kill(f"it did not answer within {deadline_s:g} s")

    def _not_ready(self) -> None:
        if self.incarnation is None:
            self._kill(f"it was not ready within {_START_DEADLINE_S:g} s")

    def _kill(self, reason: str) -> None:
        if self._run is not None:
            self._killed_because = reason
            self._run.signal(signal.SIGKILL)

    def _gone(self, reason: str) -> None:
        reason, self._killed_because = self._killed_because or reason, ""
        self._run, self.incarnation = None, None
        self._cancel_timers()
        for pending in self._pending.values():
            pending.timer.cancel()
        self._pending.clear()
        self._loading.clear()
        if self._stopped is not None:
            self._stopped()
        elif self._watch is not None:
            self._crashed(self._watch, f"the server process ended: {reason}")

    def _crashed(self, watch: Watch, reason: str) -> None:
        now_s = watch.clock()
        delay_s = self.crashes.crashed(now_s, now_s - self._started_s)
        _log.error("%s; starting it again in %.1f s", reason, delay_s)
        watch.on_crash(reason)
        if self.crashes.take_loop():
            watch.on_crash_loop(f"crash loop: {reason}")
        self._later(delay_s, self._restart)

    def _restart(self) -> None:
        if self._stopped is None and self._watch is not None:
            self._started_s = self._watch.clock()
            try:
                self.start()
            except OSError as error:
                self._crashed(self._watch, f"the server process cannot be started: {error}")
                return
            self._later(_START_DEADLINE_S, self._not_ready)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        self._timers.append(self._loop.call_later(delay_s, call))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _ignore(_: str | None) -> None:
    """Nobody waits for this answer."""
