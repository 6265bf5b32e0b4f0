"""Bundles and releases: archives go up once, whole and verified, and come down by range."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from ..service import Fleet
from ..store import releases
from .auth import Gate
from .documents import Documents, answer
from .requests import ReleaseRequest

ARCHIVE_TYPE = "application/x-tar"


class BundleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded bundle."""

    digest: str
    model: str
    version: str
    target: str
    size_bytes: int
    security_epoch: int


class ReleaseList(msgspec.Struct, frozen=True, kw_only=True):
    """Releases, newest first."""

    releases: list[releases.Release]


def build(fleet: Fleet, gate: Gate, documents: Documents) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", tags=["releases"])
    admin = [Depends(gate.require_admin)]

    @router.post(
        "/artifacts",
        dependencies=admin,
        status_code=201,
        responses=documents.of(BundleSummary, status=201, errors=(400, 401, 413)),
        openapi_extra={"requestBody": {"required": True, "content": {ARCHIVE_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def upload(request: Request) -> Response:
        """Upload a bundle archive (the raw body). It is verified in full before it is kept."""
        incoming = await run_in_threadpool(fleet.artifacts.begin)
        try:
            announced = request.headers.get("content-length", "")
            incoming.announce(int(announced) if announced.isdecimal() else 0)
            async for chunk in request.stream():
                await run_in_threadpool(incoming.write, chunk)
            bundle = await run_in_threadpool(fleet.accept, incoming)
        finally:
            await run_in_threadpool(incoming.discard)
        return answer(_summary(bundle), status_code=201)

    @router.get(
        "/artifacts/{digest}",
        dependencies=[Depends(gate.require_reader)],
        response_class=FileResponse,
        responses=documents.refusals(400, 401, 404)
        | {206: {"description": "A part."}, 416: {"description": "No such part."}},
    )
    def download(digest: str) -> FileResponse:
        """Download an archive; `Range` and `If-Range` with the ETag continue a download that broke off."""
        path = fleet.artifacts.path(digest)
        headers = {"ETag": f'"{path.name}"', "Cache-Control": "private, immutable"}
        return FileResponse(path, media_type=ARCHIVE_TYPE, headers=headers)

    @router.post(
        "/releases",
        dependencies=admin,
        status_code=201,
        responses=documents.of(releases.Release, status=201, errors=(400, 401, 404, 409)),
    )
    def create_release(request: ReleaseRequest) -> Response:
        """Make a release of uploaded bundles, one per target."""
        return answer(fleet.add_release(request.model, request.version, request.bundles), status_code=201)

    @router.get("/releases", dependencies=admin, responses=documents.of(ReleaseList))
    def list_releases() -> Response:
        """List releases, newest first."""
        return answer(ReleaseList(releases=fleet.releases()))

    return router


def _summary(bundle: releases.StoredBundle) -> BundleSummary:
    return BundleSummary(
        digest=bundle.digest,
        model=bundle.model,
        version=bundle.version,
        target=bundle.target,
        size_bytes=bundle.size_bytes,
        security_epoch=bundle.security_epoch,
    )
