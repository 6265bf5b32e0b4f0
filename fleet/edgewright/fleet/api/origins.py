"""Where a request may come from: the names of this server, and pages that this server made. Pure but for the shell.

A page of another site can make a browser send requests here, with the console's cookie where browsers take the two for
one site (another port of the same machine is one). So a request that changes something must come from a page of this
server. And a name that someone else points at 127.0.0.1 is not a name of this server (DNS rebinding).
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import answer

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SAFE_SITES = frozenset({"same-origin", "none"})


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """What this server is called."""

    names: tuple[str, ...] = ()
    """As browsers know it, where a proxy stands before it."""
    loopback: bool = False
    """It listens on loopback only, so its names are known: those of loopback, and `names`."""

    def refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Return status and reason where a request is not to be served."""
        host = headers.get("host", "")
        if self.loopback and _name(f"//{host}") not in LOOPBACK_NAMES.union(self.names):
            return 421, f"this server is not called {host[:100]!r}; name it with `edgewright fleet serve --name`"
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            return 403, f"a page of {origin[:100]!r} may not change anything here"
        if origin is None and headers.get("sec-fetch-site", "none") not in SAFE_SITES:
            return 403, "a page of another site may not change anything here"
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        parts = _split(origin)
        return parts is not None and (parts[1] == host.lower() or parts[0] in self.names)


class OriginGuard:
    """ASGI middleware: refuses what `Origins` refuses, before anything else looks at it."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            refusal = self._origins.refusal(scope["method"], Headers(scope=scope))
            if refusal is not None:
                await answer(*refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(url: str) -> str | None:
    parts = _split(url)
    return None if parts is None else parts[0]


def _split(url: str) -> tuple[str | None, str] | None:
    """Return the name and `name:port` in a URL; None where it is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.netloc.lower()
    except ValueError:
        return None
