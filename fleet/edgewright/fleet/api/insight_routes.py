"""What the fleet knows: drift, the audit log, its own state."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from ..service import Fleet
from ..trust.audit import AuditEntry, AuditVerdict
from ..views import DriftView
from .auth import Gate
from .documents import Documents, answer

MOST_SEQ = 2**63 - 1
"""The largest number that a row can have."""


class DriftList(msgspec.Struct, frozen=True, kw_only=True):
    """Each bundle with traffic, against its reference."""

    span_s: float
    bundles: list[DriftView]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Audit entries, newest first; ask again with `before` for older ones."""

    entries: list[AuditEntry]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the server itself is."""

    version: str
    tenant: str
    broker_connected: bool
    counts: dict[str, int]
    """Messages and records since the start, and those refused, by kind."""


def build(
    fleet: Fleet,
    gate: Gate,
    documents: Documents,
    broker_connected: Callable[[], bool],
    counts: Callable[[], dict[str, int]],
) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["insight"])
    admin = [Depends(gate.require_admin)]

    @router.get("/drift", dependencies=admin, responses=documents.of(DriftList))
    def drift(
        model: Annotated[str | None, Query(max_length=200)] = None,
        span_s: Annotated[float, Query(gt=0, le=366 * 86400)] = 86400.0,
    ) -> Response:
        """Compare live traffic with the reference that came with each bundle."""
        return answer(DriftList(span_s=span_s, bundles=fleet.drift(model=model, span_s=span_s)))

    @router.get("/audit", dependencies=admin, responses=documents.of(AuditPage))
    def audit(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[int | None, Query(ge=1, le=MOST_SEQ)] = None,
        subject: Annotated[str | None, Query(max_length=300)] = None,
    ) -> Response:
        """Return audit entries, newest first."""
        return answer(AuditPage(entries=fleet.audit(limit=limit, before_seq=before, subject=subject)))

    @router.get("/audit/verify", dependencies=admin, responses=documents.of(AuditVerdict))
    def verify(head: Annotated[str | None, Query(max_length=120)] = None) -> Response:
        """Check the whole chain, and that it contains `head` (`seq:digest`) if one is given."""
        return answer(fleet.verify_audit(head=head))

    @router.get("/status", dependencies=admin, responses=documents.of(Status))
    def status() -> Response:
        """Say how the server itself is."""
        return answer(
            Status(
                version=metadata.version("edgewright"),
                tenant=fleet.tenant,
                broker_connected=broker_connected(),
                counts=counts(),
            )
        )

    @router.get("/live")
    def live() -> dict[str, bool]:
        """Answer that the server is up; needs no credential."""
        return {"live": True}

    return router
