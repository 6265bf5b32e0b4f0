"""To the devices: sealed messages, and the one interface through which they leave."""

from __future__ import annotations

import itertools
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
    """One sealed message and where it goes."""

    topic: str
    payload: bytes


class Postbox:
    """Seals messages to devices under this run of the server. Safe to use from several threads."""

    def __init__(self, *, tenant: str, incarnation: str) -> None:
        self._tenant = tenant
        self._incarnation = incarnation
        self._seq = itertools.count(1)  # next() on it is atomic

    def ack(self, device: str, secret: bytes, *, spool: str, seq: int) -> Letter:
        """Say that every record of a spool up to `seq` is stored."""
        return self._seal(device, secret, "ack", wire.Ack(spool=spool, seq=seq))

    def desired(self, order: Order, secret: bytes, *, now_s: float) -> Letter:
        """Say what a device shall run."""
        return self._seal(
            order.device, secret, "desired", order.desired, epoch=order.epoch, expires_s=now_s + DESIRED_LIFETIME_S
        )

    def _seal(
        self,
        device: str,
        secret: bytes,
        kind: str,
        body: msgspec.Struct,
        *,
        epoch: int = 0,
        expires_s: float | None = None,
    ) -> Letter:
        envelope = wire.Envelope(
            v=wire.PROTOCOL_VERSION,
            kind=kind,
            device=device,
            incarnation=self._incarnation,
            seq=next(self._seq),
            epoch=epoch,
            expires_s=expires_s,
            body=msgspec.to_builtins(body),
        )
        return Letter(
            topic=wire.topic(self._tenant, device, "down", kind),
            payload=wire.seal(envelope, secret=secret, tenant=self._tenant, direction="down"),
        )
