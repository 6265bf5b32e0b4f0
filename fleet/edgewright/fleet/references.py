"""Drift references of uploaded bundles, in the shape that the core compares with."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import Connection

from edgewright.bundle.reference import read_reference

from .core.drift import ReferenceHistogram, ReferenceSummary
from .store import releases


def references_of(connection: Connection) -> dict[str, ReferenceSummary]:
    """Return the reference of every uploaded bundle, by the bundle's digest."""
    return {bundle.digest: summary(bundle.reference) for bundle in releases.every_bundle(connection)}


@lru_cache(maxsize=256)
def summary(packed: bytes) -> ReferenceSummary:
    """Return a reference.cbor as the core reads it."""
    reference = read_reference(packed)
    return ReferenceSummary(
        histograms=tuple(
            ReferenceHistogram(name=each.name, role=each.role, kind=each.kind, edges=each.edges, counts=each.counts)
            for each in reference.histograms
        ),
        confidence_table=reference.confidence_table,
    )
