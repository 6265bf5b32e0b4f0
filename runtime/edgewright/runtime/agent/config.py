"""device.toml: how a device is set up. Every key has a default: the daemon runs from first boot without a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edgewright.targets.faults import UserFault

MAX_CONFIG_BYTES = 64 * 1024

Seconds = Annotated[float, Meta(gt=0, le=30 * 24 * 3600)]


class ConfigError(UserFault):
    """device.toml is wrong; the message names the key."""


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of device.toml."""

    target: str = "host"
    """Name of the board, or the path of a board file. `host`: what this machine is found to be."""
    emulate: bool = False
    """A rehearsal device: it claims a target that it is not, and computes with exact arithmetic."""
    listen: str = "127.0.0.1:8000"
    """Address and port of the inference API; port 0 takes a free one."""
    window_s: Annotated[int, Meta(ge=1, le=24 * 3600)] = 60
    """Length of a telemetry window."""
    report_interval_s: Seconds = 60.0
    """How often changed counts go into the spool. A power cut loses at most so much of them."""
    heartbeat_s: Seconds = 30.0
    probation_s: Seconds = 60.0
    """How long a bundle that was installed by hand must serve before it is confirmed; the fleet names its own."""
    trial_timeout_s: Seconds = 120.0
    ping_interval_s: Seconds = 5.0
    ping_deadline_s: Seconds = 30.0
    """A server that does not answer for so long is killed and started again."""
    spool_max_bytes: Annotated[int, Meta(ge=4096)] = 16 * 1024 * 1024
    download_max_bytes: Annotated[int, Meta(ge=1)] = 4 * 1024**3
    fetch_deadline_s: Seconds = 24 * 3600.0
    """How long a download is tried again before the update fails."""


def read_config(path: Path) -> DeviceConfig:
    """Return the configuration in a file.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, or a value out of range.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} has {len(content)} bytes; a device configuration has at most {MAX_CONFIG_BYTES}")
    try:
        return msgspec.convert(tomllib.loads(content.decode()), DeviceConfig)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}. Keys: {', '.join(DeviceConfig.__struct_fields__)}") from error


def parse_listen(listen: str) -> tuple[str, int]:
    """Return (host, port) of `host:port` or `[v6]:port`.

    Raises:
        ConfigError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"listen is {listen!r}: expected an address and a port, for example 127.0.0.1:8000")
    return host, int(port)
