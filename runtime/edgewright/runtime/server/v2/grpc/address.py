"""The address of the gRPC port: what it may be, and the socket that listens there."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from edgewright.targets.faults import EnvironmentFault, UserFault

from ....serving import GrpcSettings
from ...http.exposure import check_host

_BACKLOG = 128
_LARGEST_PORT = 65535
_NEW = "~"
"""Behind the path of a Unix socket until it takes the place of another server's."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens."""

    socket: socket.socket
    address: str
    """As it was asked for, with the port that was bound."""
    path: Path | None = None
    """Of a Unix socket."""
    inode: int = 0

    def remove(self) -> None:
        """Take the file of a Unix socket away, where it is still this one's and not the next server's."""
        with contextlib.suppress(OSError):
            if self.path is not None and self.path.stat().st_ino == self.inode:
                self.path.unlink()


def check_address(settings: GrpcSettings) -> None:
    """Return if the address is one, and not open to strangers.

    Raises:
        UserFault: the message says what was expected.
    """
    if not settings.address.startswith("unix:/"):
        check_host(_host_port(settings.address)[0], settings.tls, settings.token_file)


def bind(address: str) -> Bound:
    """Listen on `host:port`, `[host]:port` or `unix:/path`.

    Raises:
        EnvironmentFault: it cannot be bound.
    """
    try:
        return _bind_unix(Path(address.removeprefix("unix:"))) if address.startswith("unix:/") else _bind_tcp(address)
    except OSError as error:
        raise EnvironmentFault(f"gRPC cannot listen on {address}: {error.strerror or error}") from error


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LARGEST_PORT:
        raise UserFault(f"gRPC cannot listen on {address!r}: expected host:port, [host]:port or unix:/path")
    return host.strip("[]"), int(port)


def _bind_tcp(address: str) -> Bound:
    host, port = _host_port(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)  # of a name with both
    with contextlib.ExitStack() as undo:
        listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The next process of this server binds the port while this one drains.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(where)
        listening.listen(_BACKLOG)
        undo.pop_all()
    return Bound(listening, f"{address.rpartition(':')[0]}:{listening.getsockname()[1]}")


def _bind_unix(path: Path) -> Bound:
    """Listen on a Unix socket of mode 0600, in the place of one that another process of this server has there."""
    new = path.with_name(path.name + _NEW)
    for each in (new, path):
        if os.path.lexists(each) and not stat.S_ISSOCK(each.lstat().st_mode):
            raise FileExistsError(f"{each} is there and is no socket")
    new.unlink(missing_ok=True)
    with contextlib.ExitStack() as undo:
        listening = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)  # nobody else must reach it at any time, whatever the umask is
        try:
            listening.bind(str(new))
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
        inode = new.stat().st_ino
        new.rename(path)  # those who connect meet the old server or the new one
        undo.pop_all()
    return Bound(listening, f"unix:{path}", path, inode)
