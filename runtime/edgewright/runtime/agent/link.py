"""The link to the fleet: hello at each connect, records until they are acknowledged, and the desired state.

Nothing relies on the broker's memory. What the fleet has not acknowledged is sent again after a while, and hello is
repeated until the fleet answers. The protocol lives here, on the agent's loop; the transport (MQTT) is mqtt.py, and
`MemoryTransport` stands in for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgewright.targets.faults import UserFault

from ..telemetry import wire
from ..telemetry.spool import Spool
from .credentials import Credentials
from .link_memory import LinkMemory
from .loop import Scheduler, Timer
from .model_state import Order, check_model_name
from .pause import jittered_s

_log = logging.getLogger(__name__)

CLOCK_FLOOR_S = 1_767_225_600.0
"""2026-01-01: a clock before that was never set, and expiry times mean nothing to it."""

_WINDOW_MESSAGES = 4
_MESSAGE_BYTES = 64 * 1024
_MESSAGE_RECORDS = 500
_ACK_PATIENCE_S = 20.0
_ASK_AGAIN_S = 600.0
_MAX_PROBATION_S = 30 * 24 * 3600.0


class Transport(Protocol):
    """Carries sealed messages; its callbacks come on the agent's loop."""

    def start(
        self, on_up: Callable[[], None], on_down: Callable[[str], None], on_message: Callable[[str, bytes], None]
    ) -> None:
        """Connect, and keep connecting."""

    def publish(self, kind: str, message: bytes) -> None:
        """Send one message upwards, if there is a connection."""

    def stop(self) -> None:
        """Disconnect for good."""


@dataclass(frozen=True, kw_only=True)
class LinkSurroundings:
    """What the link works with."""

    loop: Scheduler
    transport: Transport
    credentials: Credentials
    spool: Spool
    memory: LinkMemory
    incarnation: str
    wall_clock: Callable[[], float]
    chance: Callable[[], float]
    """A random number between 0 and 1."""
    heartbeat_s: float
    hello: Callable[[int], wire.Hello]
    """Makes a hello; gets the epoch of the desired state."""
    heartbeat: Callable[[], wire.Heartbeat]
    order: Callable[[Order], None]


