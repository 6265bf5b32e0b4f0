"""To the devices: sealed messages, and the one interface through which they leave."""

from __future__ import annotations

import threading
from typing import Protocol

import msgspec

from edgewright.runtime.telemetry import wire

from ..store.desired import Order

DESIRED_LIFETIME_S = 600.0
"""A desired state that a broker holds back longer than this is ignored; the device asks again when it connects."""


class Downlink(Protocol):
    """Whatever carries messages to devices. Delivery is not promised: what is sent here is sent again when needed."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over one message; never blocks for long, never raises because the far side is away."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message to a device, not sealed yet."""

    device: str
    secret: bytes
    kind: str
    body: msgspec.Struct
    epoch: int = 0
    expires_s: float | None = None


def ack(device: str, secret: bytes, *, spool: str, seq: int) -> Letter:
    """Say that every record of a spool up to `seq` is stored."""
    return Letter(device=device, secret=secret, kind="ack", body=wire.Ack(spool=spool, seq=seq))


def desired(order: Order, secret: bytes, *, now_s: float) -> Letter:
    """Say what a device shall run."""
    return Letter(
        device=order.device,
        secret=secret,
        kind="desired",
        body=order.desired,
        epoch=order.epoch,
        expires_s=now_s + DESIRED_LIFETIME_S,
    )


class Postbox:
    """Seals letters under this run of the server and sends them in the order of their numbers.

    Several threads send. A device ignores a message whose number is not higher than the last one's, so numbering and
    handing over are one step.
    """

    def __init__(self, downlink: Downlink, *, tenant: str, incarnation: str) -> None:
        self._downlink = downlink
        self._tenant = tenant
        self._incarnation = incarnation
        self._seq = 0
        self._lock = threading.Lock()

    def send(self, letter: Letter) -> None:
        """Send one letter."""
        with self._lock:
            self._seq += 1
            envelope = wire.Envelope(
                v=wire.PROTOCOL_VERSION,
                kind=letter.kind,
                device=letter.device,
                incarnation=self._incarnation,
                seq=self._seq,
                epoch=letter.epoch,
                expires_s=letter.expires_s,
                body=msgspec.to_builtins(letter.body),
            )
            self._downlink.publish(
                wire.topic(self._tenant, letter.device, "down", letter.kind),
                wire.seal(envelope, secret=letter.secret, tenant=self._tenant, direction="down"),
            )
