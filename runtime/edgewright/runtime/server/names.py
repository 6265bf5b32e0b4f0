"""What a name in the protocol leads to: a route, else a model. Every protocol looks names up here."""

from __future__ import annotations

from typing import Any, Protocol

from edgewright.bundle.manifest import TensorSpec

from .guarded import Guarded
from .model_table import ModelTable
from .pipeline import Endpoint


class Routes(Protocol):
    """The routes by name; `routes.table.RouteTable` is one."""

    def get(self, name: str) -> Endpoint | None: ...

    def statistics(self) -> dict[str, dict[str, object]]: ...


class Names:
    """A route shadows the model of its name; with a version it is always the model. Used on the event loop only."""

    def __init__(self, table: ModelTable, routes: Routes) -> None:
        self._table = table
        self._routes = routes

    def endpoint(self, name: str, version: str | None = None) -> Endpoint:
        """Where jobs for a name go.

        Raises:
            Refusal: 404 where there is neither route nor model, 503 while it is loaded for the first time.
        """
        route = self.route(name, version)
        return self._table.endpoint(name, version) if route is None else route

    def route(self, name: str, version: str | None = None) -> Endpoint | None:
        """The route that is meant, None where it is a model or nothing."""
        return None if version else self._routes.get(name)

    def count_refused(self, name: str, version: str | None = None) -> None:
        """Note at a model that a request for it was refused before it ran."""
        if self.route(name, version) is None:
            self._table.find(name, version).statistics.refused += 1

    def route_statistics(self) -> dict[str, dict[str, object]]:
        """What each route did; see `RouteTable.statistics`."""
        return self._routes.statistics()

    def explanation(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Why the last batches of a model were formed as they were; of a route what it decided.

        Raises:
            Refusal: 404 where there is neither.
        """
        if self.route(name, version) is not None:
            return {"name": name, **self.route_statistics()[name]}
        return self._table.find(name, version).explain()

    def check_ready(self, name: str, version: str | None = None) -> None:
        """Return if an inference would be taken; one that only has to wait, or is shed for a moment's load, would.

        Raises:
            Refusal: 404 unknown, 503 while a model is left alone after failures or none of a route's is loaded. A model
                whose pause is over is ready: without a request it would never be tried.
        """
        endpoint = self.endpoint(name, version)
        _ = endpoint.signature
        refusal = endpoint.left_alone() if isinstance(endpoint, Guarded) else None
        if refusal is not None:
            raise refusal


def route_metadata(route: Endpoint) -> dict[str, Any]:
    """What GET /v2/models/{name} and ModelMetadata say of a route: it has no versions, and its first model's tensors.

    Raises:
        Refusal: 503, none of its models is loaded.
    """
    signature = route.signature
    return {
        "name": signature.model,
        "versions": [],
        "platform": "edgewright_route",
        "inputs": [_described(spec) for spec in signature.inputs.values()],
        "outputs": [_described(spec) for spec in signature.outputs.values()],
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
