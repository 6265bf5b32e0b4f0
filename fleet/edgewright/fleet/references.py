"""Drift references of uploaded bundles."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import Connection

from edgewright.bundle.reference import Reference, read_reference

from .store import releases


def references_of(connection: Connection) -> dict[str, Reference]:
    """Return the reference of every uploaded bundle, by the bundle's digest."""
    return {bundle.digest: _read(bundle.reference) for bundle in releases.every_bundle(connection)}


@lru_cache(maxsize=256)
def _read(packed: bytes) -> Reference:
    return read_reference(packed)
