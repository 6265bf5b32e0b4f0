"""Why a rollout did what it did, computed again from the audit log."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from ..core.explain.explain import Explanation
from ..explaining import explain_rollout
from ..service import Fleet
from .auth import Gate
from .documents import Documents, answer


def build(fleet: Fleet, gate: Gate, documents: Documents) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/rollouts", tags=["rollouts"], dependencies=[Depends(gate.require_admin)])

    @router.get("/{rollout}/explain", responses=documents.of(Explanation, errors=(400, 401, 404)))
    def explain(rollout: str) -> Response:
        """Compute every decision of a rollout again from its audit entries, and say whether it comes out the same."""
        return answer(explain_rollout(fleet.database, rollout))

    return router
