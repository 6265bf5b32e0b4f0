"""What the agent has a server serve, and what of that it has carried out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..control import BreakerState, Installed, Load, Request, SetRoutes, Unload
from ..serving import ModelSettings
from .conversation import Answer
from .model_state import Slot
from .told import Told

Ask = Callable[[Request, Answer], None]
"""Sends a request to the server that is ready; does nothing where none is."""


class Orders:
    """Lives on the agent's loop.

    Attributes:
        told: what a server that takes over is told, too.
    """

    def __init__(self, change: Ask, tell: Ask, incarnation: Callable[[], str | None]) -> None:
        """`change` is for what changes what is served, `tell` for everything else."""
        self._incarnation = incarnation
        self._change = change
        self._tell = tell
        self.told = Told()

    @property
    def incarnation(self) -> str | None:
        """Of the server that accepts requests; None where there is none."""
        return self._incarnation()

    def load(
        self,
        model: str,
        slot: Slot,
        directory: Path,
        done: Answer,
        *,
        settings: ModelSettings = ModelSettings(),  # noqa: B008 - immutable
        breaker: BreakerState = "closed",
        beside: bool = False,
    ) -> None:
        """Ask for a bundle to be loaded; does nothing where no server is ready."""
        load = Load(
            id=0,
            model=model,
            version=slot.version,
            bundle=slot.bundle,
            directory=str(directory),
            settings=settings,
            breaker=breaker,
            beside=beside,
        )

        def answered(reason: str | None) -> None:
            if reason is None:
                self.told.loaded(load)
            done(reason)

        self._change(load, answered)

    def unload(self, model: str, version: str | None = None) -> None:
        """Ask for a model, or for one version of it, to be served no more."""
        self.told.unloaded(model, version)
        self._change(Unload(id=0, model=model, version=version), _ignore)

    def installed(self, models: tuple[Load, ...], held: tuple[str, ...] = ()) -> None:
        """Tell the server what it could load, and what it must not for a while."""
        message = Installed(id=0, models=models, held=held)
        self.told.installed(message)
        self._tell(message, _ignore)

    def set_routes(self, text: str, done: Answer) -> None:
        """Switch the routes of the server; `done` is not called where there is none."""
        message = SetRoutes(id=0, toml=text)

        def answered(reason: str | None) -> None:
            if reason is None:
                self.told.routes(message)
            done(reason)

        self._change(message, answered)


def _ignore(_: str | None) -> None:
    """Nobody waits for this answer."""
