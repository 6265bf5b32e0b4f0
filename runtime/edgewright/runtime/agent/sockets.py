"""Listening sockets of the device: bound by the agent, inherited by every server it starts."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from edgewright.targets.faults import EnvironmentFault

BACKLOG = 256


class ListenFault(EnvironmentFault):
    """An address cannot be listened on."""


def listen_tcp(host: str, port: int, *, patience_s: float, key: str = "listen") -> socket.socket:
    """Return a listening TCP socket; waits a while for an address that the last run's server still holds.

    `key` is where device.toml has the address.

    Raises:
        ListenFault: the address is taken, or is not this machine's.
    """
    until_s = time.monotonic() + patience_s
    while True:
        try:
            return socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until_s:
                option = "--listen or " if key == "listen" else ""
                why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or error
                raise ListenFault(
                    f"cannot listen on {host}:{port}: {why}. Stop what holds it, or choose another "
                    f"address with {option}`{key}` in device.toml (port 0 takes a free one)"
                ) from error
        time.sleep(0.05)


def listen_unix(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a listening Unix socket, mode 0600; what an earlier run left at the path goes.

    Raises:
        ListenFault: the path cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        path.unlink(missing_ok=True)
        with _short_name(path) as name:
            # The mode is right from the first moment on: bind takes it from the mask.
            mask = os.umask(0o177)
            try:
                listener.bind(name)
            finally:
                os.umask(mask)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenFault(f"cannot listen on the socket {path}: {error.strerror or error}") from error
    return listener


def connect_unix(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection to a Unix socket; raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        with _short_name(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A socket address has 107 bytes; a state directory may be deeper than that."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
