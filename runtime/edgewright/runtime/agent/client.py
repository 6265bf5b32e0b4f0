"""The commands' side of the daemon's control socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgewright.targets.faults import EnvironmentFault, Fault, UserFault

from .sockets import connect_unix

_CONNECT_TIMEOUT_S = 5.0
_POLL_S = 0.05
_ANSWER_TIMEOUT_S = 24 * 3600.0


def ask(state: Path, *, patience_s: float = 0.0, **request: str) -> Iterator[dict[str, Any]]:
    """Send one request to the daemon; yields its progress, then `{"ok": true, "result": …}`.

    Args:
        state: the daemon's state directory.
        patience_s: how long to wait for a daemon that was started just now.
        request: what is asked.

    Raises:
        EnvironmentFault: no daemon answers there.
        Fault: what the daemon says is wrong.
    """
    path = state.absolute() / "agent.sock"
    try:
        connection = _connect(path, time.monotonic() + patience_s)
    except OSError as error:
        raise EnvironmentFault(
            f"no device daemon answers on {path} ({error.strerror or error}). "
            f"Start it with: edgewright device run --state-dir {state}"
        ) from error
    with connection, connection.makefile("rb") as lines:
        connection.sendall(json.dumps(request).encode() + b"\n")
        connection.settimeout(_ANSWER_TIMEOUT_S)
        for line in lines:
            message = json.loads(line)
            if message.get("ok") is False:
                raise _fault(message)
            yield message
            if message.get("ok") is True:
                return
    raise EnvironmentFault("the device daemon ended before it answered; see: edgewright device logs")


def _connect(path: Path, until_s: float) -> socket.socket:
    while True:
        try:
            return connect_unix(path, _CONNECT_TIMEOUT_S)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() >= until_s:
                raise
        time.sleep(_POLL_S)


def _fault(message: dict[str, Any]) -> Fault:
    kinds: dict[str, type[Fault]] = {"user": UserFault, "environment": EnvironmentFault}
    return kinds.get(str(message.get("kind")), EnvironmentFault)(str(message.get("error")))
