"""Keeps one server running: starts it, asks whether it lives, starts it again when it died, and replaces it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..control import (
    BreakerMoved,
    BreakerState,
    Done,
    Drain,
    Failed,
    Installed,
    Load,
    Ping,
    Ready,
    Reply,
    Request,
    SetRoutes,
    Unload,
)
from ..serving import ModelSettings
from .conversation import Answer, Conversation
from .crashes import CrashHistory
from .loop import Scheduler, Timer
from .model_state import Slot
from .replacement import Replacement
from .server_process import Spawn
from .vital_signs import SAMPLE_S, Signs, judge

_log = logging.getLogger(__name__)

_START_DEADLINE_S = 60.0
_LOAD_DEADLINE_S = 300.0
_DRAIN_PATIENCE_S = 5.0
_TERMINATE_PATIENCE_S = 2.0
_REPLACED_PATIENCE_S = 35.0
"""A server that was replaced may answer for so long what it had accepted; nobody waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The end of a server that nobody had ordered."""

    reason: str
    verdict: str | None
    """Why we killed it (see `vital_signs`); None where we did not."""
    loading: tuple[str, str] | None
    """Model and version that it was loading."""
    black_box: Path | None


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How the server is watched, and who hears of it."""

    ping_interval_s: float
    ping_deadline_s: float
    clock: Callable[[], float]
    look: Callable[[int, float], Signs]
    """What the kernel says of a process, at a time."""
    overdue: Callable[[Path | None], str | None]
    """Why a server that answers must be killed nevertheless: an execution that hangs."""
    on_ready: Callable[[], None]
    """The server accepts requests: time to load the models."""
    on_serving: Callable[[], None]
    """What was asked to be loaded is loaded, or has failed."""
    on_alive: Callable[[], None]
    """The server answered a ping."""
    on_breaker: Callable[[BreakerMoved], None]
    on_crash: Callable[[Crash], bool]
    """Returns whether a model is to blame: then the server itself is started again at once."""
    on_crash_loop: Callable[[str], None]
    on_left: Callable[[], None]
    """A server that was replaced is gone."""


