"""What may be served and what is served: the `model_repository`, `model_configuration` and `statistics` extensions.

Plain values in and out, so that REST and gRPC say the same. Whether a client may change anything is decided by whoever
calls: only admin listeners may. No client's bytes become a model here: a load names what the agent has installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ...control import Done, Failed, Unload
from ..changes import Changes
from ..installed import InstalledModels
from ..model_table import ModelTable
from ..refusal import Refusal, not_now
from ..served_model import ServedModel
from .model_configuration import model_configuration

Finished = Callable[[Refusal | None], None]
"""Told None when the change was made, otherwise why it was not."""

_WAITING = 16
"""Changes that wait at one time; each takes seconds and a client can ask for thousands in one."""


class Repository:
    """Over the models in service. All methods are called on the event loop."""

    def __init__(
        self,
        table: ModelTable,
        changes: Changes,
        installed: InstalledModels,
        is_route: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._table = table
        self._is_route = is_route
        self._changes = changes
        self._installed = installed

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """Return every version that is known: `name`, `version`, `state`, `reason`."""
        serving = {(model.name, model.version) for model in self._table}
        entries = [_entry(name, version, "READY", "") for name, version in sorted(serving)]
        if ready_only:
            return entries
        rest = sorted({(load.model, load.version) for load in self._installed} - serving)
        for name, version in rest:
            loading = self._table.loading == name
            entries.append(_entry(name, version, *(("LOADING", "") if loading else ("UNAVAILABLE", "unloaded"))))
        return entries

    def load(self, name: str, parameters: Mapping[str, object], finished: Finished) -> None:
        """Put a model in service (again); one that is already is left as it is.

        Raises:
            Refusal: 400 where the request brings a configuration or files, 404 where no such model is installed.
        """
        for parameter in parameters:
            if parameter == "config" or parameter.startswith("file:"):
                raise Refusal(
                    400,
                    f"the parameter '{parameter[:100]}' is not accepted: models and their configuration "
                    "come as bundles, through the agent",
                )
        wanted = self._installed.choice(name)
        if wanted is None:
            raise Refusal(404, f"no model '{name[:200]}' is installed")
        if any((model.name, model.version) == (wanted.model, wanted.version) for model in self._table):
            finished(None)
            return
        self._ask(wanted, finished, f"model '{name}' was not loaded: ")

    def unload(self, name: str, finished: Finished) -> None:
        """Take a model out of service; what it has accepted is answered first.

        Raises:
            Refusal: 404 where no such model is in service.
        """
        self._table.find(name, None)
        self._ask(Unload(id=0, model=name), finished, f"model '{name}' was not unloaded: ")

    def config(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return a model's configuration; raises `Refusal` 404 for one that is not in service."""
        model = self._model(name, version)
        return model_configuration(model, json.loads(model.metadata)["platform"])

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return `{"model_stats": […]}` of one model or of all; raises `Refusal` 404 for one not in service."""
        models = tuple(self._table) if name is None else (self._model(name, version),)
        return {"model_stats": [model.statistics.as_json(model.name, model.version) for model in models]}

    def _model(self, name: str, version: str | None) -> ServedModel:
        try:
            return self._table.find(name, version)
        except Refusal as refusal:
            if refusal.status != 404 or version or not self._is_route(name):
                raise
            raise Refusal(
                400, f"'{name}' is a route: ask for one of its models, or for what the route did at /v2/routes"
            ) from refusal

    def _ask(self, change: Any, finished: Finished, prefix: str) -> None:
        if self._changes.waiting >= _WAITING:
            raise not_now("too many changes of the models are waiting")

        def done(reply: Done | Failed) -> None:
            finished(None if isinstance(reply, Done) else Refusal(400, prefix + "the server's log says why"))

        self._changes.ask(change, done)


def _entry(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}
