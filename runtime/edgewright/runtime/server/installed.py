"""The models that this server could serve: what is or was in service here, and what the agent says is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..control import Load


class InstalledModels:
    """What loads each version of each model. Of several versions the one that was loaded last is a name's first choice.

    It knows of no other way to a bundle: nothing that a client names becomes a path.
    """

    def __init__(self) -> None:
        self._loads: dict[str, dict[str, Load]] = {}
        self._in_use: dict[str, Load] = {}

    def __iter__(self) -> Iterator[Load]:
        for versions in self._loads.values():
            yield from versions.values()

    def replace(self, loads: Iterable[Load]) -> None:
        """Take over what the agent has installed now; what is in service stays known."""
        self._loads = {}
        for load in (*self._in_use.values(), *loads):
            self._loads.setdefault(load.model, {})[load.version] = load

    def used(self, load: Load) -> None:
        """A bundle was put in service."""
        self._in_use[load.model] = load
        self._loads.setdefault(load.model, {})[load.version] = load

    def choice(self, model: str) -> Load | None:
        """Return what a load by name alone loads."""
        versions = self._loads.get(model)
        if not versions:
            return None
        in_use = self._in_use.get(model)
        return in_use if in_use is not None else next(reversed(versions.values()))
