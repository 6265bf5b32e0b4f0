"""Talks to a fleet server over HTTP, for the commands. Standard library only."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from .faults import FleetError, FleetUnavailable
from .trust.credentials import read_admin_token

DEFAULT_URL = "http://127.0.0.1:8600"
TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 600.0
MAX_ANSWER_BYTES = 256 * 1024 * 1024


class FleetClient:
    """One server, one admin token."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise FleetError(f"--url is {url!r}; expected http://host:port")
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token

    def get(self, path: str, **query: str | float | None) -> Any:
        """Return the JSON at a path."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON and return the JSON that comes back."""
        return self._call("POST", path, json.dumps(body).encode(), "application/json")

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Send a change as JSON and return the JSON that comes back."""
        return self._call("PATCH", path, json.dumps(body).encode(), "application/json")

    def delete(self, path: str) -> None:
        """Remove what is at a path."""
        self._call("DELETE", path)

    def upload(self, archive: Path) -> Any:
        """Upload a bundle archive and return its summary."""
        try:
            with archive.open("rb") as file:
                return self._call("POST", "/v1/artifacts", file, "application/x-tar", archive.stat().st_size)
        except OSError as error:
            raise FleetError(f"cannot read {archive}: {error.strerror or error}") from error

    def _call(
        self, method: str, path: str, body: Any = None, content_type: str | None = None, size_bytes: int | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        timeout_s = TIMEOUT_S if size_bytes is None else UPLOAD_TIMEOUT_S
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=timeout_s)
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body=body, headers=headers)
            response = connection.getresponse()
            status, text = response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise FleetUnavailable(
                f"no fleet server answers at {self.url} ({error}); start one with `edgewright fleet serve`, "
                "or give its address with --url"
            ) from error
        finally:
            connection.close()
        return self._read(status, text)

    def _read(self, status: int, text: bytes) -> Any:
        if status == http.client.NO_CONTENT:
            return None
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise FleetError(f"{self.url} answered {status} without JSON: is it a fleet server?") from error
        if status >= http.client.BAD_REQUEST:
            problem = answer.get("error") if isinstance(answer, dict) else None
            kind = FleetUnavailable if status == http.client.SERVICE_UNAVAILABLE else FleetError
            raise kind(str(problem or f"the server answered {status}"))
        return answer


def connect(*, url: str | None, data: Path | None, token: str | None) -> FleetClient:
    """Return a client; address and token come from the data directory where they are not given.

    Raises:
        FleetUnavailable: there is no token to be found.
    """
    directory = data or Path("fleet-data")
    return FleetClient(url or _announced_url(directory) or DEFAULT_URL, token or read_admin_token(directory))


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def _announced_url(directory: Path) -> str | None:
    try:
        url = json.loads((directory / "server.json").read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no server has run from here, or it has stopped: the default address is worth a try
    return str(url)
