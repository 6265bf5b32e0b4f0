"""The loop that makes rollouts go on: read rows, ask the core, carry out what it says, tell the devices.

Level-triggered: a step looks only at what is in the database, never at what changed since the last one. So a server
that was killed at any moment goes on where the last committed transaction left it, and a lost message is sent again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from .commands import carry_out
from .core import rollout as core
from .core.evidence import KnownBundle, TargetEvidence, gather
from .core.gates import GateStatus
from .core.rows import Assignment, Device, Rollout
from .core.situation import Situation
from .core.slots import FLEET, cohort_of
from .ingest.downlink import Postbox
from .ingest.downlink import desired as desired_letter
from .references import reference_of
from .store import desired, enrolment, releases, rollouts, totals, windows
from .store.database import Database
from .traffic import AHEAD_S

log = logging.getLogger(__name__)

PERIOD_S = 1.0
RESEND_S = 15.0
"""An order that a listening device has not reported on is sent again after this time."""
LISTENING_S = 180.0
"""A device that was heard within this time is taken to listen."""


class Reconciler:
    """`step` does everything once; `start` calls it every second from a thread of its own."""

    def __init__(
        self,
        database: Database,
        postbox: Postbox,
        *,
        telemetry_revision: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._postbox = postbox
        self._telemetry_revision = telemetry_revision
        self._clock = clock
        self._sent: dict[str, tuple[int, float]] = {}
        self._evidence: dict[str, tuple[tuple[int, int, int], tuple[TargetEvidence, ...]]] = {}
        self._gates: dict[str, tuple[GateStatus, ...]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        self._thread.join()

    def step(self, now_s: float) -> None:
        """Tick every rollout that has not ended, then send orders."""
        with self._database.read() as connection:
            open_rollouts = rollouts.unfinished(connection)
        for rollout in open_rollouts:
            self._tick(rollout, now_s)
        self._evidence = {each.id: self._evidence[each.id] for each in open_rollouts if each.id in self._evidence}
        self._send(now_s)

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                self.step(self._clock())
            except SQLAlchemyError as error:
                log.error("the database refused a step (%s); trying again", error)
            except Exception:  # a bug in one decision must not end the loop that could roll back; it is logged whole
                log.exception("a step of the reconciler failed; trying again")

    def _tick(self, rollout: Rollout, now_s: float) -> None:
        with self._database.read() as connection:
            devices = rollouts.devices_for(connection, rollout)
            assignments = rollouts.assignments_of(connection, rollout.id)
        watched = rollout.state in windows.GATED
        evidence = self._gather(rollout, devices, assignments, now_s) if watched else ()
        commands = core.tick(
            Situation(rollout=rollout, now_s=now_s, devices=devices, assignments=assignments, evidence=evidence)
        )
        gates = core.gate_status(rollout, now_s, assignments, evidence) if watched else ()
        changed = watched and gates != self._gates.get(rollout.id)
        if not commands and not changed:
            return  # no write, no fsync, while nothing happens
        self._gates[rollout.id] = gates
        try:
            with self._database.write() as connection:
                carry_out(connection, rollout, commands, now_s=now_s)
                if watched:  # on the way back, what made it turn back stays to be seen
                    rollouts.save_gates(connection, rollout.id, gates)
        except rollouts.StaleRolloutError:
            log.info("rollout %s was changed by an operator during a tick; deciding anew", rollout.id)

    def _gather(
        self, rollout: Rollout, devices: list[Device], assignments: list[Assignment], now_s: float
    ) -> tuple[TargetEvidence, ...]:
        running = hash(tuple((device.id, device.bundle) for device in devices))
        key = (self._telemetry_revision(), rollout.revision, running)
        known = self._evidence.get(rollout.id)
        if known is not None and known[0] == key:
            return known[1]
        since_s = rollout.created_s - rollout.policy.horizon_seconds
        with self._database.read() as connection:
            bundles = [
                KnownBundle(digest=one.digest, target=one.target, reference=reference_of(one))
                for one in releases.every_bundle(connection)
                if one.model == rollout.model
            ]
            digests = [one.digest for one in bundles]
            slots = totals.slots_of(
                connection,
                digests,
                since_s=since_s,
                until_s=now_s + AHEAD_S,
                cohorts=(FLEET, cohort_of(rollout.id, rollout.wave)),
            )
            reporting = windows.reporting(connection, digests, since_s=since_s)
        evidence = gather(rollout, assignments, slots, reporting, bundles)
        self._evidence[rollout.id] = (key, evidence)
        return evidence

    def _send(self, now_s: float) -> None:
        """Send orders that this run has not sent yet, and again those that a listening device does not react to."""
        with self._database.read() as connection:
            due = {
                device
                for device, epoch in desired.unseen(connection).items()
                if self._sent.get(device, (0, 0.0))[0] < epoch
            }
            for device, epoch in desired.unsettled(connection, heard_since_s=now_s - LISTENING_S).items():
                sent_epoch, sent_s = self._sent.get(device, (0, 0.0))
                if sent_epoch < epoch or now_s - sent_s >= RESEND_S:
                    due.add(device)
            orders = [
                (order, secret)
                for device in sorted(due)
                if (order := desired.order_of(connection, device))
                and (secret := enrolment.secret_of(connection, device))
            ]
        for order, secret in orders:
            self._postbox.send(desired_letter(order, secret, now_s=now_s))
            self._sent[order.device] = (order.epoch, now_s)
