"""Experiments: make one, look at it, stop it, promote its candidate."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, Response

from ..experimenting import Experimenting, ExperimentView
from .auth import Gate
from .documents import Documents, answer

Reason = Annotated[str, Body(embed=True, max_length=500)]


class ExperimentList(msgspec.Struct, frozen=True, kw_only=True):
    """Experiments, newest first."""

    experiments: list[ExperimentView]


def build(experimenting: Experimenting, gate: Gate, documents: Documents) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/experiments", tags=["experiments"], dependencies=[Depends(gate.require_admin)])

    @router.post("", status_code=201, responses=documents.of(ExperimentView, status=201, errors=(400, 401, 404, 409)))
    def create(plan: dict[str, Any]) -> Response:
        """Begin an experiment; keys are those of docs/guides/experiments.md."""
        return answer(experimenting.create(plan), status_code=201)

    @router.get("", responses=documents.of(ExperimentList))
    def list_experiments() -> Response:
        """List experiments, newest first."""
        return answer(ExperimentList(experiments=experimenting.every()))

    @router.get("/{experiment}", responses=documents.of(ExperimentView, errors=(401, 404)))
    def get_experiment(experiment: str) -> Response:
        """Return one experiment with what it shows now."""
        return answer(experimenting.status(experiment))

    @router.post("/{experiment}/stop", responses=documents.of(ExperimentView, errors=(401, 404, 409)))
    def stop(experiment: str, reason: Reason = "") -> Response:
        """End an experiment; its devices go back to the baseline."""
        return answer(experimenting.stop(experiment, reason=reason))

    @router.post("/{experiment}/promote", responses=documents.of(ExperimentView, errors=(400, 401, 404, 409)))
    def promote(
        experiment: str,
        policy: Annotated[dict[str, Any] | None, Body(embed=True)] = None,
        force: Annotated[bool, Body(embed=True)] = False,
    ) -> Response:
        """End an experiment and roll its candidate out."""
        return answer(experimenting.promote(experiment, policy=policy or {}, force=force))

    return router
