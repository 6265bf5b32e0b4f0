"""A virtual device: speaks the wire protocol, knows nothing of sockets and clocks.

It does what a real agent does as far as the fleet can see: greets, takes orders by epoch, reports each phase of an
update through a spool that it keeps until the fleet acknowledges it, and counts traffic in cumulative windows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import Record, UpdatePhase, UpdateRecord

from .behaviour import Applied, Behaviour, Identity, Installed
from .meter import Meter

__all__ = ["Applied", "Behaviour", "Identity", "Installed", "Message", "VirtualDevice"]

Message = tuple[str, bytes]
"""Topic and payload."""

STEPS: tuple[UpdatePhase, ...] = ("fetching", "installing", "trial", "activating", "probation", "confirmed")
RECORDS_IN_A_MESSAGE = 50


class _Update(msgspec.Struct):
    """An update under way."""

    order: wire.DesiredModel
    next_step: int = 0


class VirtualDevice:
    """One device with one model. Give it messages with `receive`, time with `step`; both return what it sends."""

    def __init__(
        self, identity: Identity, *, behaviour_of: Callable[[str], Behaviour], seed: int, window_s: int = 60
    ) -> None:
        self.identity = identity
        self._behaviour_of = behaviour_of
        self._random = random.Random(seed)  # noqa: S311  (a simulation is to be repeatable)
        self._boot = f"boot-{self._random.getrandbits(48):012x}"
        self._incarnation = f"run-{self._random.getrandbits(48):012x}"
        self._seq = 0
        self._spool: dict[int, Record] = {}
        self._next_seq = 1
        self._spool_id = f"spool-{identity.device}"
        self.meter = Meter(window_s=window_s, chance=self._random)
        self.model = ""
        self.active: Installed | None = None
        self.previous: Installed | None = None
        self.epoch = 0
        self._done: set[str] = set()
        self._update: _Update | None = None
        self.requests = 0
        """Requests that were served, by the device's own count: the fleet's sum must agree."""
        self.served: Counter[str] = Counter()
        """The same, by bundle."""
        self.applied: list[Applied] = []
        """Every order that was begun, in this order."""
        self.reported: list[UpdateRecord] = []
        """Every step of an update that went into the spool."""

    def restart(self) -> None:
        """Lose power: what is on the disk stays (spool, epoch, the update under way), the counters begin anew."""
        for window in self.meter.lose_power():
            self._append(window)
        self._boot = f"boot-{self._random.getrandbits(48):012x}"
        self._incarnation = f"run-{self._random.getrandbits(48):012x}"
        self._seq = 0

    @property
    def backlog(self) -> int:
        """How many records were not acknowledged yet."""
        return len(self._spool)

    def connect(self) -> list[Message]:
        """Greet, and send again whatever was not acknowledged."""
        hello = wire.Hello(
            software="edgewright-sim",
            target=self.identity.target,
            target_digest=self.identity.target_digest,
            emulated=True,
            isa=(),
            boot=self._boot,
            spool=self._spool_id,
            spool_next_seq=self._next_seq,
            spool_first_seq=min(self._spool, default=self._next_seq),
            desired_epoch=self.epoch,
            models=self._models(),
        )
        return [self._seal("hello", hello), *self._unacknowledged()]

    def receive(self, payload: bytes, *, now_s: float) -> None:
        """Take in a message from the fleet; one that is forged, stale or expired is ignored."""
        try:
            envelope = wire.unseal(payload, secret=self.identity.secret, tenant=self.identity.tenant, direction="down")
        except wire.WireError:
            return
        if envelope.expires_s is not None and envelope.expires_s <= now_s:
            return
        if envelope.kind == "ack":
            ack = wire.body(envelope, wire.Ack)
            if ack.spool == self._spool_id:
                self._spool = {seq: record for seq, record in self._spool.items() if seq > ack.seq}
        elif envelope.kind == "desired" and not self._is_stale(envelope.epoch):
            self.epoch = envelope.epoch
            self._want(wire.body(envelope, wire.Desired).models, now_s=now_s)

    def _is_stale(self, epoch: int) -> bool:
        return epoch < self.epoch

    def step(self, now_s: float) -> list[Message]:
        """Let time pass: go on with the update, serve traffic, report."""
        self._go_on(now_s)
        self._serve(now_s)
        heartbeat = wire.Heartbeat(
            uptime_s=now_s,
            spool_bytes=len(self._spool) * 500,
            spool_backlog=len(self._spool),
            server_running=True,
            models=self._models(),
        )
        return [self._seal("heartbeat", heartbeat), *self._unacknowledged()]

    def _want(self, models: Sequence[wire.DesiredModel], *, now_s: float) -> None:
        for order in models:
            running = self._update.order.command if self._update else None
            if order.command in self._done or order.command == running:
                continue
            self.model = order.model
            self.applied.append(Applied(self.epoch, order.command, order.bundle))
            if self.active is not None and self.active.bundle == order.bundle:
                self._report(order, "confirmed", now_s)
                self._update = None
            else:
                self._update = _Update(order=order)

    def _go_on(self, now_s: float) -> None:
        update = self._update
        if update is None:
            return
        phase = STEPS[update.next_step]
        update.next_step += 1
        ends = self._behaviour_of(update.order.bundle).update_ends
        if ends == "refused" or (ends != "confirmed" and phase == "confirmed"):
            phase = ends
        if phase == "activating":
            self.previous, self.active = (
                self.active,
                Installed(version=update.order.version, bundle=update.order.bundle),
            )
        if phase in {"failed", "rolled_back"}:
            self.active = self.previous
        self._report(update.order, phase, now_s)
        if phase in {"refused", "confirmed", "failed", "rolled_back"}:
            self._update = None

    def _report(self, order: wire.DesiredModel, phase: UpdatePhase, now_s: float) -> None:
        if phase in {"refused", "confirmed", "failed", "rolled_back"}:
            self._done.add(order.command)
        record = UpdateRecord(
            command=order.command,
            model=order.model,
            version=order.version,
            bundle=order.bundle,
            phase=phase,
            reason="" if phase in STEPS else "as the simulation was told",
            at_s=now_s,
            boot=self._boot,
        )
        self.reported.append(record)
        self._append(record)

    def _serve(self, now_s: float) -> None:
        if self.active is None:
            return
        behaviour = self._behaviour_of(self.active.bundle)
        count = behaviour.requests_per_step
        if count == 0:
            return
        windows = self.meter.serve(
            behaviour,
            self.active,
            model=self.model,
            boot=self._boot,
            incarnation=self._incarnation,
            now_s=now_s,
        )
        self.requests += count
        self.served[self.active.bundle] += count
        for window in windows:
            self._append(window)

    def _append(self, record: Record) -> None:
        self._spool[self._next_seq] = record
        self._next_seq += 1

    def _unacknowledged(self) -> list[Message]:
        waiting = sorted(self._spool)[:RECORDS_IN_A_MESSAGE]
        if not waiting:
            return []
        run = wire.Records(
            spool=self._spool_id, first_seq=waiting[0], records=tuple(self._spool[seq] for seq in waiting)
        )
        return [self._seal("records", run)]

    def _models(self) -> tuple[wire.ModelState, ...]:
        if self.active is None:
            return ()
        return (
            wire.ModelState(
                model=self.model,
                version=self.active.version,
                bundle=self.active.bundle,
                phase="idle" if self._update is None else "fetching",
                rollback=self.previous.bundle if self.previous else None,
            ),
        )

    def _seal(self, kind: str, body: msgspec.Struct) -> Message:
        self._seq += 1
        envelope = wire.Envelope(
            v=wire.PROTOCOL_VERSION,
            kind=kind,
            device=self.identity.device,
            incarnation=self._incarnation,
            seq=self._seq,
            body=msgspec.to_builtins(body),
        )
        sealed = wire.seal(envelope, secret=self.identity.secret, tenant=self.identity.tenant, direction="up")
        return wire.topic(self.identity.tenant, self.identity.device, "up", kind), sealed
