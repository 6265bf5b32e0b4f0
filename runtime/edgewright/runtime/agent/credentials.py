"""What the device was given when it enrolled: STATE/credentials.json, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from edgewright.targets.faults import UserFault

from ..storage import LocalStorage, replace_file


class CredentialsError(UserFault):
    """The credentials are damaged."""


class MqttAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker listens."""

    host: str
    port: int


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who this device is to its fleet."""

    tenant: str
    device: str
    secret: str
    """Hexadecimal."""
    mqtt: MqttAddress
    fleet_url: str = ""

    @property
    def secret_bytes(self) -> bytes:
        """The key of every MAC."""
        return bytes.fromhex(self.secret)


def read_credentials(state: Path) -> Credentials | None:
    """Return the credentials, or None where the device is not enrolled.

    Raises:
        CredentialsError: the file is damaged.
    """
    path = state / "credentials.json"
    try:
        credentials = msgspec.json.decode(path.read_bytes(), type=Credentials)
        bytes.fromhex(credentials.secret)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, ValueError) as error:
        raise CredentialsError(f"{path} is damaged: {error}; enrol the device again") from error
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror or error}") from error
    return credentials


def write_credentials(state: Path, credentials: Credentials) -> None:
    """Store the credentials, durably, mode 0600."""
    path = state / "credentials.json"
    mask = os.umask(0o177)
    try:
        replace_file(LocalStorage(), path, msgspec.json.format(msgspec.json.encode(credentials), indent=1) + b"\n")
    finally:
        os.umask(mask)
