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

from ..routes import parse_routes
from ..telemetry.records import UpdateRecord
from .control_socket import Command, Message, Operation, call_on_loop
from .conversation import Answer
from .loop import Call
from .model_state import Order, check_model_name
from .offering import Offering, raise_unless_set
from .updater import Updater

_ENDS = ("refused", "failed", "rolled_back", "confirmed")
_PATIENCE_S = 24 * 3600.0
_ROUTES_PATIENCE_S = 30.0
_REPLACE_PATIENCE_S = 600.0


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
        forgive: Callable[[str, str], None],
        offering: Offering,
        replace_server: Callable[[Answer], None],
    ) -> None:
        self._post = post
        self._updater = updater
        self._probation_s = probation_s
        self._status = status
        self._reload_credentials = reload_credentials
        self._forgive = forgive
        self._offering = offering
        self._replace_server = replace_server

    def table(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "status": self.status,
            "install": self.install,
            "rollback": self.rollback,
            "enrolled": self.enrolled,
            "routes": self.routes,
            "set_routes": self.set_routes,
            "restart_server": self.restart_server,
        }

    def status(self, command: Command) -> Iterator[Message]:
        """What the device does now."""
        del command
        yield call_on_loop(self._post, self._status)

    def enrolled(self, command: Command) -> Iterator[Message]:
        """The credentials changed."""
        del command
        call_on_loop(self._post, self._reload_credentials)
        yield {}

    def routes(self, command: Command) -> Iterator[Message]:
        """The routes that hold, as they were applied."""
        del command
        yield {"toml": call_on_loop(self._post, lambda: self._offering.text)}

    def set_routes(self, command: Command) -> Iterator[Message]:
        """Switch all routes; an empty text has none."""
        reason = self._answer(lambda done: self._offering.apply(command.text, done), _ROUTES_PATIENCE_S)
        raise_unless_set(reason)
        missing = call_on_loop(self._post, self._offering.not_installed)
        yield {"routes": sorted(parse_routes(command.text)), "not_installed": missing}

    def restart_server(self, command: Command) -> Iterator[Message]:
        """Replace the server process without losing a request."""
        del command
        reason = self._answer(self._replace_server, _REPLACE_PATIENCE_S)
        if reason is not None:
            raise EnvironmentFault(f"the server was not replaced, the old one serves on: {reason}")
        yield call_on_loop(self._post, self._status)["server"]

    def _answer(self, ask: Callable[[Answer], None], timeout_s: float) -> str | None:
        """Ask for something on the loop, and wait for its answer."""
        answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        call_on_loop(self._post, lambda: ask(answers.put))
        try:
            return answers.get(timeout=timeout_s)
        except queue.Empty:
            raise EnvironmentFault(f"the server did not answer within {timeout_s:g} s") from None

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
        self._forgive(order.model, order.bundle)
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
