"""The loop that makes rollouts go on: read rows, ask the core, carry out what it says, tell the devices.

Level-triggered: a step looks only at what is in the database, never at what changed since the last one. So a server
that was killed at any moment goes on where the last committed transaction left it, and a lost message is sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from sqlalchemy import Connection

from .collecting import uncollected
from .commands import carry_out
from .core import rollout as core
from .core.gates.status import GateStatus
from .core.rows import Rollout
from .ingest.downlink import Postbox
from .ingest.downlink import desired as desired_letter
from .periodic import Periodic
from .sight import Sight
from .store import desired, rollouts, windows
from .store.database import Database

log = logging.getLogger(__name__)

PERIOD_S = 1.0
RESEND_S = 15.0
"""An order that a listening device has not reported on is sent again after this time."""
LISTENING_S = 180.0
"""A device that was heard within this time is taken to listen."""
LOOK_S = 3.0
"""How often orders are looked for that nobody answered."""
MOST_LETTERS = 2000
"""Sent in one step; the others follow in the next ones. Orders are given no faster (core/orders/orders.py)."""
MOST_READ = 20_000
"""After a start, a step that read more devices and orders than this leaves the decisions to the next one."""


class Reconciler:
    """`step` does everything once; `start` calls it every second from a thread of its own."""

    def __init__(
        self,
        database: Database,
        postbox: Postbox,
        *,
        telemetry_revision: Callable[[], int],
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._database = database
        self._postbox = postbox
        self._clock = clock
        self._sight = Sight(telemetry_revision=telemetry_revision, stopwatch=stopwatch)
        self._sent: dict[str, tuple[int, float]] = {}
        self._due: set[str] = set()
        self._looked_s = 0.0
        self._gates: dict[str, tuple[GateStatus, ...]] = {}
        self._is_first = True
        self._loop = Periodic("reconciler", self._timed_step, period_s=PERIOD_S)

    def start(self) -> None:
        """Begin to step."""
        self._loop.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._loop.stop()

    def step(self, now_s: float) -> None:
        """Tick every rollout that has not ended, then send orders."""
        with self._database.read() as connection:
            open_rollouts = rollouts.unfinished(connection)
            if self._is_first:
                self._is_first = False
                self._refresh(connection, open_rollouts, now_s)
                if self._sight.roster.size > MOST_READ:
                    return
        for rollout in open_rollouts:
            self._tick(rollout, open_rollouts, now_s)
        self._sight.forget(open_rollouts)
        self._gates = {one.id: self._gates[one.id] for one in open_rollouts if one.id in self._gates}
        self._send(open_rollouts, now_s)

    def _timed_step(self) -> None:
        with uncollected() if self._is_first else nullcontext():  # the first step fills the caches
            self.step(self._clock())

    def _tick(self, rollout: Rollout, open_rollouts: Sequence[Rollout], now_s: float) -> None:
        with self._database.read() as connection:
            self._refresh(connection, open_rollouts, now_s)
            seen = self._sight.see(connection, rollout, now_s=now_s)
        commands, gates = core.look(seen)
        watched = rollout.state in windows.GATED
        changed = watched and gates != self._gates.get(rollout.id)
        if not commands and not changed:
            return  # no write, no fsync, while nothing happens
        try:
            with self._database.write() as connection:
                carry_out(connection, rollout, commands, now_s=now_s)
                if watched:  # on the way back, what made it turn back stays to be seen
                    rollouts.save_gates(connection, rollout.id, gates)
        except rollouts.StaleRolloutError:
            log.info("rollout %s was changed by someone else during a tick; deciding anew", rollout.id)
        else:
            self._gates[rollout.id] = gates

    def _refresh(self, connection: Connection, open_rollouts: Sequence[Rollout], now_s: float) -> None:
        self._due |= self._sight.roster.refresh(connection, open_rollouts, now_s=now_s)

    def _send(self, open_rollouts: Sequence[Rollout], now_s: float) -> None:
        """Send orders that this run has not sent yet, and again those that a listening device does not react to."""
        with self._database.read() as connection:
            self._refresh(connection, open_rollouts, now_s)
            self._due = {device for device in self._due if self._is_unsent(device)}
            due = self._due
            if now_s >= self._looked_s + LOOK_S or now_s < self._looked_s:
                self._looked_s = now_s
                due = due | self._unanswered(connection, now_s)
            chosen = sorted(due)[:MOST_LETTERS]
            orders = desired.orders_of(connection, chosen)
        self._due.difference_update(chosen)
        for order, secret in orders:
            if secret:
                self._postbox.send(desired_letter(order, secret, now_s=now_s))
                self._sent[order.device] = (order.epoch, now_s)

    def _is_unsent(self, device: str) -> bool:
        epoch = self._sight.roster.unseen_epoch(device)
        return epoch is not None and self._sent.get(device, (0, 0.0))[0] < epoch

    def _unanswered(self, connection: Connection, now_s: float) -> set[str]:
        found = desired.unsettled(connection, heard_since_s=now_s - LISTENING_S)
        due = set()
        for device, epoch in found.items():
            sent_epoch, sent_s = self._sent.get(device, (0, 0.0))
            if sent_epoch < epoch or now_s - sent_s >= RESEND_S:
                due.add(device)
        return due
