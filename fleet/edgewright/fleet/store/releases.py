"""Bundles that were uploaded, and releases: the bundles of one model version, one per target."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from ..faults import ConflictError, FleetError, NotFoundError
from .schema import bundles, release_bundles, releases


class StoredBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet needs to know of an uploaded bundle."""

    digest: str
    model: str
    version: str
    target: str
    target_digest: str
    security_epoch: int
    size_bytes: int
    manifest: bytes
    reference_digest: str
    reference: bytes
    uploaded_s: float


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One model version."""

    model: str
    version: str
    created_s: float
    bundles: dict[str, str]
    """Digest by target name."""


def put_bundle(connection: Connection, bundle: StoredBundle) -> bool:
    """Add a bundle; returns False where it is there already."""
    if connection.execute(select(bundles.c.digest).where(bundles.c.digest == bundle.digest)).one_or_none():
        return False
    connection.execute(insert(bundles).values(msgspec.structs.asdict(bundle)))
    return True


def get_bundle(connection: Connection, digest: str) -> StoredBundle:
    """Return one bundle.

    Raises:
        NotFoundError: no such bundle was uploaded.
    """
    row = connection.execute(select(bundles).where(bundles.c.digest == digest)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"no bundle {digest}; upload it first (POST /v1/artifacts, or `edgewright fleet release add`)"
        )
    return _bundle(row)


def every_bundle(connection: Connection) -> list[StoredBundle]:
    """Return all bundles, newest first."""
    query = select(bundles).order_by(bundles.c.uploaded_s.desc(), bundles.c.digest)
    return [_bundle(row) for row in connection.execute(query)]


def epochs(connection: Connection) -> dict[str, int]:
    """Return the security epoch of every bundle that was ever uploaded, by digest."""
    return {
        row.digest: row.security_epoch for row in connection.execute(select(bundles.c.digest, bundles.c.security_epoch))
    }


def add_release(connection: Connection, model: str, version: str, digests: list[str], *, now_s: float) -> Release:
    """Make a release of uploaded bundles. The same call again returns the same release.

    Raises:
        ConflictError: the release exists with other bundles. A release never changes.
        FleetError: a bundle is of another model or version, or two are for one target.
        NotFoundError: a bundle was not uploaded.
    """
    chosen = _by_target(connection, model, version, digests)
    existing = find_release(connection, model, version)
    if existing is not None:
        if existing.bundles != chosen:
            raise ConflictError(
                f"release {model} {version} exists with other bundles, and a release never changes: "
                "compile with another --release-version"
            )
        return existing
    connection.execute(insert(releases).values(model=model, version=version, created_s=now_s))
    connection.execute(
        insert(release_bundles),
        [{"model": model, "version": version, "target": target, "digest": digest} for target, digest in chosen.items()],
    )
    return Release(model=model, version=version, created_s=now_s, bundles=chosen)


def find_release(connection: Connection, model: str, version: str) -> Release | None:
    """Return a release, or None."""
    where = (releases.c.model == model, releases.c.version == version)
    row = connection.execute(select(releases).where(*where)).one_or_none()
    return None if row is None else _release(connection, row)


def get_release(connection: Connection, model: str, version: str) -> Release:
    """Return a release.

    Raises:
        NotFoundError: there is none.
    """
    release = find_release(connection, model, version)
    if release is None:
        raise NotFoundError(f"no release {model} {version}; `edgewright fleet release ls` shows those there are")
    return release


def every_release(connection: Connection) -> list[Release]:
    """Return all releases, newest first."""
    query = select(releases).order_by(releases.c.created_s.desc(), releases.c.model, releases.c.version)
    return [_release(connection, row) for row in connection.execute(query)]


def _by_target(connection: Connection, model: str, version: str, digests: list[str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for digest in digests:
        bundle = get_bundle(connection, digest)
        if (bundle.model, bundle.version) != (model, version):
            raise FleetError(
                f"bundle {digest} is {bundle.model} {bundle.version}, the release is {model} {version}: "
                "a release holds bundles of one model version"
            )
        if chosen.setdefault(bundle.target, digest) != digest:
            raise FleetError(f"two bundles for target {bundle.target}: a release holds one per target")
    return dict(sorted(chosen.items()))


def _release(connection: Connection, row: Row[Any]) -> Release:
    where = (release_bundles.c.model == row.model, release_bundles.c.version == row.version)
    found = connection.execute(select(release_bundles).where(*where).order_by(release_bundles.c.target))
    return Release(
        model=row.model,
        version=row.version,
        created_s=row.created_s,
        bundles={each.target: each.digest for each in found},
    )


def _bundle(row: Row[Any]) -> StoredBundle:
    return StoredBundle(**row._mapping)  # noqa: SLF001  (public in spite of its name: sqlalchemy.Row documents it)
