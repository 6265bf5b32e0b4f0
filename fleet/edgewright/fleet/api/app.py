"""The ASGI application: routes, who may call them, and how errors leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata

import msgspec
from fastapi import APIRouter, Depends, FastAPI

from ..alerting import Alerting
from ..experimenting import Experimenting
from ..service import Fleet
from . import (
    alert_routes,
    artifact_routes,
    device_routes,
    errors,
    experiment_routes,
    explain_routes,
    guard_routes,
    insight_routes,
    rollout_routes,
)
from .auth import Gate, LoginLink
from .body_limit import BodyLimit
from .documents import Documents
from .origins import OriginGuard, Origins

DESCRIPTION = "Devices, releases, rollouts, drift and the audit log of one Edgewright fleet."


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the API tells of the process that it runs in."""

    mqtt_host: str
    mqtt_port: int
    broker_connected: Callable[[], bool]
    counts: Callable[[], dict[str, int]]
    origins: Origins = Origins()


def build_app(
    fleet: Fleet, *, admin_token: str, surroundings: Surroundings, extra_routers: Sequence[APIRouter] = ()
) -> FastAPI:
    """Return the application; `extra_routers` (the console) stand behind the admin's cookie or token."""
    gate = Gate(fleet.database, admin_token)
    documents = Documents()
    app = FastAPI(
        title="Edgewright fleet",
        version=metadata.version("edgewright"),
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere, and a fleet often stands where there is no elsewhere
        redoc_url=None,
    )
    errors.install(app)
    for router in (
        device_routes.build(fleet, gate, documents, surroundings.mqtt_host, surroundings.mqtt_port),
        artifact_routes.build(fleet, gate, documents),
        rollout_routes.build(fleet, gate, documents),
        explain_routes.build(fleet, gate, documents),
        guard_routes.build(fleet, gate, documents),
        alert_routes.build(Alerting(fleet), gate, documents),
        experiment_routes.build(Experimenting(fleet), gate, documents),
        insight_routes.build(fleet, gate, documents, surroundings.broker_connected, surroundings.counts),
    ):
        app.include_router(router)
    for router in extra_routers:
        app.include_router(router, dependencies=[Depends(gate.require_admin)], include_in_schema=False)
    documents.install(app)
    app.add_middleware(LoginLink, gate=gate)
    app.add_middleware(BodyLimit)
    app.add_middleware(OriginGuard, origins=surroundings.origins)
    return app
