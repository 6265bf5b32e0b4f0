"""What each device shall run. Every change raises the device's epoch, which never falls and is never used twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, select, text

from edgewright.runtime.telemetry.wire import Desired, DesiredModel

from .changes import next_change
from .lookup import rows_of
from .schema import bundles, desired, devices, orders

ARTIFACT_PATH = "/v1/artifacts/"
_OF_BUNDLE = (bundles.c.size_bytes, bundles.c.security_epoch)


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One model for one device."""

    device: str
    model: str
    version: str
    bundle: str
    command: str
    probation_s: float
    rollback: bool
    rollout: str | None


_SET_COLUMNS = (*Assignment.__struct_fields__, "set_s", "settled")
_SET = (
    f"INSERT INTO desired ({', '.join(_SET_COLUMNS)}) VALUES (?{', ?' * (len(_SET_COLUMNS) - 1)}) "  # noqa: S608  (names)
    f"ON CONFLICT (device, model) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _SET_COLUMNS[2:])}"
)
_NOTE = "INSERT INTO orders (device, model, at_s) VALUES (?, ?, ?)"
_RAISE = "UPDATE devices SET desired_epoch = desired_epoch + 1, changed = ? WHERE device = ?"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The whole desired state of one device, and its epoch."""

    device: str
    epoch: int
    desired: Desired


def assign(connection: Connection, given: Sequence[Assignment], *, now_s: float) -> None:
    """Set what devices shall run for one model each, under a new epoch of each."""
    if not given:
        return
    in_order = sorted(given, key=attrgetter("device", "model"))  # as the indices have them
    connection.exec_driver_sql(_SET, [(*msgspec.structs.astuple(one), now_s, False) for one in in_order])
    connection.exec_driver_sql(_NOTE, [(one.device, one.model, now_s) for one in given])
    _raise_epochs(connection, [one.device for one in given])


def withdraw(connection: Connection, names: Sequence[str], model: str) -> None:
    """Say nothing any more to these devices about one model: they keep what they have."""
    if not names:
        return
    gone = (desired.c.device == bindparam("of_device"), desired.c.model == model)
    connection.execute(delete(desired).where(*gone), [{"of_device": device} for device in names])
    _raise_epochs(connection, names)


def unheard(connection: Connection, commands: Collection[str]) -> set[str]:
    """Return those of these commands that stand, and on which no device has reported."""
    query = select(desired.c.command).where(text("desired.settled = 0"))  # as the partial index has it
    return set(commands).intersection(connection.execute(query).scalars())


def forget_orders(connection: Connection, *, before_s: float) -> None:
    """Drop the times of orders that no limit looks at any more."""
    connection.execute(delete(orders).where(orders.c.at_s < before_s))


def unsettled(connection: Connection, *, heard_since_s: float) -> dict[str, int]:
    """Return the epochs of devices that were heard lately and have not reported on an order: send it again."""
    query = (
        select(devices.c.device, devices.c.desired_epoch)
        .join(desired, desired.c.device == devices.c.device)
        .where(devices.c.last_seen_s >= heard_since_s, text("desired.settled = 0"))  # as the partial index has it
    )
    return {row.device: row.desired_epoch for row in connection.execute(query)}


def unseen(connection: Connection) -> dict[str, int]:
    """Return the epochs that are newer than what their devices said they had at their last connect."""
    query = select(devices.c.device, devices.c.desired_epoch).where(
        devices.c.desired_epoch > devices.c.epoch_seen, devices.c.removed_s.is_(None)
    )
    return {row.device: row.desired_epoch for row in connection.execute(query)}


def order_of(connection: Connection, device: str) -> Order | None:
    """Return what a device shall run; None where there is no such device."""
    return next((order for order, _ in orders_of(connection, [device])), None)


def orders_of(connection: Connection, names: Sequence[str]) -> list[tuple[Order, bytes]]:
    """Return what devices shall run, each with the device's secret (empty where it was removed)."""
    wanted = [(name,) for name in names]
    models: dict[str, list[DesiredModel]] = {}
    sizes = {row.digest: row for row in connection.execute(select(bundles.c.digest, *_OF_BUNDLE))}
    for row in rows_of(connection, desired, (desired.c.device,), wanted):
        if row.bundle in sizes:  # no order names a bundle that was never uploaded
            models.setdefault(row.device, []).append(_desired_model(row, sizes[row.bundle]))
    return [
        (Order(device=row.device, epoch=row.desired_epoch, desired=_desired(models.get(row.device, []))), row.secret)
        for row in rows_of(connection, devices, (devices.c.device,), wanted)
    ]


def _desired(models: list[DesiredModel]) -> Desired:
    return Desired(models=tuple(sorted(models, key=lambda one: one.model)))


def _desired_model(row: Row[Any], bundle: Row[Any, Any, Any]) -> DesiredModel:
    return DesiredModel(
        model=row.model,
        version=row.version,
        bundle=row.bundle,
        size_bytes=bundle.size_bytes,
        path=ARTIFACT_PATH + row.bundle.removeprefix("sha256:"),
        command=row.command,
        security_epoch=bundle.security_epoch,
        probation_s=row.probation_s,
        rollback=row.rollback,
    )


def _raise_epochs(connection: Connection, names: Sequence[str]) -> None:
    change = next_change(connection, "devices")
    connection.exec_driver_sql(_RAISE, [(change, name) for name in sorted(names)])
