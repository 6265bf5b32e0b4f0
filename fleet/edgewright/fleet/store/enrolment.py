"""Tokens and enrolled devices."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from edgewright.runtime.telemetry.wire import Heartbeat, Hello, ModelState

from ..faults import ConflictError, NotFoundError, UnauthorizedError
from ..place import NOWHERE, Place
from ..trust import credentials
from .schema import desired, devices, tokens


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled device, as last heard of. The secret is not part of it."""

    device: str
    target: str
    target_digest: str
    emulated: bool
    software: str
    isa: tuple[str, ...]
    enrolled_s: float
    last_seen_s: float | None
    boot: str | None
    spool: str | None
    spool_next_seq: int | None
    spool_backlog: int | None
    server_running: bool | None
    models: tuple[ModelState, ...]
    models_s: float | None
    """When the device reported `models`."""
    desired_epoch: int
    epoch_seen: int
    site: str = ""
    time_zone: str = "UTC"
    labels: dict[str, str] = {}


class Enrolling(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself when it enrols."""

    name: str | None
    target: str
    target_digest: str
    software: str = ""
    emulated: bool = False
    isa: tuple[str, ...] = ()


def add_token(
    connection: Connection, token: str, *, label: str, now_s: float, lifetime_s: float, place: Place = NOWHERE
) -> None:
    """Store a one-time token (its digest only) and where the device that uses it stands."""
    connection.execute(
        insert(tokens).values(
            digest=credentials.token_digest(token),
            label=label,
            created_s=now_s,
            expires_s=now_s + lifetime_s,
            **_columns(place),
        )
    )


def enrol(connection: Connection, token: str, device: Enrolling, *, secret: bytes, now_s: float) -> str:
    """Use up a token, add the device and return its id.

    Raises:
        UnauthorizedError: no such token, or it is used up or expired.
        ConflictError: a device of that name is enrolled already.
    """
    digest = credentials.token_digest(token)
    found = connection.execute(select(tokens).where(tokens.c.digest == digest)).one_or_none()
    if found is None:
        raise UnauthorizedError("no such enrolment token; make one with `edgewright fleet device token`")
    if found.used_s is not None:
        raise UnauthorizedError(
            f"this enrolment token was used up by device {found.used_by}; each token enrols one device: make another "
            "with `edgewright fleet device token`"
        )
    if found.expires_s <= now_s:
        raise UnauthorizedError("this enrolment token has expired; make another with `edgewright fleet device token`")
    name = device.name or f"d-{secrets.token_hex(6)}"
    if secret_of(connection, name) is not None:
        raise ConflictError(
            f"a device named {name!r} is enrolled already; give this one another name, or remove that one first with "
            f"`edgewright fleet device rm {name}`"
        )
    values = {
        "secret": secret,
        "target": device.target,
        "target_digest": device.target_digest,
        "emulated": device.emulated,
        "software": device.software,
        "isa": json.dumps(list(device.isa)),
        "enrolled_s": now_s,
        "epoch_seen": 0,
        "removed_s": None,
        "site": found.site,
        "time_zone": found.time_zone,
        "labels": found.labels,
    }
    # The name of a removed device: its epoch goes on from where it was, so no old order can be taken for a new one.
    known = insert(devices).values(device=name, desired_epoch=0, **values)
    connection.execute(known.on_conflict_do_update(index_elements=["device"], set_=values))
    connection.execute(update(tokens).where(tokens.c.digest == digest).values(used_s=now_s, used_by=name))
    return name


def remove(connection: Connection, device: str, *, now_s: float) -> None:
    """Revoke a device's secret and free its name. What it reported stays.

    Raises:
        NotFoundError: there is none of that name.
    """
    get(connection, device)
    connection.execute(delete(desired).where(desired.c.device == device))
    connection.execute(
        update(devices)
        .where(devices.c.device == device)
        .values(
            secret=b"",
            removed_s=now_s,
            desired_epoch=devices.c.desired_epoch + 1,
            last_seen_s=None,
            boot=None,
            spool=None,
            spool_next_seq=None,
            spool_backlog=None,
            server_running=None,
            models=None,
            models_s=None,
        )
    )


def move(connection: Connection, device: str, place: Place) -> None:
    """Set where a device stands.

    Raises:
        NotFoundError: there is none of that name.
    """
    get(connection, device)
    connection.execute(update(devices).where(devices.c.device == device).values(**_columns(place)))


def place_of(device: Device) -> Place:
    """Return where a device stands."""
    return Place(site=device.site, time_zone=device.time_zone, labels=device.labels)


def secret_of(connection: Connection, device: str) -> bytes | None:
    """Return a device's secret, or None where no such device is enrolled."""
    query = select(devices.c.secret).where(devices.c.device == device, devices.c.removed_s.is_(None))
    return connection.execute(query).scalar_one_or_none()


def get(connection: Connection, device: str) -> Device:
    """Return one device.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = connection.execute(
        select(devices).where(devices.c.device == device, devices.c.removed_s.is_(None))
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no device {device!r}; `edgewright fleet device ls` shows those there are")
    return _device(row)


def every(connection: Connection, *, after: str = "", limit: int | None = None) -> list[Device]:
    """Return devices in the order of their ids."""
    query = select(devices).where(devices.c.device > after, devices.c.removed_s.is_(None)).order_by(devices.c.device)
    return [_device(row) for row in connection.execute(query.limit(limit) if limit is not None else query)]


def greet(connection: Connection, device: str, hello: Hello, *, now_s: float) -> None:
    """Take down what a device says at its connect.

    The target stays as enrolled: a device cannot turn into another board by saying so.
    """
    connection.execute(
        update(devices)
        .where(devices.c.device == device)
        .values(
            emulated=hello.emulated,
            software=hello.software,
            isa=json.dumps(list(hello.isa)),
            last_seen_s=now_s,
            boot=hello.boot,
            spool=hello.spool,
            spool_next_seq=hello.spool_next_seq,
            models=_encoder.encode(hello.models),
            models_s=now_s,
            epoch_seen=hello.desired_epoch,
        )
    )


def beat(connection: Connection, device: str, heartbeat: Heartbeat, *, now_s: float) -> None:
    """Take down a heartbeat over the one before."""
    connection.execute(
        update(devices)
        .where(devices.c.device == device)
        .values(
            last_seen_s=now_s,
            spool_backlog=heartbeat.spool_backlog,
            server_running=heartbeat.server_running,
            models=_encoder.encode(heartbeat.models),
            models_s=now_s,
        )
    )


def seen(connection: Connection, names: Sequence[str], *, now_s: float) -> None:
    """Note that these devices were heard."""
    connection.execute(update(devices).where(devices.c.device.in_(names)).values(last_seen_s=now_s))


_encoder = msgspec.msgpack.Encoder()
_models_decoder = msgspec.msgpack.Decoder(tuple[ModelState, ...])


def _columns(place: Place) -> dict[str, str]:
    labels = json.dumps(place.labels, sort_keys=True, ensure_ascii=False)
    return {"site": place.site, "time_zone": place.time_zone, "labels": labels}


def _device(row: Row[Any]) -> Device:
    values = dict(row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
    del values["secret"], values["removed_s"], values["changed"]
    values["labels"] = json.loads(values["labels"])
    values["isa"] = tuple(json.loads(values["isa"]))
    values["models"] = _models_decoder.decode(values["models"]) if values["models"] else ()
    return Device(**values)
