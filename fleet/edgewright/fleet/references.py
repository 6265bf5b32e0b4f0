"""Drift references of uploaded bundles."""

from __future__ import annotations

from functools import lru_cache

from edgewright.bundle.reference import Reference, read_reference

from .store.releases import StoredBundle


def reference_of(bundle: StoredBundle) -> Reference:
    """Return the reference that came with a bundle."""
    return _read(bundle.reference)


@lru_cache(maxsize=256)
def _read(packed: bytes) -> Reference:
    return read_reference(packed)
