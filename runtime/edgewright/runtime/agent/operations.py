"""What can be asked of the daemon over its control socket."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgewright.bundle.archive import archive_digest, verify
from edgewright.targets.faults import EnvironmentFault, UserFault

from ..telemetry.records import UpdateRecord
from .control_socket import Command, Message, Operation, call_on_loop
from .loop import Call
from .model_state import Order, check_model_name
from .updater import Updater

_ENDS = ("refused", "failed", "rolled_back", "confirmed")
_PATIENCE_S = 24 * 3600.0


class Operations:
    """Runs on the threads of the control socket, and touches the agent only through its loop."""

    def __init__(
        self,
        post: Callable[[Call], None],
        updater: Updater,
        *,
        probation_s: float,
        status: Callable[[], dict[str, Any]],
        reload_credentials: Callable[[], None],
    ) -> None:
        self._post = post
        self._updater = updater
        self._probation_s = probation_s
        self._status = status
        self._reload_credentials = reload_credentials

    def table(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"status": self.status, "install": self.install, "rollback": self.rollback, "enrolled": self.enrolled}

    def status(self, command: Command) -> Iterator[Message]:
        """What the device does now."""
        del command
        yield call_on_loop(self._post, self._status)

    def enrolled(self, command: Command) -> Iterator[Message]:
        """The credentials changed."""
        del command
        call_on_loop(self._post, self._reload_credentials)
        yield {}

    def install(self, command: Command) -> Iterator[Message]:
        """Install an archive that lies on this machine."""
        path = Path(command.path)
        if not path.is_absolute():
            raise UserFault(f"install: expected an absolute path, got {command.path!r}")
        manifest = verify(path)
        order = Order(
            command=f"local-{os.urandom(6).hex()}",
            model=check_model_name(manifest.model),
            version=manifest.version,
            bundle=archive_digest(path),
            security_epoch=manifest.security_epoch,
            probation_s=self._probation_s,
            size_bytes=path.stat().st_size,
            source=f"file:{path}",
        )
        yield from self._follow(order.command, lambda: self._place(order), command.wait)

    def rollback(self, command: Command) -> Iterator[Message]:
        """Go back to the other slot."""
        name = f"local-{os.urandom(6).hex()}"

        def begin() -> str:
            return self._updater.roll_back(command.model, name, self._probation_s)

        yield from self._follow(name, begin, command.wait, good=("confirmed", "rolled_back"))

    def _place(self, order: Order) -> str:
        state = self._updater.states.get(order.model)
        if state is not None and state.update is not None:
            running = state.update
            raise EnvironmentFault(
                f"an update of {order.model} to {running.order.version} is under way (phase {running.phase}); "
                "wait for its end, or take it back with `edgewright device rollback`"
            )
        self._updater.order(order)
        if self._updater.waits_for_room(order):
            raise EnvironmentFault(
                f"the state of {order.model} cannot be written (is the disk full?); the update begins when it can be"
            )
        return order.command

    def _follow(
        self, command: str, begin: Callable[[], str], wait: str, good: tuple[str, ...] = ("confirmed",)
    ) -> Iterator[Message]:
        """Start something on the loop, and yield the steps of its order until the one that is waited for."""
        steps: queue.SimpleQueue[UpdateRecord] = queue.SimpleQueue()

        def listen() -> str:
            self._updater.listeners.append(steps.put)
            return begin()

        try:
            command = call_on_loop(self._post, listen)
            while True:
                record = self._next(steps)
                if record.command != command:
                    continue
                message = msgspec.to_builtins(record)
                if record.phase in _ENDS and record.phase not in good:
                    raise UserFault(
                        f"{record.model} {record.version} {record.phase.replace('_', ' ')}: {record.reason}"
                    )
                yield message
                if record.phase in _ENDS or record.phase == wait:
                    return
        finally:
            self._post(lambda: self._forget(steps.put))

    def _next(self, steps: queue.SimpleQueue[UpdateRecord]) -> UpdateRecord:
        try:
            return steps.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise EnvironmentFault("the update did not end") from None

    def _forget(self, listener: Callable[[UpdateRecord], None]) -> None:
        if listener in self._updater.listeners:
            self._updater.listeners.remove(listener)
