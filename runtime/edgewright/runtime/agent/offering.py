"""What the server is told besides its active models: what else is installed, the routes, and the versions they name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from edgewright.targets.faults import EnvironmentFault, UserFault

from ..control import Load
from ..routes import MAX_TEXT_BYTES, Route, RoutesError, leads_to, parse_routes, targets
from ..serving import ModelSettings
from ..storage import Storage, replace_file
from .conversation import Answer
from .model_state import ModelState, Slot, SlotName
from .slots import SlotStore

_log = logging.getLogger(__name__)


class Offered(Protocol):
    """The server, as far as this goes."""

    @property
    def incarnation(self) -> str | None:
        """None where no server is ready."""

    def installed(self, models: tuple[Load, ...], held: tuple[str, ...]) -> None:
        """Tell it what it could load, and which models it must not for a while."""

    def set_routes(self, text: str, done: Answer) -> None:
        """Switch its routes."""


class Besides(Protocol):
    """Loads a version beside the active one."""

    def holds(self, model: str, slot: Slot | None) -> bool:
        """Whether a bundle is not loaded for now."""

    def load(self, model: str, slot: Slot, directory: Path, done: Answer, *, beside: bool) -> None:
        """Load it; `done` gets None or the reason why not."""

    def unload(self, model: str, version: str | None) -> None:
        """Stop serving that version."""


class Offering:
    """Lives on the agent's loop. The routes lie in a file of the state directory; there is none without routes."""

    def __init__(
        self,
        storage: Storage,
        path: Path,
        store: SlotStore,
        server: Offered,
        besides: Besides,
        states: Callable[[], Mapping[str, ModelState]],
        settings_of: Callable[[str], ModelSettings],
    ) -> None:
        self._storage = storage
        self._path = path
        self._store = store
        self._server = server
        self._besides = besides
        self._states = states
        self._settings_of = settings_of
        self._beside: dict[str, Slot] = {}
        self.problem = ""
        """Why the routes of the file do not hold; empty where they do."""
        self.text = self._read()

    def server_ready(self) -> None:
        """A new server knows nothing."""
        self._beside = {}
        if self.text:
            self._server.set_routes(self.text, self._routes_set)
        self.changed()

    def changed(self) -> None:
        """What is installed has changed, or may have."""
        held = tuple(name for name, state in self._states().items() if self._besides.holds(name, state.active_slot))
        self._server.installed(tuple(self._installed()), held)
        if self._server.incarnation is None:
            return
        wanted = dict(_named_spares(parse_routes(self.text) if self.text else {}, self._states()))
        for model, slot in tuple(self._beside.items()):
            if model not in wanted or wanted[model][1] != slot:
                del self._beside[model]
                if self._is_not_active(model, slot):
                    self._besides.unload(model, slot.version)
        for model, (name, slot) in wanted.items():
            if model not in self._beside:
                self._beside[model] = slot
                directory = self._store.directory(model, name)
                self._besides.load(model, slot, directory, _log_failure(model, slot), beside=True)

    def apply(self, text: str, done: Answer) -> None:
        """Switch the routes now and for every later server; `done` gets None or the reason why nothing has changed.

        Raises:
            RoutesError: the text is wrong.
        """
        parse_routes(text)

        def answered(reason: str | None) -> None:
            try:
                if reason is None:
                    self._keep(text)
                    self.changed()
            except OSError as error:
                reason = f"the routes hold until the next restart: {self._path} cannot be written: {error.strerror}"
            done(reason)

        if self._server.incarnation is None:
            answered(None)
        else:
            self._server.set_routes(text, answered)

    def not_installed(self) -> list[str]:
        """The places of the routes whose bundle is not on this device."""
        here = {(name, slot.version) for name, state in self._states().items() for _, slot in _complete(state)}
        names = {name for name, _ in here}
        routes = parse_routes(self.text)
        places = [
            each for name, route in routes.items() for each in targets(route) if leads_to(name, each, routes) is None
        ]
        return sorted(
            {
                each.label
                for each in places
                if (each.model not in names if each.version is None else (each.model, each.version) not in here)
            }
        )

    def _keep(self, text: str) -> None:
        if text:
            replace_file(self._storage, self._path, text.encode())
        elif self._storage.exists(self._path):
            self._storage.remove(self._path)
            self._storage.sync_directory(self._path.parent)
        self.text, self.problem = text, ""

    def _read(self) -> str:
        try:
            if not self._storage.exists(self._path):
                return ""
            text = self._storage.read(self._path)[: MAX_TEXT_BYTES + 1].decode()
            parse_routes(text)
        except (RoutesError, UnicodeDecodeError, OSError) as error:
            self.problem = f"{self._path} does not hold: {error}"
            _log.error("%s", self.problem)
            return ""
        return text

    def _routes_set(self, reason: str | None) -> None:
        self.problem = "" if reason is None else f"the server refuses {self._path}: {reason}"
        if reason is not None:
            _log.error("%s", self.problem)

    def _installed(self) -> Iterator[Load]:
        """The active version of each model last: a load by name alone means that one."""
        for model, state in self._states().items():
            for name, slot in sorted(_complete(state), key=lambda item: item[0] == state.active):
                yield Load(
                    id=0,
                    model=model,
                    version=slot.version,
                    bundle=slot.bundle,
                    directory=str(self._store.directory(model, name)),
                    settings=self._settings_of(model),
                )

    def _is_not_active(self, model: str, slot: Slot) -> bool:
        state = self._states().get(model)
        return state is None or state.active_slot is None or state.active_slot.version != slot.version


def raise_unless_set(reason: str | None) -> None:
    """Turn the answer of `apply` into a fault.

    Raises:
        UserFault: the server refused the routes.
    """
    if reason is not None:
        fault = EnvironmentFault if "cannot be written" in reason else UserFault
        raise fault(reason)


def _complete(state: ModelState) -> list[tuple[SlotName, Slot]]:
    """Slots that may be loaded: active, or to go back to. A candidate is not, until it is activated."""
    return [(name, slot) for name, slot in state.slots.items() if name in (state.active, state.rollback)]


def _named_spares(
    routes: Mapping[str, Route], states: Mapping[str, ModelState]
) -> Iterator[tuple[str, tuple[SlotName, Slot]]]:
    """The rollback slots that a route names by their version."""
    for route in routes.values():
        for each in targets(route):
            state = states.get(each.model)
            back = state.rollback_slot if state is not None else None
            if state is None or back is None or state.rollback is None or back.version != each.version:
                continue
            if state.active_slot is None or state.active_slot.version != each.version:
                yield each.model, (state.rollback, back)


def _log_failure(model: str, slot: Slot) -> Answer:
    def answered(reason: str | None) -> None:
        if reason is not None:
            _log.error("%s %s is not served beside the active version: %s", model, slot.version, reason)

    return answered
