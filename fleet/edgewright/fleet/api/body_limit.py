"""Bounds request bodies, in size and in time, before anything parses them. Artifacts have their own, larger limit."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import answer

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 20.0
UPLOAD_PATH = "/v1/artifacts"


class BodyLimit:
    """ASGI middleware: 413 for a body that is, or turns out to be, too large; 408 for one that does not come."""

    def __init__(self, app: ASGIApp, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] == UPLOAD_PATH:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await _read(receive)
        except TimeoutError:
            await answer(408, f"the body did not come within {self._timeout_s:g} seconds")(scope, receive, send)
            return
        if body is None:
            await answer(413, f"the body is larger than {MAX_BODY_BYTES} bytes")(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks)
        chunks.append(message.get("body", b""))
        size_bytes += len(chunks[-1])
        if size_bytes > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
