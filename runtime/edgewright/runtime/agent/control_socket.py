"""STATE/agent.sock: how a person at the device talks to the daemon. JSON lines over a Unix socket, mode 0600.

-> {"op": "install", "path": "/…/model.bundle", "wait": "probation"}
<- {"phase": "trial", …}                        any number of these
<- {"ok": true, "result": {…}}   or   {"ok": false, "kind": "user", "error": "…"}
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import msgspec

from edgewright.targets.faults import EnvironmentFault, Fault, UserFault

_log = logging.getLogger(__name__)

MAX_LINE_BYTES = 512 * 1024
_MAX_CONNECTIONS = 16
_IDLE_S = 30.0

T = TypeVar("T")

Message = dict[str, Any]
Operation = Callable[["Command"], Iterator[Message]]
"""Yields progress; the last message is the result. Runs on a thread of its own."""


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request."""

    op: str
    path: str = ""
    model: str = ""
    text: str = ""
    """Routes, TOML."""
    wait: str = "probation"
    """How long to wait: until the bundle serves (`probation`) or until it is `confirmed`."""


class ControlSocket:
    """Accepts connections and answers one request on each."""

    def __init__(self, listener: socket.socket, operations: dict[str, Operation]) -> None:
        self._listener = listener
        self._operations = operations
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def start(self) -> None:
        """Accept from now on."""
        threading.Thread(target=self._accept, name="control-socket", daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: the daemon stops
                return
            if not self._slots.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_IDLE_S)
        try:
            with connection, connection.makefile("rb") as lines:
                for message in self._answer(lines.readline(MAX_LINE_BYTES + 1)):
                    connection.sendall(msgspec.json.encode(message) + b"\n")
        except OSError as error:
            _log.info("a control connection ended: %s", error)
        finally:
            self._slots.release()

    def _answer(self, line: bytes) -> Iterator[Message]:
        try:
            command = msgspec.json.decode(line, type=Command)
            operation = self._operations.get(command.op)
            if operation is None:
                raise UserFault(f"unknown operation {command.op!r}; known: {', '.join(sorted(self._operations))}")
            last: Message = {}
            for message in operation(command):
                if last:
                    yield last
                last = message
            yield {"ok": True, "result": last}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield {"ok": False, "kind": "user", "error": f"not a request: {error}"}
        except Fault as fault:
            yield {"ok": False, "kind": "user" if isinstance(fault, UserFault) else "environment", "error": str(fault)}
        except Exception as error:  # noqa: BLE001 - a bug in one operation must not go unanswered; the log has it
            _log.exception("the operation failed")
            yield {"ok": False, "kind": "bug", "error": f"{type(error).__name__}: {error}"}


def call_on_loop(post: Callable[[Callable[[], None]], None], call: Callable[[], T], timeout_s: float = 10.0) -> T:
    """Run a call on the agent's loop, and return or raise what it does.

    Raises:
        EnvironmentFault: the daemon is stopping, or hangs.
    """
    answers: queue.SimpleQueue[tuple[Literal[True], T] | tuple[Literal[False], Exception]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, call()))
        except Exception as error:  # noqa: BLE001 - handed to the thread that asked
            answers.put((False, error))

    post(run)
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise EnvironmentFault(f"the daemon did not answer within {timeout_s:g} s") from None
    if answer[0]:
        return answer[1]
    raise answer[1]
