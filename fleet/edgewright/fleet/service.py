"""What the fleet can be asked to do. Each operation is one transaction, with its audit entry in it."""

from __future__ import annotations

import secrets
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgewright.bundle import archive
from edgewright.bundle.manifest import Manifest

from .artifacts import Artifacts, Upload
from .core import rollout as core
from .core.rows import Rollout
from .faults import FleetError
from .place import NOWHERE, Place, PlaceChange, check_place
from .steering import Steering
from .store import audit_log, enrolment, order_pages, releases, rollouts
from .store.database import Database, read_meta, write_meta
from .traffic import traffic_of
from .trust import credentials
from .trust.audit import AuditEntry, AuditVerdict, verify
from .views import DriftView, RolloutView, drift_view, rollout_view


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is given, once."""

    tenant: str
    device: str
    secret: bytes


class Fleet:
    """The operations. `now` is a clock and `random_bits` a source of chance, so that a simulation can bring its own."""

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        *,
        now: Callable[[], float],
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self.database = database
        self.artifacts = artifacts
        self.now = now
        self.random_bits = random_bits
        self.tenant = _tenant(database)
        self.steering = Steering(database, now=now, random_bits=random_bits)

    def add_token(self, *, label: str, lifetime_s: float, place: Place = NOWHERE) -> str:
        """Make a one-time enrolment token; it is shown once and never stored. The device takes over its place.

        Raises:
            FleetError: the place cannot be used.
        """
        check_place(place)
        token = credentials.new_enrolment_token()
        now_s = self.now()
        with self.database.write() as connection:
            enrolment.add_token(connection, token, label=label, now_s=now_s, lifetime_s=lifetime_s, place=place)
            audit_log.append(
                connection,
                now_s=now_s,
                actor="admin",
                action="token.created",
                subject=f"token:{credentials.token_digest(token)[:12]}",
                detail={"label": label, "lifetime_s": lifetime_s, **msgspec.to_builtins(place)},
            )
        return token

    def enrol(self, token: str, device: enrolment.Enrolling) -> Enrolled:
        """Use up a token and give the device its id and secret.

        Raises:
            UnauthorizedError: the token is unknown, used or expired.
            ConflictError: the name is taken.
        """
        secret = credentials.new_device_secret()
        now_s = self.now()
        with self.database.write() as connection:
            name = enrolment.enrol(connection, token, device, secret=secret, now_s=now_s)
            audit_log.append(
                connection,
                now_s=now_s,
                actor=f"device:{name}",
                action="device.enrolled",
                subject=f"device:{name}",
                detail={
                    "target": device.target,
                    "emulated": device.emulated,
                    "token": credentials.token_digest(token)[:12],
                },
            )
        return Enrolled(tenant=self.tenant, device=name, secret=secret)

    def move(self, device: str, change: PlaceChange) -> enrolment.Device:
        """Set where a device stands; what is None, and labels that are not named, stay as they are.

        Raises:
            NotFoundError: there is none of that name.
            FleetError: the place cannot be used.
        """
        now_s = self.now()
        with self.database.write() as connection:
            before = enrolment.place_of(enrolment.get(connection, device))
            place = check_place(change.of(before))
            enrolment.move(connection, device, place)
            audit_log.append(
                connection,
                now_s=now_s,
                actor="admin",
                action="device.set",
                subject=f"device:{device}",
                detail={"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(place)},
            )
            return enrolment.get(connection, device)

    def remove(self, device: str) -> None:
        """Revoke a device's secret and free its name; its history stays.

        Raises:
            NotFoundError: there is none of that name.
        """
        now_s = self.now()
        with self.database.write() as connection:
            enrolment.remove(connection, device, now_s=now_s)
            audit_log.append(
                connection,
                now_s=now_s,
                actor="admin",
                action="device.removed",
                subject=f"device:{device}",
                detail={},
            )

    def accept(self, upload: Upload) -> releases.StoredBundle:
        """Verify an uploaded archive in full and keep it. The same archive again is accepted and changes nothing.

        Raises:
            BundleError: it is not a whole and sound bundle.
        """
        digest = upload.finish()
        manifest = archive.verify(upload.path)
        bundle = _stored(upload, digest, manifest, now_s=self.now())
        upload.keep(digest)
        with self.database.write() as connection:
            if releases.put_bundle(connection, bundle):
                audit_log.append(
                    connection,
                    now_s=bundle.uploaded_s,
                    actor="admin",
                    action="bundle.uploaded",
                    subject=f"bundle:{digest}",
                    detail={"model": bundle.model, "version": bundle.version, "target": bundle.target},
                )
        return bundle

    def add_release(self, model: str, version: str, digests: list[str]) -> releases.Release:
        """Make a release of uploaded bundles; the same call again returns the same release.

        Raises:
            FleetError: the bundles do not fit together (ConflictError, NotFoundError among them).
        """
        now_s = self.now()
        with self.database.write() as connection:
            known = releases.find_release(connection, model, version)
            release = releases.add_release(connection, model, version, digests, now_s=now_s)
            if known is None:
                audit_log.append(
                    connection,
                    now_s=now_s,
                    actor="admin",
                    action="release.created",
                    subject=f"release:{model} {version}",
                    detail={"bundles": release.bundles},
                )
        return release

    def create_rollout(self, model: str, version: str, policy: dict[str, Any]) -> Rollout:
        """Start to roll a release out; see `Steering.create`."""
        return self.steering.create(model, version, policy)

    def fire(self, rollout_id: str, event: core.Event, *, reason: str) -> Rollout:
        """Carry out an operator's wish about a rollout; see `Steering.fire`."""
        return self.steering.fire(rollout_id, event, reason=reason)

    def rollout(self, rollout_id: str) -> RolloutView:
        """Return all about one rollout.

        Raises:
            NotFoundError: there is no such rollout.
        """
        with self.database.read() as connection:
            view = rollout_view(connection, *rollouts.get(connection, rollout_id))
            every = tuple(rollouts.assignments_of(connection, rollout_id))
        return msgspec.structs.replace(view, assignments=every)

    def rollout_page(
        self, rollout_id: str, *, limit: int, after: int = -1, of: order_pages.Wanted = order_pages.ANY
    ) -> RolloutView:
        """Return all about one rollout but its orders, and of these the first `limit` behind the position `after`.

        Raises:
            NotFoundError: there is no such rollout.
        """
        with self.database.read() as connection:
            view = rollout_view(connection, *rollouts.get(connection, rollout_id))
            epochs = releases.epochs(connection)
            found = order_pages.page(connection, rollout_id, epochs, limit=limit + 1, after=after, of=of)
        shown = found[:limit]
        more = (shown[-1].position if shown else after) if len(found) > limit else None
        return msgspec.structs.replace(view, assignments=shown, after=more)

    def rollouts(self) -> list[Rollout]:
        """Return rollouts, newest first."""
        with self.database.read() as connection:
            return rollouts.every(connection)

    def devices(self, *, after: str = "", limit: int | None = None) -> list[enrolment.Device]:
        """Return devices in the order of their names."""
        with self.database.read() as connection:
            return enrolment.every(connection, after=after, limit=limit)

    def device(self, device: str) -> enrolment.Device:
        """Return one device.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self.database.read() as connection:
            return enrolment.get(connection, device)

    def releases(self) -> list[releases.Release]:
        """Return releases, newest first."""
        with self.database.read() as connection:
            return releases.every_release(connection)

    def drift(self, *, model: str | None = None, span_s: float = 86400.0) -> list[DriftView]:
        """Compare the traffic of the last `span_s` seconds with the references, bundle by bundle."""
        with self.database.read() as connection:
            found = traffic_of(connection, now_s=self.now(), span_s=span_s, model=model)
        return [
            drift_view(each)
            for each in sorted(found, key=lambda one: (one.bundle.model, one.bundle.uploaded_s, one.bundle.target))
        ]

    def audit(self, *, limit: int, before_seq: int | None = None, subject: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first."""
        with self.database.read() as connection:
            return audit_log.page(connection, limit=limit, before_seq=before_seq, subject=subject)

    def verify_audit(self, *, head: str | None = None) -> AuditVerdict:
        """Check the whole chain."""
        with self.database.read() as connection:
            return verify(audit_log.every(connection), head=head)


