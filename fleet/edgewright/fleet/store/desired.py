"""What each device shall run. Every change raises the device's epoch, which never falls and is never used twice."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from edgewright.runtime.telemetry.wire import Desired, DesiredModel

from .schema import bundles, desired, devices, updates

ARTIFACT_PATH = "/v1/artifacts/"


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


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The whole desired state of one device, and its epoch."""

    device: str
    epoch: int
    desired: Desired


def assign(connection: Connection, assignment: Assignment, *, now_s: float) -> None:
    """Set what a device shall run for one model, under a new epoch."""
    values = msgspec.structs.asdict(assignment) | {"set_s": now_s}
    connection.execute(
        insert(desired).values(values).on_conflict_do_update(index_elements=["device", "model"], set_=values)
    )
    _raise_epoch(connection, assignment.device)


def withdraw(connection: Connection, device: str, model: str) -> None:
    """Say nothing any more about one model: the device keeps what it has."""
    connection.execute(delete(desired).where(desired.c.device == device, desired.c.model == model))
    _raise_epoch(connection, device)


def unsettled(connection: Connection, *, heard_since_s: float) -> dict[str, int]:
    """Return the epochs of devices that were heard lately and have not reported on an order: send it again."""
    reported = select(updates.c.command).where(updates.c.command == desired.c.command).exists()
    query = (
        select(devices.c.device, devices.c.desired_epoch)
        .join(desired, desired.c.device == devices.c.device)
        .where(devices.c.last_seen_s >= heard_since_s, ~reported)
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
    epoch = connection.execute(select(devices.c.desired_epoch).where(devices.c.device == device)).scalar_one_or_none()
    if epoch is None:
        return None
    query = (
        select(desired, bundles.c.size_bytes, bundles.c.security_epoch)
        .join(bundles, bundles.c.digest == desired.c.bundle)  # no order names a bundle that was never uploaded
        .where(desired.c.device == device)
        .order_by(desired.c.model)
    )
    models = tuple(
        DesiredModel(
            model=row.model,
            version=row.version,
            bundle=row.bundle,
            size_bytes=row.size_bytes,
            path=ARTIFACT_PATH + row.bundle.removeprefix("sha256:"),
            command=row.command,
            security_epoch=row.security_epoch,
            probation_s=row.probation_s,
            rollback=row.rollback,
        )
        for row in connection.execute(query)
    )
    return Order(device=device, epoch=epoch, desired=Desired(models=models))


def _raise_epoch(connection: Connection, device: str) -> None:
    connection.execute(
        update(devices).where(devices.c.device == device).values(desired_epoch=devices.c.desired_epoch + 1)
    )