class Supervisor:
    """The server as the rest of the agent sees it. Lives on the agent's loop."""

    def __init__(self, loop: Scheduler, spawn: Spawn) -> None:
        self._loop = loop
        self._spawn = spawn
        self._watch: Watch | None = None
        self._current: Conversation | None = None
        self._replacement: Replacement | None = None
        self._leaving: list[Conversation] = []
        self._started_s = 0.0
        self._timers: list[Timer] = []
        self._stopped: Callable[[], None] | None = None
        self._announced = False
        self._said: dict[tuple[str, ...], Request] = {}
        """What the server was told that a replacement must be told, too."""
        self.crashes = CrashHistory()

    @property
    def pid(self) -> int | None:
        """Process id of the server, where there is one."""
        return self._current.run.pid if self._current and self._current.run else None

    @property
    def incarnation(self) -> str | None:
        """Of the server that accepts requests; None where there is none."""
        return self._current.incarnation if self._current else None

    @property
    def grpc_address(self) -> str | None:
        """Where the server answers gRPC."""
        return self._current.grpc_address if self._current else None

    @property
    def alive(self) -> frozenset[str]:
        """Incarnations that may still count requests: the server's, and those of servers that leave or come."""
        coming = [self._replacement.server] if self._replacement else []
        every = [*self._leaving, *coming, *([self._current] if self._current else [])]
        return frozenset(each.incarnation for each in every if each.incarnation)

    def start(self) -> None:
        """Start the server. Replies are handled from `watch` on."""
        self._current = self._begin(paused=False)

    def watch(self, watch: Watch) -> None:
        """Begin to look after the server that was started."""
        self._watch = watch
        self._started_s = watch.clock()
        self._later(_START_DEADLINE_S, self._not_ready)

    def load(
        self,
        model: str,
        slot: Slot,
        directory: Path,
        done: Answer,
        *,
        settings: ModelSettings = ModelSettings(),  # noqa: B008 - immutable
        breaker: BreakerState = "closed",
        beside: bool = False,
    ) -> None:
        """Ask for a bundle to be loaded; does nothing where no server is ready."""
        load = Load(
            id=0,
            model=model,
            version=slot.version,
            bundle=slot.bundle,
            directory=str(directory),
            settings=settings,
            breaker=breaker,
            beside=beside,
        )

        def answered(reason: str | None) -> None:
            if reason is None:
                self._said["load", model, slot.version if beside else ""] = load
            done(reason)

        self._change(load, answered)

    def unload(self, model: str, version: str | None = None) -> None:
        """Ask for a model, or for one version of it, to be served no more."""
        self._said = {
            key: said
            for key, said in self._said.items()
            if not (isinstance(said, Load) and said.model == model and version in {None, said.version})
        }
        self._change(Unload(id=0, model=model, version=version), _ignore)

    def installed(self, models: tuple[Load, ...], held: tuple[str, ...] = ()) -> None:
        """Tell the server what it could load, and what it must not for a while."""
        self._said["installed",] = Installed(id=0, models=models, held=held)
        self._tell(self._said["installed",], _ignore)

    def set_routes(self, text: str, done: Answer) -> None:
        """Switch the routes of the server; without one, they are set when the next is ready."""

        def answered(reason: str | None) -> None:
            if reason is None:
                self._said["routes",] = SetRoutes(id=0, toml=text)
            done(reason)

        self._change(SetRoutes(id=0, toml=text), answered)

    def replace(self, done: Answer) -> None:
        """Start a second server on the same sockets, have it load what this one serves, then let this one leave."""
        if self.incarnation is None or self._stopped is not None:
            done("no server is ready that could be replaced")
        elif self._replacement is not None:
            done("the server is being replaced already")
        else:
            # Routes come last: they name models.
            said = tuple(sorted(self._said.values(), key=lambda request: isinstance(request, SetRoutes)))
            try:
                server = self._begin(paused=True)
            except OSError as error:
                done(f"a second server cannot be started: {error}")
                return
            self._replacement = Replacement(self._loop, server, said, self._took_over, done)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Let the server answer what it has accepted, then end it; `stopped` is called when it is gone."""
        self._stopped = stopped
        self._cancel_timers()
        self._abort_replacement("the agent stops")
        if self._current is not None:
            self._see_off(self._current, _DRAIN_PATIENCE_S)
        self._maybe_stopped()

    def kill(self) -> None:
        """End every server at once; for when the agent itself cannot start."""
        for each in (self._current, *self._leaving):
            if each is not None:
                each.kill("the agent ends")

    def _begin(self, *, paused: bool) -> Conversation:
        server = Conversation(self._loop, _late)
        server.run = self._spawn(
            lambda reply: self._heard(server, reply), lambda reason: self._gone(server, reason), paused=paused
        )
        return server

    def _change(self, request: Request, answer: Answer) -> None:
        """Ask something that changes what is served: a replacement that was not told begins too early."""
        if self.incarnation is not None:
            self._abort_replacement("what is served changes at the moment")
            self._tell(request, answer)

    def _tell(self, request: Request, answer: Answer) -> None:
        if self._current is not None and self._current.incarnation is not None:
            self._current.ask(request, _LOAD_DEADLINE_S, answer)

    def _heard(self, server: Conversation, reply: Reply) -> None:
        match reply:
            case Ready(incarnation=incarnation, grpc_address=address):
                server.incarnation, server.grpc_address = incarnation, address
                if server is self._current:
                    self._ready(server)
                elif self._replacement is not None and server is self._replacement.server:
                    self._replacement.ready()
            case Done() | Failed():
                server.answered(reply)
                self._announce()
            case BreakerMoved():
                if self._watch is not None and server is self._current:
                    self._watch.on_breaker(reply)

    def _ready(self, server: Conversation) -> None:
        self._cancel_timers()
        if self._watch is not None and self._stopped is None:
            _log.info("server %s is ready, process %s", server.incarnation, self.pid)
            self._later(self._watch.ping_interval_s, self._ping)
            self._announced = False
            self._watch.on_ready()
            self._announce()

    def _announce(self) -> None:
        if self._watch is None or self._announced or self._current is None or self._current.incarnation is None:
            return
        if self._current.loading is None:
            self._announced = True
            self._watch.on_serving()

    def _ping(self) -> None:
        watch, server = self._watch, self._current
        if watch is None or server is None or server.incarnation is None:
            return
        pulse: list[Timer] = []

        def answered(_: str | None) -> None:
            for timer in pulse:
                timer.cancel()
            watch.on_alive()
            why = watch.overdue(server.run.black_box if server.run else None)
            if why:
                server.kill(why, "busy")
            elif server is self._current:
                self._later(watch.ping_interval_s, self._ping)

        number = server.ask(Ping(id=0), watch.ping_deadline_s, answered)
        asked_s = watch.clock()

        def check(before: Signs | None) -> None:
            if not server.owes(number) or server.run is None:
                return
            now = watch.look(server.run.pid, watch.clock())
            verdict = judge(watch.clock() - asked_s, before, now, watch.ping_deadline_s)
            if verdict:
                server.kill(f"it did not answer for {watch.clock() - asked_s:.1f} s ({verdict})", verdict)
                return
            rests = before is not None and (before.state, before.cpu_ticks) == (now.state, now.cpu_ticks)
            pulse[:] = [self._loop.call_later(SAMPLE_S, lambda: check(before if rests else now))]

        pulse.append(self._loop.call_later(SAMPLE_S, lambda: check(None)))

    def _not_ready(self) -> None:
        if self._current is not None and self._current.incarnation is None:
            self._current.kill(f"it was not ready within {_START_DEADLINE_S:g} s")

    def _took_over(self, reason: str | None, done: Answer) -> None:
        """The replacement serves, or was given up."""
        replacement, self._replacement = self._replacement, None
        old = self._current
        if replacement is None:
            return
        if reason is not None or old is None:
            replacement.server.kill(reason or "there is nothing to replace")
            self._leaving.append(replacement.server)
        else:
            _log.info("server %s takes over from %s", replacement.server.incarnation, old.incarnation)
            self._current = replacement.server
            self._cancel_timers()
            self._leaving.append(old)
            self._see_off(old, _REPLACED_PATIENCE_S)
            if self._watch is not None:
                self._started_s = self._watch.clock()
                self._later(self._watch.ping_interval_s, self._ping)
        done(reason)

    def _abort_replacement(self, reason: str) -> None:
        if self._replacement is not None:
            self._replacement.give_up(reason)

    def _see_off(self, server: Conversation, patience_s: float) -> None:
        run = server.run
        if run is None:
            return
        if not run.send(Drain(id=0)):
            run.signal(signal.SIGTERM)
        self._loop.call_later(patience_s, lambda: run.signal(signal.SIGTERM))
        self._loop.call_later(patience_s + _TERMINATE_PATIENCE_S, lambda: run.signal(signal.SIGKILL))

    def _gone(self, server: Conversation, reason: str) -> None:
        reason = server.killed_because or reason
        loading = server.loading
        box = server.run.black_box if server.run else None
        crash = Crash(
            reason=reason,
            verdict=server.verdict,
            loading=(loading.model, loading.version) if loading else None,
            black_box=box,
        )
        server.over()
        if server is self._current:
            self._current = None
            self._lost(crash)
        elif self._replacement is not None and server is self._replacement.server:
            self._replacement.give_up(f"the new server ended: {reason}")
        if server in self._leaving:
            self._leaving.remove(server)
            if self._watch is not None and self._stopped is None:
                self._watch.on_left()
        if box is not None:
            box.unlink(missing_ok=True)
        self._maybe_stopped()

    def _lost(self, crash: Crash) -> None:
        if self._stopped is not None:
            return
        self._cancel_timers()
        self._abort_replacement("the old server died meanwhile")
        self._said.clear()
        if self._watch is not None:
            self._crashed(self._watch, crash, f"the server process ended: {crash.reason}")

    def _maybe_stopped(self) -> None:
        if self._stopped is not None and self._current is None and not self._leaving:
            self._stopped()

    def _crashed(self, watch: Watch, crash: Crash, reason: str) -> None:
        now_s = watch.clock()
        blamed = watch.on_crash(crash)
        delay_s = self.crashes.crashed(now_s, now_s - self._started_s, blamed=blamed)
        _log.error("%s; starting it again in %.1f s", reason, delay_s)
        if self.crashes.take_loop():
            watch.on_crash_loop(f"crash loop: {reason}")
        self._later(delay_s, self._restart)

    def _restart(self) -> None:
        if self._stopped is None and self._watch is not None:
            self._started_s = self._watch.clock()
            try:
                self.start()
            except OSError as error:
                reason = f"the server process cannot be started: {error}"
                nothing = Crash(reason=reason, verdict=None, loading=None, black_box=None)
                self._crashed(self._watch, nothing, reason)
                return
            self._later(_START_DEADLINE_S, self._not_ready)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        self._timers.append(self._loop.call_later(delay_s, call))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _late(server: Conversation, deadline_s: float) -> None:
    server.kill(f"it did not answer within {deadline_s:g} s", "busy")


def _ignore(_: str | None) -> None:
    """Nobody waits for this answer."""