def _tenant(database: Database) -> str:
    with database.write() as connection:
        tenant = read_meta(connection, "tenant")
        if tenant is None:
            tenant = f"t-{secrets.token_hex(4)}"
            write_meta(connection, "tenant", tenant)
    return tenant


def _stored(upload: Upload, digest: str, manifest: Manifest, *, now_s: float) -> releases.StoredBundle:
    reference_digest = next(entry.sha256 for entry in manifest.entries if entry.path == "reference.cbor")
    return releases.StoredBundle(
        digest=digest,
        model=manifest.model,
        version=manifest.version,
        target=manifest.target.name,
        target_digest=manifest.target.digest,
        security_epoch=manifest.security_epoch,
        size_bytes=upload.size_bytes,
        manifest=_read(upload.path, "manifest.json"),
        reference_digest="sha256:" + reference_digest.removeprefix("sha256:"),
        reference=_read(upload.path, "reference.cbor"),
        uploaded_s=now_s,
    )


def _read(path: Path, name: str) -> bytes:
    """Read one small entry of an archive that was verified already: names, sizes and digests are known to be right."""
    with tarfile.open(path, "r:") as tar:
        file = tar.extractfile(name)
        if file is None:
            raise FleetError(f"{name} is not a file in the bundle")
        return file.read()
