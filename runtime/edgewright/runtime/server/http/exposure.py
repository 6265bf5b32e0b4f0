"""What may listen where: beyond this machine only with a token or with clients' certificates."""

from __future__ import annotations

import socket

from edgewright.targets.faults import UserFault

from ...serving import ListenerSettings, TlsSettings


class Exposed(UserFault):
    """A listener would serve strangers."""


def check_exposure(listening: socket.socket, settings: ListenerSettings) -> None:
    """Return if the socket may be served: it is this machine's own, or its clients must prove who they are.

    The agent checks the same before it binds; this is the second lock on the same door.

    Raises:
        Exposed: anybody who reaches the port would be answered.
    """
    if listening.family != socket.AF_UNIX:
        check_host(str(listening.getsockname()[0]), settings.tls, settings.token_file)


def check_host(host: str, tls: TlsSettings | None, token_file: str | None) -> None:
    """Return if an address may be listened on; see `check_exposure`.

    Raises:
        Exposed: anybody who reaches the port would be answered.
    """
    if token_file is not None or (tls is not None and tls.client_ca is not None):
        return
    if _is_loopback(host):
        return
    raise Exposed(
        f"{host} can be reached from other machines and has neither token_file nor tls.client_ca; "
        "set one of them, or listen on 127.0.0.1 or a Unix socket"
    )


def _is_loopback(host: str) -> bool:
    if host in {"::1", "localhost"}:
        return True
    try:
        return socket.inet_pton(socket.AF_INET, host.removeprefix("::ffff:"))[0] == 127
    except OSError:  # a name, even one that begins with 127
        return False
