"""One signed POST, by the Standard Webhooks rules (https://github.com/standard-webhooks/standard-webhooks, spec 1.0).

The signature is HMAC-SHA256 over `<id>.<timestamp>.<body>`, so a receiver can tell that the message is ours, whole and
recent; the id is the same in every attempt, so it can tell a repetition.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import socket
import threading
from urllib.parse import SplitResult, urlsplit

from ..faults import FleetError
from .outcome import HookFailed, printable

SECRET_BYTES = 32
MOST_STATUS = 299
MOST_REASON = 80


def check_url(url: str) -> SplitResult:
    """Return the parts of an address that a webhook may have.

    Raises:
        FleetError: not http or https, no host, or a password in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FleetError(f"webhook: {url[:200]!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise FleetError(f"webhook: {url[:200]!r}; expected https://host/path (or http inside your own network)")
    if parts.username is not None or parts.password is not None:
        raise FleetError("webhook: no user or password in the URL: it would stand in the log; messages are signed")
    if not url.isascii() or any(character.isspace() for character in url):
        raise FleetError(f"webhook: {url[:200]!r} has characters that a URL has in percent encoding only")
    return parts


def sign(secret: bytes, call: str, at_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when."""
    digest = hmac.new(secret, f"{call}.{at_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": call,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def shown(secret: bytes) -> str:
    """Return a secret as receivers expect it."""
    return f"whsec_{base64.b64encode(secret).decode()}"


def post(url: str, body: bytes, headers: dict[str, str], *, timeout_s: float) -> str:
    """Send a body once and return the status line. Redirections are not followed: they count as failures.

    Raises:
        HookFailed: no answer in time, or another status than 2xx.
    """
    parts = check_url(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    is_over = threading.Event()
    cutter = threading.Timer(timeout_s, _cut, [connection, is_over])  # each byte that drips resets the socket's timeout
    cutter.daemon = True
    cutter.start()
    try:
        connection.connect()
        if is_over.is_set():  # in a slow name server, or one dead address after another: there was no socket to cut
            raise TimeoutError("no connection in time")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=body, headers={"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        response.close()  # its body is not read, however long
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"no answer within {timeout_s:g} s" if is_over.is_set() else printable(str(error)) or type(error).__name__
        raise HookFailed(f"{parts.hostname}: {why}") from error
    finally:
        cutter.cancel()
        connection.close()
    status = f"{response.status} {printable(response.reason[:MOST_REASON])}"
    if not http.client.OK <= response.status <= MOST_STATUS:
        raise HookFailed(f"{parts.hostname} answered {status}")
    return status


def _cut(connection: http.client.HTTPConnection, is_over: threading.Event) -> None:
    is_over.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # it ended by itself at the same moment
            connection.sock.shutdown(socket.SHUT_RDWR)
