"""Keeps one server running: starts it, asks whether it lives, starts it again when it died, and replaces it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..control import (
    BreakerMoved,
    Done,
    Failed,
    Ready,
    Reply,
    Request,
)
from .conversation import Answer, Conversation
from .crashes import CrashHistory
from .departure import Departures
from .loop import Scheduler
from .orders import Orders
from .pulse import Pulse
from .replacement import Replacement
from .server_process import Spawn
from .timers import Timers
from .watch import Crash, Watch

_log = logging.getLogger(__name__)

_START_DEADLINE_S = 60.0
_LOAD_DEADLINE_S = 300.0
_DRAIN_PATIENCE_S = 5.0
_REPLACED_PATIENCE_S = 35.0
"""A server that was replaced may answer for so long what it had accepted; nobody waits for it."""


class Supervisor:
    """The server as the rest of the agent sees it. Lives on the agent's loop."""

    def __init__(self, loop: Scheduler, spawn: Spawn) -> None:
        self._loop = loop
        self._spawn = spawn
        self._watch: Watch | None = None
        self._current: Conversation | None = None
        self._replacement: Replacement | None = None
        self._leaving = Departures(loop)
        self._started_s = 0.0
        self._timers = Timers(loop)
        self._stopped: Callable[[], None] | None = None
        self._announced = False
        self.orders = Orders(self._change, self._tell, lambda: self.incarnation)
        """What is to be served; for the rest of the agent."""
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
        every = [*self._leaving.servers, *coming, *([self._current] if self._current else [])]
        return frozenset(each.incarnation for each in every if each.incarnation)

    def start(self) -> None:
        """Start the server. Replies are handled from `watch` on."""
        self._current = self._begin(paused=False)

    def watch(self, watch: Watch) -> None:
        """Begin to look after the server that was started."""
        self._watch = watch
        self._started_s = watch.clock()
        self._timers.later(_START_DEADLINE_S, self._not_ready)

    def replace(self, done: Answer) -> None:
        """Start a second server on the same sockets, have it load what this one serves, then let this one leave."""
        if self.incarnation is None or self._stopped is not None:
            done("no server is ready that could be replaced")
        elif self._replacement is not None:
            done("the server is being replaced already")
        else:
            try:
                server = self._begin(paused=True)
            except OSError as error:
                done(f"a second server cannot be started: {error}")
                return
            self._replacement = Replacement(self._loop, server, self.orders.told.in_order(), self._took_over, done)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Let the server answer what it has accepted, then end it; `stopped` is called when it is gone."""
        self._stopped = stopped
        self._timers.cancel()
        self._abort_replacement("the agent stops")
        if self._current is not None:
            self._leaving.see_off(self._current, _DRAIN_PATIENCE_S)
        self._maybe_stopped()

    def kill(self) -> None:
        """End every server at once; for when the agent itself cannot start."""
        for each in (self._current, *self._leaving.servers):
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
        self._timers.cancel()
        if self._watch is not None and self._stopped is None:
            _log.info("server %s is ready, process %s", server.incarnation, self.pid)
            self._timers.later(self._watch.ping_interval_s, self._ping)
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
        if watch is not None and server is not None and server.incarnation is not None:
            Pulse(self._loop, watch, server, lambda: self._answered(watch, server)).ask()

    def _answered(self, watch: Watch, server: Conversation) -> None:
        watch.on_alive()
        why = watch.overdue(server.run.black_box if server.run else None)
        if why:
            server.kill(why, "busy")
        elif server is self._current:
            self._timers.later(watch.ping_interval_s, self._ping)

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
            self._leaving.add(replacement.server)
        else:
            _log.info("server %s takes over from %s", replacement.server.incarnation, old.incarnation)
            self._current = replacement.server
            self._timers.cancel()
            self._leaving.add(old)
            self._leaving.see_off(old, _REPLACED_PATIENCE_S)
            if self._watch is not None:
                self._started_s = self._watch.clock()
                self._timers.later(self._watch.ping_interval_s, self._ping)
        done(reason)

    def _abort_replacement(self, reason: str) -> None:
        if self._replacement is not None:
            self._replacement.give_up(reason)

    def _gone(self, server: Conversation, reason: str) -> None:
        crash = _crash(server, reason)
        server.over()
        if server is self._current:
            self._current = None
            self._lost(crash)
        elif self._replacement is not None and server is self._replacement.server:
            self._replacement.give_up(f"the new server ended: {crash.reason}")
        if self._leaving.gone(server) and self._watch is not None and self._stopped is None:
            self._watch.on_left()
        if crash.black_box is not None:
            crash.black_box.unlink(missing_ok=True)
        self._maybe_stopped()

    def _lost(self, crash: Crash) -> None:
        if self._stopped is not None:
            return
        self._timers.cancel()
        self._abort_replacement("the old server died meanwhile")
        self.orders.told.clear()
        if self._watch is not None:
            self._crashed(self._watch, crash, f"the server process ended: {crash.reason}")

    def _maybe_stopped(self) -> None:
        if self._stopped is not None and self._current is None and not self._leaving.servers:
            self._stopped()

    def _crashed(self, watch: Watch, crash: Crash, reason: str) -> None:
        now_s = watch.clock()
        blamed = watch.on_crash(crash)
        delay_s = self.crashes.crashed(now_s, now_s - self._started_s, blamed=blamed)
        why = "; see: edgewright device logs --of server" if "exit code" in reason else ""
        _log.error("%s; starting it again in %.1f s%s", reason, delay_s, why)
        if self.crashes.take_loop():
            watch.on_crash_loop(f"crash loop: {reason}")
        self._timers.later(delay_s, self._restart)

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
            self._timers.later(_START_DEADLINE_S, self._not_ready)


def _crash(server: Conversation, reason: str) -> Crash:
    loading = server.loading
    return Crash(
        reason=server.killed_because or reason,
        verdict=server.verdict,
        loading=(loading.model, loading.version) if loading else None,
        black_box=server.run.black_box if server.run else None,
    )


def _late(server: Conversation, deadline_s: float) -> None:
    server.kill(f"it did not answer within {deadline_s:g} s", "busy")
