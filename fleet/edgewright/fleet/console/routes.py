"""Routes of the console. Who may call them is decided where the router is included (api/app.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse

from ..core.rollout import OPERATOR_EVENTS
from ..faults import NotFoundError
from ..service import Fleet
from ..store.order_pages import LAST_POSITION, State, Wanted
from .feed import REFRESH_S, Feed, Sections, changes
from .headers import SECURITY_HEADERS

STATIC = Path(__file__).parent / "static"
STATIC_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
MOST_VIEWERS = 64
KEEP_ALIVE_S = 15.0


def build_router(fleet: Fleet, *, broker_connected: Callable[[], bool]) -> APIRouter:
    """Return the console: the page at `/`, its live feed, its files, and the buttons."""
    router = APIRouter()
    feed = Feed(fleet, broker_connected=broker_connected)
    viewers: set[object] = set()

    @router.get("/")
    def page() -> HTMLResponse:
        """Show the page."""
        return HTMLResponse(feed.page(), headers=SECURITY_HEADERS)

    @router.get("/console/events")
    async def events(request: Request) -> Response:
        """Send sections that change, as server-sent events."""
        if len(viewers) >= MOST_VIEWERS:
            raise HTTPException(503, f"{MOST_VIEWERS} consoles are open already; close one")
        return StreamingResponse(
            _stream(feed, request.is_disconnected, viewers), media_type="text/event-stream", headers=SECURITY_HEADERS
        )

    @router.get("/console/static/{name}")
    def static(name: str) -> FileResponse:
        """Serve a file of the console."""
        path = STATIC / name
        if path.parent != STATIC or path.suffix not in STATIC_TYPES or not path.is_file():
            raise NotFoundError(f"the console has no file {name!r}")
        headers = SECURITY_HEADERS | {"Cache-Control": "private, max-age=300"}
        return FileResponse(path, media_type=STATIC_TYPES[path.suffix], headers=headers)

    @router.get("/console/orders")
    def orders(
        rollout: Annotated[str, Query(max_length=100)] = "",
        state: State | Literal[""] = "",
        board: Annotated[str, Query(max_length=200)] = "",
        site: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[int, Query(ge=-1, le=LAST_POSITION)] = -1,
    ) -> HTMLResponse:
        """Show some devices of a rollout; an empty filter is none."""
        of = Wanted(state=state or None, board=board or None, site=site or None)
        return HTMLResponse(feed.orders(rollout, of, after=after), headers=SECURITY_HEADERS)

    @router.post("/console/rollouts/{rollout}/{event}")
    def press(rollout: str, event: str, hx_request: Annotated[str, Header()] = "") -> Response:
        """Carry out a button. The header cannot be set by a form or a link of another site."""
        known = next((one for one in OPERATOR_EVENTS if one == event), None)
        if known is None or hx_request != "true":
            raise NotFoundError(f"the console has no button {event!r}")
        fleet.fire(rollout, known, reason="button in the console")
        return Response(status_code=204, headers=SECURITY_HEADERS)

    @router.post("/console/rollouts/{rollout}/boards/{target}/rollback")
    def roll_back_board(rollout: str, target: str, hx_request: Annotated[str, Header()] = "") -> Response:
        """Take the release back from one board."""
        if hx_request != "true":
            raise NotFoundError("the console has no such button")
        fleet.steering.roll_back_board(rollout, target, reason="button in the console")
        return Response(status_code=204, headers=SECURITY_HEADERS)

    return router


async def _stream(
    feed: Feed, is_gone: Callable[[], Awaitable[bool]], viewers: set[object], *, period_s: float = REFRESH_S
) -> AsyncIterator[str]:
    me = object()
    viewers.add(me)
    sent: Sections = {}
    silent_s = 0.0
    try:
        while not await is_gone():
            sections = await run_in_threadpool(feed.sections)
            text = changes(sent, sections)
            silent_s = 0.0 if text else silent_s + period_s
            if text or silent_s >= KEEP_ALIVE_S:
                yield text or ": still here\n\n"
                silent_s = 0.0
            sent = sections
            await asyncio.sleep(period_s)
    finally:
        viewers.discard(me)
