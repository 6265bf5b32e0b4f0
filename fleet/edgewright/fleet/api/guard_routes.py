"""What stands above all rollouts: the emergency stop, and each model's security floor."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from ..service import Fleet
from ..steering import Floor, Stopped
from .auth import Gate
from .documents import Documents, answer
from .requests import FloorRequest, StopRequest


def build(fleet: Fleet, gate: Gate, documents: Documents) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["guards"], dependencies=[Depends(gate.require_admin)])

    @router.get("/stop", responses=documents.of(Stopped))
    def stopped() -> Response:
        """Say whether the whole fleet is stopped."""
        return answer(fleet.steering.stopped())

    @router.post("/stop", responses=documents.of(Stopped, errors=(401, 409)))
    def stop(request: StopRequest) -> Response:
        """Stop the whole fleet: every rollout that runs pauses, and orders that no device has heard are taken back."""
        return answer(fleet.steering.stop(reason=request.reason))

    @router.post("/lift", responses=documents.of(Stopped, errors=(401, 409)))
    def lift() -> Response:
        """End the emergency stop; rollouts stay paused until each is resumed."""
        return answer(fleet.steering.lift())

    @router.get("/floors/{model}", responses=documents.of(Floor))
    def get_floor(model: str) -> Response:
        """Return the lowest security epoch that devices are ordered to, of one model."""
        return answer(fleet.steering.floor(model))

    @router.post("/floors/{model}", responses=documents.of(Floor, errors=(401, 404, 409)))
    def raise_floor(model: str, request: FloorRequest) -> Response:
        """Raise a model's security floor. It is never lowered."""
        return answer(fleet.steering.raise_floor(model, request.security_epoch))

    return router
