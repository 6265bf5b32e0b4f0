"""Bytes of an archive from the fleet's HTTP server, from any offset on."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import urllib.parse
from collections.abc import Iterator
from typing import Protocol

from edgewright.targets.faults import EnvironmentFault

from .credentials import Credentials
from .paced_socket import Pace, PacedSocket

CHUNK_BYTES = 128 * 1024
TIMEOUT_S = 30.0


class SourceGone(EnvironmentFault):
    """The server says no, and asking again will not help."""


class SourceAway(EnvironmentFault):
    """The server cannot be reached or has trouble: ask again later."""


class ByteSource(Protocol):
    """Where archives come from."""

    def open(self, path: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes from `offset` on, or from 0 where the source cannot resume (the first item says which).

        The first chunk yielded is empty if the source starts at 0 although another offset was asked for.

        Raises:
            SourceGone: never.
            SourceAway: not now.
        """


def device_token(credentials: Credentials) -> str:
    """Return what authenticates this device over HTTP."""
    mac = hmac.new(credentials.secret_bytes, b"edgewright http 1", hashlib.sha256).hexdigest()
    return f"{credentials.device}.{mac}"


class HttpSource:
    """The fleet's server, asked with Range."""

    def __init__(self, credentials: Credentials, pace: Pace | None = None) -> None:
        self._credentials = credentials
        self._pace = pace or Pace()

    def open(self, path: str, offset: int) -> Iterator[bytes]:
        url = urllib.parse.urlsplit(self._credentials.fleet_url)
        headers = {"Authorization": f"Bearer {device_token(self._credentials)}"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        connection = connect(url)
        paced: PacedSocket | None = None
        try:
            connection.connect()
            paced = PacedSocket(connection.sock, self._pace)
            connection.sock = paced  # as much of a socket as http.client uses
            connection.request("GET", url.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            paced.head_is_over()
            if offset and response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise SourceAway("the fleet's file is shorter than what is here already")
            _check(response, path)
            if offset and not response.getheader("Content-Range", "").startswith(f"bytes {offset}-"):
                if response.status == http.client.PARTIAL_CONTENT:
                    raise SourceAway(f"the fleet sent another part of {path} than the one asked for")
                yield b""
            while chunk := response.read1(CHUNK_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise SourceAway(f"downloading {path} from {url.netloc}: {error or type(error).__name__}") from error
        finally:
            connection.close()
            if paced is not None:
                paced.hang_up()


def connect(url: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """Return an unopened connection to the server of a URL."""
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname or "", url.port, timeout=TIMEOUT_S)


def _check(response: http.client.HTTPResponse, path: str) -> None:
    if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
        return
    said = response.read(300).decode("utf-8", "replace").strip()
    message = f"the fleet answered {response.status} {response.reason} for {path}: {said}"
    if response.status in (400, 401, 403, 404, 410):
        raise SourceGone(message)
    raise SourceAway(message)
