"""What the server was told and has carried out: the same is told to one that takes over from it."""

from __future__ import annotations

from ..control import Installed, Load, Request, SetRoutes


class Told:
    """One entry for each thing that a later one takes the place of."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, ...], Request] = {}

    def loaded(self, load: Load) -> None:
        """A bundle is in service; one that is beside takes nobody's place."""
        self._said["load", load.model, load.version if load.beside else ""] = load

    def unloaded(self, model: str, version: str | None) -> None:
        """A model, or one version of it, is to be served no more."""
        for key, said in tuple(self._said.items()):
            if isinstance(said, Load) and said.model == model and version in {None, said.version}:
                del self._said[key]

    def routes(self, routes: SetRoutes) -> None:
        """The routes that hold."""
        self._said["routes",] = routes

    def installed(self, installed: Installed) -> None:
        """What could be loaded."""
        self._said["installed",] = installed

    def clear(self) -> None:
        """The server is gone."""
        self._said.clear()

    def in_order(self) -> tuple[Request, ...]:
        """Return everything; the routes come last, since they name models."""
        return tuple(sorted(self._said.values(), key=lambda request: isinstance(request, SetRoutes)))
