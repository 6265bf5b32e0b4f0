"""The message envelope between device and fleet (docs/formats/wire.md).

The protocol needs MQTT 3.1.1 and no more: everything is in the payload. The broker is not trusted: each message carries
a MAC made with the secret that the device was given when it enrolled. A message is the CBOR array `[envelope, mac]`:
`envelope` is a byte string holding the CBOR map of `Envelope`, `mac` is HMAC-SHA256(secret, "direction/tenant/" ||
envelope).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Literal, TypeVar

import cbor2
import msgspec

from edgewright.targets.faults import UserFault

from .records import Record

PROTOCOL_VERSION = 1
OLDEST_READABLE_VERSION = 1
MAX_MESSAGE_BYTES = 256 * 1024

T = TypeVar("T", bound=msgspec.Struct)

Direction = Literal["up", "down"]


class WireError(UserFault):
    """A message that this side refuses: malformed, oversized, of an unknown version, or with a wrong MAC."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries. Times are seconds since 1970, UTC."""

    v: int
    kind: str
    """`hello`, `heartbeat`, `records` up; `desired`, `ack` down. An unknown kind is ignored by the receiver."""
    device: str
    incarnation: str
    """One run of the sending process (agent up, fleet server down)."""
    seq: int
    """Counts messages of this incarnation, from 1."""
    command: str | None = None
    """Id of the command that this message gives or answers."""
    epoch: int = 0
    """Epoch of the device's desired state; a device ignores one below the highest it has seen."""
    expires_s: float | None = None
    """After this time the receiver ignores the message. A device that does not trust its clock does not apply it."""
    body: dict[str, Any] = {}


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """One model as the device holds it."""

    model: str
    version: str
    bundle: str
    phase: Literal["idle", "fetching", "installing", "trial", "activating", "probation"]
    rollback: str | None
    """Bundle digest in the other slot, if it can be rolled back to."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """First message after each connect; asks for the desired state."""

    software: str
    target: str
    target_digest: str
    emulated: bool
    """True for a rehearsal device: it claims a target that it is not."""
    isa: tuple[str, ...]
    boot: str
    spool: str
    """Identity of the spool; acknowledgements name it."""
    spool_next_seq: int
    desired_epoch: int
    models: tuple[ModelState, ...]
    spool_first_seq: int | None = None
    """The oldest record that this spool still has to send: nothing before it will ever come. None: not said."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent at every report interval; never stored."""

    uptime_s: float
    spool_bytes: int
    spool_backlog: int
    server_running: bool
    models: tuple[ModelState, ...]


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """A run of spool records, `first_seq` and those that follow it without a gap."""

    spool: str
    first_seq: int
    records: tuple[Record, ...]


class DesiredModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the device shall run for one model."""

    model: str
    version: str
    bundle: str
    size_bytes: int
    path: str
    """Path on the fleet's HTTP server, for example `/v1/artifacts/<hex>`."""
    command: str
    """Id of this assignment: the device reports its outcome under it, once, also across restarts."""
    security_epoch: int
    probation_s: float
    rollback: bool = False
    """True where the fleet takes a release back: the device may use the bundle in its other slot."""


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """The whole desired state of one device. A model that is not listed is left alone."""

    models: tuple[DesiredModel, ...]


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet has stored every record of this spool up to and including `seq`."""

    spool: str
    seq: int


BODY_OF_KIND: dict[str, type[msgspec.Struct]] = {
    "hello": Hello,
    "heartbeat": Heartbeat,
    "records": Records,
    "desired": Desired,
    "ack": Ack,
}


def topic(tenant: str, device: str, direction: Direction, kind: str) -> str:
    """Return the MQTT topic of a message."""
    return f"edgewright/{PROTOCOL_VERSION}/{tenant}/{device}/{direction}/{kind}"


def parse_topic(name: str) -> tuple[str, str, Direction, str]:
    """Return (tenant, device, direction, kind).

    Raises:
        WireError: the topic is not one of ours.
    """
    parts = name.split("/")
    if len(parts) != 6 or parts[0] != "edgewright" or parts[1] != str(PROTOCOL_VERSION):
        raise WireError(f"topic {name!r} is not edgewright/{PROTOCOL_VERSION}/<tenant>/<device>/<up|down>/<kind>")
    _, _, tenant, device, direction, kind = parts
    if direction == "up":
        return tenant, device, "up", kind
    if direction == "down":
        return tenant, device, "down", kind
    raise WireError(f"topic {name!r}: direction is {direction!r}, expected 'up' or 'down'")


def mac(secret: bytes, direction: Direction, tenant: str, envelope: bytes) -> bytes:
    """Return the 32 bytes that prove who made an envelope, for which tenant, and in which direction it goes."""
    return hmac.new(secret, f"{direction}/{tenant}/".encode() + envelope, hashlib.sha256).digest()


def seal(envelope: Envelope, *, secret: bytes, tenant: str, direction: Direction) -> bytes:
    """Return the message bytes: the envelope in CBOR with its MAC."""
    packed = cbor2.dumps(msgspec.to_builtins(envelope))
    return cbor2.dumps([packed, mac(secret, direction, tenant, packed)])


def unseal(message: bytes, *, secret: bytes, tenant: str, direction: Direction) -> Envelope:
    """Return the envelope of a message whose MAC is right.

    Raises:
        WireError: oversized, malformed, wrong MAC, or a protocol version that this side does not read.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise WireError(f"message of {len(message)} bytes; the limit is {MAX_MESSAGE_BYTES}")
    packed, mac_found = _split(message)
    if not hmac.compare_digest(mac_found, mac(secret, direction, tenant, packed)):
        raise WireError("wrong MAC: the sender does not hold this device's secret, or the message was changed")
    try:
        envelope = msgspec.convert(cbor2.loads(packed), Envelope)
    except (cbor2.CBORDecodeError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise WireError(f"malformed envelope: {error}") from error
    if not OLDEST_READABLE_VERSION <= envelope.v <= PROTOCOL_VERSION:
        raise WireError(
            f"protocol version {envelope.v}; this side reads {OLDEST_READABLE_VERSION} to {PROTOCOL_VERSION}: update it"
        )
    return envelope


def body(envelope: Envelope, kind: type[T]) -> T:
    """Return the envelope's body as the given type.

    Raises:
        WireError: the body does not fit the type; the message says which key.
    """
    try:
        return msgspec.convert(envelope.body, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise WireError(f"body of {envelope.kind!r}: {error}") from error


def _split(message: bytes) -> tuple[bytes, bytes]:
    try:
        parts = cbor2.loads(message)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise WireError(f"not CBOR: {error}") from error
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, bytes) for part in parts)):
        raise WireError("expected a CBOR array of two byte strings, [envelope, mac]")
    return parts[0], parts[1]
