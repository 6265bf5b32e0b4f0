"""Who is asking: the admin (bearer token, or the console's cookie) or a device (bearer made of its secret)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from ..faults import UnauthorizedError
from ..store import enrolment
from ..store.database import Database
from ..trust import credentials

COOKIE = "edgewright_console"
COOKIE_LIFETIME_S = 7 * 86400
SCHEME = HTTPBearer(auto_error=False, description="The admin token, or `<device>.<HMAC>` for a device.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(SCHEME)]


class Gate:
    """Checks requests; its methods are FastAPI dependencies."""

    def __init__(self, database: Database, admin_token: str) -> None:
        self._database = database
        self._admin_token = admin_token
        # The cookie is not the token: who reads it off a browser cannot use it as a bearer elsewhere.
        self._cookie = hmac.new(admin_token.encode(), b"edgewright console 1", hashlib.sha256).hexdigest()

    async def require_admin(self, request: Request, found: Bearer) -> None:
        """Let the admin pass.

        Raises:
            UnauthorizedError: neither the admin token nor the console's cookie came.
        """
        if credentials.same(request.cookies.get(COOKIE, ""), self._cookie):
            return
        bearer = found.credentials if found else ""
        if not credentials.same(bearer, self._admin_token):
            raise UnauthorizedError("the admin token is needed: `Authorization: Bearer …`, from DATA/admin.token")

    async def require_reader(self, found: Bearer) -> None:
        """Let the admin and every enrolled device pass."""
        bearer = found.credentials if found else ""
        if credentials.same(bearer, self._admin_token):
            return
        device = credentials.split_bearer(bearer)
        with self._database.read() as connection:
            secret = enrolment.secret_of(connection, device)
        if secret is None or not credentials.same(bearer, credentials.device_bearer(device, secret)):
            raise UnauthorizedError("the bearer token is not that of an enrolled device")

    def login(self, token: str) -> Response | None:
        """Answer the login link `/?token=…` with a cookie and a clean address; None where the token is wrong."""
        if not credentials.same(token, self._admin_token):
            return None
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, self._cookie, max_age=COOKIE_LIFETIME_S, httponly=True, samesite="strict")
        return response


class LoginLink:
    """ASGI middleware: answers the login link, passes everything else on."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"] == "/":
            token = QueryParams(scope["query_string"]).get("token")
            response = self._gate.login(token) if token is not None else None
            if response is not None:
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
