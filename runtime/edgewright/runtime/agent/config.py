"""device.toml: how a device is set up. Every key has a default: the daemon runs from first boot without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgewright.targets.faults import UserFault

from ..bounded_toml import BadToml, read_toml
from ..serving import BreakerSettings, ModelSettings, PowerSettings, Settings, TlsSettings

MAX_CONFIG_BYTES = 64 * 1024

Seconds = Annotated[float, Meta(gt=0, le=30 * 24 * 3600)]


class ConfigError(UserFault):
    """device.toml is wrong; the message names the key."""


class ServerSection(Settings, frozen=True, kw_only=True):
    """`[server]` of device.toml."""

    access_log: bool = False
    """One line for each request in server.log."""
    log_format: Literal["text", "json"] = "text"
    tensors: bool = True
    """`run/tensors.sock`, for programs on this machine that hand over tensors in shared memory."""
    admin: bool = True
    """`run/admin.sock`, where models are loaded and unloaded over the API. Only this user can open it."""


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of device.toml."""

    target: str = "host"
    """Name of the board, or the path of a board file. `host`: what this machine is found to be."""
    emulate: bool = False
    """A rehearsal device: it claims a target that it is not, and computes with exact arithmetic."""
    listen: str = "127.0.0.1:8000"
    """Address and port of the inference API; port 0 takes a free one."""
    admin_listen: str | None = None
    """Address and port of an API that can also change what is served."""
    grpc: str | None = None
    """Address and port of the inference API over gRPC, or `unix:/path`."""
    tls: TlsSettings | None = None
    """For every TCP listener."""
    token_file: str | None = None
    """Tokens, one a line; whoever comes over TCP must show one."""
    power: PowerSettings = PowerSettings()
    """When to save energy and heat, and what that means."""
    server: ServerSection = ServerSection()
    models: dict[str, ModelSettings] = {}
    """`[models.NAME]`: how each model is served."""
    window_s: Annotated[int, Meta(ge=1, le=24 * 3600)] = 60
    """Length of a telemetry window."""
    report_interval_s: Seconds = 60.0
    """How often changed counts go into the spool. A power cut loses at most so much of them."""
    heartbeat_s: Seconds = 30.0
    probation_s: Seconds = 60.0
    """How long a bundle that was installed by hand must serve before it is confirmed; the fleet names its own."""
    trial_timeout_s: Seconds = 120.0
    ping_interval_s: Seconds = 0.5
    ping_deadline_s: Seconds = 30.0
    """A server that is busy and does not answer for so long is replaced; one that is stopped or stuck within 2 s."""
    spool_max_bytes: Annotated[int, Meta(ge=4096)] = 16 * 1024 * 1024
    download_max_bytes: Annotated[int, Meta(ge=1)] = 4 * 1024**3
    fetch_deadline_s: Seconds = 24 * 3600.0
    """How long a download is tried again before the update fails."""

    def settings_of(self, model: str) -> ModelSettings:
        """Return how a model is served."""
        return self.models.get(model, _DEFAULT_SETTINGS)


_DEFAULT_SETTINGS = ModelSettings()


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
        tables = read_toml(content.decode())
    except (BadToml, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        return _absolute(msgspec.convert(tables, DeviceConfig), path.absolute().parent)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_in_words(str(error), tables)}") from error


_TABLES: dict[str, type[msgspec.Struct]] = {
    "$": DeviceConfig,
    "$.tls": TlsSettings,
    "$.server": ServerSection,
    "$.power": PowerSettings,
    "$.models[...]": ModelSettings,
    "$.models[...].breaker": BreakerSettings,
}


def _in_words(problem: str, tables: dict[str, Any]) -> str:
    """Say which model it is, which msgspec does not, and the keys of the table where one is unknown or missing."""
    what, _, place = problem.partition(" - at ")
    place = place.strip("`") or "$"
    if " field `" in what:
        what += f"; its keys are {', '.join(_TABLES[place].__struct_fields__)}" if place in _TABLES else ""
    if place.startswith("$.models[...]"):
        place = place.replace("[...]", f".{_wrong_model(tables['models'])}", 1)
    where = place.removeprefix("$").removeprefix(".")
    return f"{where}: {what}" if where else what


def _wrong_model(models: dict[str, Any]) -> str:
    """The first model whose table is not as it should be."""
    for name, table in models.items():
        try:
            msgspec.convert(table, ModelSettings)
        except msgspec.ValidationError:
            return name
    return "NAME"


def _absolute(config: DeviceConfig, folder: Path) -> DeviceConfig:
    """Files are named relative to the configuration; a server may have another working directory."""
    tls = config.tls
    if tls is not None:
        given = {name: getattr(tls, name) for name in tls.__struct_fields__}
        paths = {name: str(folder / path) for name, path in given.items() if path is not None}
        tls = msgspec.structs.replace(tls, **paths)
    tokens = None if config.token_file is None else str(folder / config.token_file)
    return msgspec.structs.replace(config, tls=tls, token_file=tokens)


def parse_listen(listen: str, key: str = "listen") -> tuple[str, int]:
    """Return (host, port) of `host:port` or `[v6]:port`.

    Raises:
        ConfigError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise ConfigError(f"{key} is {listen!r}: expected an address and a port, for example 127.0.0.1:8000")
    return host, int(port)
