"""Every error leaves as `{"error": "<one sentence>"}` with a fitting status."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from edgewright.targets.faults import EnvironmentFault, Fault

from ..console.login import login_page
from ..faults import FleetError, UnauthorizedError

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Have the app answer errors in our way."""
    app.add_exception_handler(Fault, _fault)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _no_database)
    app.add_exception_handler(Exception, _bug)


def answer(status: int, text: str) -> JSONResponse:
    """Return an error response."""
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def _fault(request: Request, error: Exception) -> Response:
    if isinstance(error, UnauthorizedError) and request.url.path == "/":
        return login_page()  # a person with a browser
    if isinstance(error, FleetError):
        return answer(error.status, str(error))
    if isinstance(error, EnvironmentFault):
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    return answer(HTTPStatus.BAD_REQUEST, str(error))


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    texts = [f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems]
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(texts) or "malformed request")


def _http(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException):
        return answer(error.status_code, str(error.detail))
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")


def _no_database(request: Request, error: Exception) -> JSONResponse:
    reason = error.orig if isinstance(error, OperationalError) else error
    log.error("%s %s: the database refused (%s)", request.method, request.url.path, reason)
    text = f"the database refused ({reason}) and nothing was changed; see that its disk has room, then try again"
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, text)


def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the server's log has the details")
