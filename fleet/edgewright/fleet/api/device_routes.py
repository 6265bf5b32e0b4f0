"""Enrolment and the list of devices."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from ..place import Place, PlaceChange
from ..service import Fleet
from ..store import enrolment
from .auth import Gate
from .documents import Documents, answer
from .requests import EnrolRequest, PlaceRequest, TokenRequest


class MqttAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker is."""

    host: str
    port: int


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What a device keeps after enrolment. The secret is never shown again."""

    tenant: str
    device: str
    secret: str
    """32 bytes in hex."""
    mqtt: MqttAddress


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time enrolment token, shown once."""

    token: str


class DeviceList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of devices; ask again with `after` for the next one."""

    devices: list[enrolment.Device]
    after: str | None
    now_s: float


def build(fleet: Fleet, gate: Gate, documents: Documents, mqtt_host: str, mqtt_port: int) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["devices"])
    admin = [Depends(gate.require_admin)]

    @router.post("/enroll", responses=documents.of(Enrolment, status=201, errors=(401, 409)), status_code=201)
    def enroll(request: EnrolRequest) -> Response:
        """Enrol a device with a one-time token (the only credential needed)."""
        device = enrolment.Enrolling(
            name=request.name,
            target=request.target,
            target_digest=request.target_digest,
            software=request.software,
            emulated=request.emulated,
            isa=tuple(request.isa),
        )
        enrolled = fleet.enrol(request.token, device)
        address = MqttAddress(host=mqtt_host, port=mqtt_port)
        given = Enrolment(tenant=enrolled.tenant, device=enrolled.device, secret=enrolled.secret.hex(), mqtt=address)
        return answer(given, status_code=201)

    @router.post(
        "/tokens", dependencies=admin, responses=documents.of(NewToken, status=201, errors=(400, 401)), status_code=201
    )
    def create_token(request: TokenRequest) -> Response:
        """Make a one-time enrolment token."""
        place = Place(site=request.site, time_zone=request.time_zone, labels=request.labels)
        token = fleet.add_token(label=request.label, lifetime_s=request.lifetime_s, place=place)
        return answer(NewToken(token=token), status_code=201)

    @router.get("/devices", dependencies=admin, responses=documents.of(DeviceList))
    def list_devices(
        after: Annotated[str, Query(max_length=64)] = "", limit: Annotated[int, Query(ge=1, le=1000)] = 1000
    ) -> Response:
        """List devices in the order of their names."""
        devices = fleet.devices(after=after, limit=limit)
        more = devices[-1].device if len(devices) == limit else None
        return answer(DeviceList(devices=devices, after=more, now_s=fleet.now()))

    @router.get("/devices/{device}", dependencies=admin, responses=documents.of(enrolment.Device, errors=(401, 404)))
    def get_device(device: str) -> Response:
        """Return one device."""
        return answer(fleet.device(device))

    @router.patch(
        "/devices/{device}", dependencies=admin, responses=documents.of(enrolment.Device, errors=(400, 401, 404))
    )
    def move_device(device: str, request: PlaceRequest) -> Response:
        """Set where a device stands: its site, its time zone, its labels."""
        change = PlaceChange(site=request.site, time_zone=request.time_zone, labels=request.labels)
        return answer(fleet.move(device, change))

    @router.delete("/devices/{device}", dependencies=admin, status_code=204, responses=documents.refusals(401, 404))
    def remove_device(device: str) -> Response:
        """Revoke a device's secret and free its name. What it reported stays."""
        fleet.remove(device)
        return Response(status_code=204)

    return router