class Link:
    """One connection's worth of state, and what outlives it."""

    def __init__(self, around: LinkSurroundings) -> None:
        self._around = around
        self._seq = 0
        self._timers: dict[str, Timer] = {}
        self._next_seq = 0
        self._outstanding: list[int] = []
        """Last sequence number of each message that waits for its acknowledgement."""
        self._hellos = 0
        self._seen: dict[tuple[str, str], int] = {}
        self._stopped = False
        self.connected = False
        self.last_problem = "not connected yet"

    def start(self) -> None:
        """Connect."""
        self._around.transport.start(self._up, self._down, self._message)

    def stop(self) -> None:
        """Disconnect; the spool keeps what is not acknowledged."""
        self._cancel_timers()
        self._stopped = True
        self._around.transport.stop()
        self.connected = False

    def send_records(self) -> None:
        """Send what is durable in the spool, as far as the window goes."""
        around = self._around
        if not self.connected:
            return
        self._next_seq = max(self._next_seq, around.spool.acked_seq + 1)
        while len(self._outstanding) < _WINDOW_MESSAGES:
            batch = around.spool.read(self._next_seq, max_bytes=_MESSAGE_BYTES, max_records=_MESSAGE_RECORDS)
            if not batch:
                break
            records = wire.Records(
                spool=around.spool.identity, first_seq=batch[0][0], records=tuple(record for _, record in batch)
            )
            self._send("records", records)
            self._outstanding.append(batch[-1][0])
            self._next_seq = batch[-1][0] + 1
        if self._outstanding and "ack" not in self._timers:
            self._later("ack", _ACK_PATIENCE_S * (0.5 + around.chance()), self._not_acknowledged)

    def _up(self) -> None:
        if self._stopped:
            return
        _log.info("connected to the fleet's broker")
        self.connected, self.last_problem = True, ""
        self._outstanding.clear()
        self._next_seq = self._around.spool.acked_seq + 1
        self._hellos = 0
        self._say_hello()
        self._later("heartbeat", self._around.heartbeat_s, self._beat)
        self.send_records()

    def _down(self, reason: str) -> None:
        if self._stopped:
            return
        if self.connected or reason != self.last_problem:
            _log.warning("no connection to the fleet's broker: %s", reason)
        self.connected, self.last_problem = False, reason
        self._cancel_timers()

    def _say_hello(self) -> None:
        self._send("hello", self._around.hello(self._around.memory.epoch))
        self._later("hello", 5.0 + jittered_s(self._hellos, self._around.chance()), self._say_hello)
        self._hellos += 1

    def _beat(self) -> None:
        self._send("heartbeat", self._around.heartbeat())
        self._later("heartbeat", self._around.heartbeat_s, self._beat)

    def _not_acknowledged(self) -> None:
        self._timers.pop("ack", None)
        self._outstanding.clear()
        self._next_seq = 0
        self.send_records()

    def _send(self, kind: str, body: msgspec.Struct) -> None:
        credentials = self._around.credentials
        self._seq += 1
        envelope = wire.Envelope(
            v=wire.PROTOCOL_VERSION,
            kind=kind,
            device=credentials.device,
            incarnation=self._around.incarnation,
            seq=self._seq,
            epoch=self._around.memory.epoch,
            body=_builtins(body),
        )
        message = wire.seal(envelope, secret=credentials.secret_bytes, tenant=credentials.tenant, direction="up")
        self._around.transport.publish(kind, message)

    def _message(self, kind: str, payload: bytes) -> None:
        credentials = self._around.credentials
        try:
            envelope = wire.unseal(
                payload, secret=credentials.secret_bytes, tenant=credentials.tenant, direction="down"
            )
            if self._stale(envelope):
                return
            if envelope.kind == "ack":
                self._acknowledged(wire.body(envelope, wire.Ack))
            elif envelope.kind == "desired":
                self._desired(envelope, wire.body(envelope, wire.Desired))
        except wire.WireError as error:
            _log.warning("a %s message is ignored: %s", kind, error)

    def _stale(self, envelope: wire.Envelope) -> bool:
        if envelope.device != self._around.credentials.device:
            raise wire.WireError(f"it is for device {envelope.device!r}")
        # By kind: a later acknowledgement must not make a desired state look old.
        sender = (envelope.incarnation, envelope.kind)
        if envelope.seq <= self._seen.get(sender, 0):
            return True
        if len(self._seen) > 64:
            self._seen.clear()
        self._seen[sender] = envelope.seq
        now_s = self._around.wall_clock()
        return envelope.expires_s is not None and now_s >= CLOCK_FLOOR_S and now_s > envelope.expires_s

    def _acknowledged(self, ack: wire.Ack) -> None:
        spool = self._around.spool
        if ack.spool != spool.identity:
            return
        spool.acknowledge(ack.seq)
        self._outstanding = [last for last in self._outstanding if last > spool.acked_seq]
        timer = self._timers.pop("ack", None)
        if timer is not None:
            timer.cancel()
        self.send_records()

    def _desired(self, envelope: wire.Envelope, desired: wire.Desired) -> None:
        # Answered: hello is repeated only now and then, to find out what a lost message may have said.
        self._later("hello", _ASK_AGAIN_S * (0.5 + self._around.chance()), self._say_hello)
        self._hellos = 0
        if envelope.epoch < self._around.memory.epoch:
            _log.warning(
                "a desired state of epoch %d is ignored: %d is known", envelope.epoch, self._around.memory.epoch
            )
            return
        if not self._around.memory.raise_epoch(envelope.epoch):
            return
        for model in desired.models:
            try:
                order = _order(model)
            except UserFault as fault:
                # One senseless assignment must not keep the others from being carried out.
                _log.warning("an assignment is ignored: %s", fault)
                continue
            self._around.order(order)

    def _later(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()
        self._timers[name] = self._around.loop.call_later(delay_s, call)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


def _order(model: wire.DesiredModel) -> Order:
    if not model.path.startswith("/"):
        raise UserFault(f"{model.model}: path {model.path[:100]!r} is not a path on the fleet's server")
    if not 0 <= model.probation_s <= _MAX_PROBATION_S:
        raise UserFault(f"{model.model}: probation_s is {model.probation_s}, expected 0 to {_MAX_PROBATION_S:g}")
    return Order(
        command=model.command,
        model=check_model_name(model.model),
        version=model.version,
        bundle=model.bundle,
        security_epoch=model.security_epoch,
        probation_s=model.probation_s,
        size_bytes=model.size_bytes,
        source=model.path,
        rollback=model.rollback,
    )


def _builtins(body: msgspec.Struct) -> dict[str, Any]:
    converted: dict[str, Any] = msgspec.to_builtins(body)
    return converted


class MemoryTransport:
    """The stand-in: what is published lands in a list, and the test says what arrives."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.running = False
        self.up: Callable[[], None] = _no_one
        self.down: Callable[[str], None] = _no_one
        self.deliver: Callable[[str, bytes], None] = _no_one

    def start(
        self, on_up: Callable[[], None], on_down: Callable[[str], None], on_message: Callable[[str, bytes], None]
    ) -> None:
        self.running = True
        self.up, self.down, self.deliver = on_up, on_down, on_message

    def publish(self, kind: str, message: bytes) -> None:
        self.sent.append((kind, message))

    def stop(self) -> None:
        self.running = False


def _no_one(*_: object) -> None:
    """Nobody listens before `start`."""
