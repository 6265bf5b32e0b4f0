"""Answers are msgspec structs: written as JSON by msgspec, described in the OpenAPI document by their JSON Schema."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

REFERENCE = "#/components/schemas/{name}"
REFUSED = "Refused; `error` says why."
BODY_REFUSED = {400: "The body is no JSON.", 408: "The body did not come in time.", 413: "The body is too large."}
"""What any route with a body may answer."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, rename={"text": "error"}):
    """Every error."""

    text: str


def answer(value: Any, *, status_code: int = 200) -> Response:
    """Return a struct (or a list of them) as a JSON response."""
    return Response(msgspec.json.encode(value), status_code=status_code, media_type="application/json")


class Documents:
    """Collects the types that the routes answer with, and puts them into the OpenAPI document."""

    def __init__(self) -> None:
        self._types: list[Any] = [ErrorBody]

    def of(self, kind: Any, *, status: int = 200, errors: tuple[int, ...] = (401,)) -> dict[int | str, dict[str, Any]]:
        """Return the `responses` of a route that answers with `kind`."""
        self._types.append(kind)
        found: dict[int | str, dict[str, Any]] = {status: self._response(kind, "Done.")}
        return found | self.refusals(*errors)

    def refusals(self, *errors: int) -> dict[int | str, dict[str, Any]]:
        """Return the `responses` that say no; each route refuses what does not have the shape of a request (422)."""
        return {code: self._response(ErrorBody, REFUSED) for code in (*errors, 422)}

    def install(self, app: FastAPI) -> None:
        """Make the app's document name our types."""

        def openapi() -> dict[str, Any]:
            if app.openapi_schema is None:
                document = get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                )
                for route in (one for path in document["paths"].values() for one in path.values()):
                    if "requestBody" in route:
                        route["responses"] = self._of_bodies() | route["responses"]
                _, components = msgspec.json.schema_components(self._types, ref_template=REFERENCE)
                document.setdefault("components", {}).setdefault("schemas", {}).update(components)
                app.openapi_schema = document
            return app.openapi_schema

        app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents

    def _of_bodies(self) -> dict[str, dict[str, Any]]:
        return {str(code): self._response(ErrorBody, text) for code, text in BODY_REFUSED.items()}

    @staticmethod
    def _response(kind: Any, text: str) -> dict[str, Any]:
        (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFERENCE)
        return {"description": text, "content": {"application/json": {"schema": schema}}}
