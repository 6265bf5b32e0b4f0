"""Which sockets the device listens on, and what a client must show there; bound once, inherited by every server.

A socket that other machines can reach needs a token or client certificates (mTLS): decided here, before it is bound.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from edgewright.targets.faults import EnvironmentFault

from ..serving import GrpcSettings, ListenerSettings, TlsSettings
from .config import ConfigError, DeviceConfig, parse_listen
from .places import Places
from .sockets import listen_tcp, listen_unix

Kind = Literal["data", "admin", "tensors"]


@dataclass(frozen=True, slots=True)
class HeldListener:
    """A socket that the agent has bound."""

    socket: socket.socket
    kind: Kind
    tls: TlsSettings | None = None
    token_file: str | None = None
    path: Path | None = None
    """Of a Unix socket."""

    def settings(self) -> ListenerSettings:
        """Return what the server is told of it."""
        return ListenerSettings(fd=self.socket.fileno(), kind=self.kind, tls=self.tls, token_file=self.token_file)

    @property
    def address(self) -> str:
        """`host:port` of a TCP socket, `[v6]:port`, or `unix`."""
        if self.socket.family == socket.AF_UNIX:
            return "unix"
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_all(config: DeviceConfig, places: Places, *, patience_s: float) -> tuple[HeldListener, ...]:
    """Bind everything that a configuration names; the first is the inference API over TCP.

    Raises:
        ConfigError: an address that other machines can reach has neither a token nor mTLS, or a file is missing.
        ListenFault: an address is taken.
        EnvironmentFault: gRPC is wanted and not installed.
    """
    check_exposure(config)
    check_files(config)
    with contextlib.ExitStack() as undo:
        held = []
        for each in _bound(config, places, patience_s):
            held.append(each)
            undo.enter_context(each.socket)
        check_grpc(config, patience_s=patience_s)
        undo.pop_all()
    return tuple(held)


def _bound(config: DeviceConfig, places: Places, patience_s: float) -> Iterator[HeldListener]:
    tcp: list[tuple[str, str | None, Kind]] = [
        ("listen", config.listen, "data"),
        ("admin_listen", config.admin_listen, "admin"),
    ]
    for key, address, kind in tcp:
        if address:
            listener = listen_tcp(*parse_listen(address, key), patience_s=patience_s, key=key)
            yield HeldListener(listener, kind, config.tls, config.token_file)
    yield HeldListener(listen_unix(places.server_socket), "data", path=places.server_socket)
    if config.server.admin:
        yield HeldListener(listen_unix(places.admin_socket), "admin", path=places.admin_socket)
    if config.server.tensors:
        yield HeldListener(_listen_packets(places.tensors_socket), "tensors", path=places.tensors_socket)


def check_exposure(config: DeviceConfig) -> None:
    """Refuse to serve strangers.

    Raises:
        ConfigError: the message says what to do.
    """
    wanted = {"listen": config.listen, "admin_listen": config.admin_listen, "grpc": config.grpc}
    known = config.token_file is not None or (config.tls is not None and config.tls.client_ca is not None)
    for key, address in wanted.items():
        if address is None or address.startswith("unix:"):
            continue
        host, _ = parse_listen(address, key)
        if not (known or _is_loopback(host)):
            raise ConfigError(
                f"{key} is {address!r}: other machines can reach that address, and nothing asks them who they are. Add "
                "`token_file` (one token a line) or `[tls]` with `client_ca` to device.toml, or listen on 127.0.0.1"
            )


def check_files(config: DeviceConfig) -> None:
    """Find out now, and not in every request, that a certificate or the tokens are not there.

    Raises:
        ConfigError: a file cannot be read, or there is no token in it.
    """
    tls = {} if config.tls is None else {f"tls.{name}": getattr(config.tls, name) for name in _TLS_FILES}
    for key, path in {**tls, "token_file": config.token_file}.items():
        if path is None:
            continue
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{key}: {path} cannot be read: {error.strerror or error}") from error
        if not content.strip():
            raise ConfigError(f"{key}: {path} is empty; it must hold {_EXPECTED.get(key, 'PEM')}")


_GRPC_PACKAGES = ("hpack", "google")
"""The second is protobuf: what lies in it cannot be looked for without importing it."""
_TLS_FILES = ("certificate", "key", "client_ca")
_EXPECTED = {"token_file": "one token a line"}


def check_grpc(config: DeviceConfig, *, patience_s: float) -> None:
    """Find out now that gRPC cannot be served: every server that is told to would end at its start.

    Raises:
        EnvironmentFault: what it takes is not installed.
        ListenFault: the address is taken.
    """
    if config.grpc is None:
        return
    missing = [package for package in _GRPC_PACKAGES if find_spec(package) is None]
    if missing:
        raise EnvironmentFault(
            f"gRPC is to be served on {config.grpc}, but {' and '.join(missing)} cannot be found here. "
            "Type: pip install 'edgewright[grpc]', or leave `grpc` out of device.toml"
        )
    if not config.grpc.startswith("unix:"):
        listen_tcp(*parse_listen(config.grpc, "grpc"), patience_s=patience_s, key="grpc").close()


def grpc_settings(config: DeviceConfig) -> GrpcSettings | None:
    """Return what the server is told of gRPC; its port is bound by the server itself."""
    if config.grpc is None:
        return None
    return GrpcSettings(address=config.grpc, tls=config.tls, token_file=config.token_file)


def _listen_packets(path: Path) -> socket.socket:
    """Messages with descriptors keep their borders."""
    return listen_unix(path, socket.SOCK_SEQPACKET)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name may mean any address, and another one tomorrow
        return False
