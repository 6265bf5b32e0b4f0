"""Credentials: enrolment tokens, device secrets, the admin token.

A token is random and long, so its plain SHA-256 is a safe thing to store; no password here needs a slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from ..faults import FleetUnavailable, UnauthorizedError

SECRET_BYTES = 32
ADMIN_FILE = "admin.token"
_HTTP_LABEL = b"edgewright http 1"


def new_enrolment_token() -> str:
    """Return a token that enrols one device."""
    return "ewt_" + secrets.token_urlsafe(24)


def token_digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_device_secret() -> bytes:
    """Return the secret that a device and the fleet share from its enrolment on."""
    return secrets.token_bytes(SECRET_BYTES)


def device_bearer(device: str, secret: bytes) -> str:
    """Return what a device sends as its HTTP bearer token; it does not reveal the secret that seals messages."""
    return f"{device}.{hmac.new(secret, _HTTP_LABEL, hashlib.sha256).hexdigest()}"


def split_bearer(bearer: str) -> str:
    """Return the device that a bearer token claims to be from.

    Raises:
        UnauthorizedError: it is not `<device>.<hex>`.
    """
    device, dot, proof = bearer.rpartition(".")
    if not dot or not device or not proof:
        raise UnauthorizedError("the bearer token is not <device>.<HMAC in hex>")
    return device


def same(left: str, right: str) -> bool:
    """Compare two credentials in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def admin_token(directory: Path) -> str:
    """Return the admin token of a data directory, made on first use (mode 0600)."""
    path = directory / ADMIN_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_admin_token(directory)
    with os.fdopen(descriptor, "w") as file:
        token = secrets.token_urlsafe(32)
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token


def read_admin_token(directory: Path) -> str:
    """Return the admin token of a data directory that a server has used before.

    Raises:
        FleetUnavailable: there is none.
    """
    path = directory / ADMIN_FILE
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise FleetUnavailable(
            f"no admin token at {path} ({error.strerror}); give the data directory of a running "
            "`edgewright fleet serve` with --data, or a token with --token"
        ) from error
    if not token:
        raise FleetUnavailable(f"{path} is empty; remove it and start `edgewright fleet serve` to have a new one made")
    return token
