"""All that is served by HTTP, as a table: the router finds resources in it, the OpenAPI document describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one resource does."""

    name: str
    """Of the function that answers it, and `operationId`."""
    summary: str
    answer: str
    """Schema of the answer with status 200."""
    body: str | None = None
    """Schema of the request's body."""
    admin: bool = False
    """Answered on admin listeners only; 403 elsewhere."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One path; `{model}` and `{version}` stand for any one segment."""

    path: str
    get: Operation | None = None
    post: Operation | None = None

    @property
    def methods(self) -> tuple[bytes, ...]:
        """The methods that the resource takes."""
        found = ((b"GET", self.get), (b"HEAD", self.get), (b"POST", self.post))
        return (*(method for method, operation in found if operation is not None), b"OPTIONS")

    def operation(self, method: bytes) -> Operation | None:
        """Return what a method does, None where it is not taken."""
        return {b"GET": self.get, b"HEAD": self.get, b"POST": self.post}.get(method)


def _of_model(action: str, **operations: Operation) -> Iterator[Resource]:
    for version in ("", "/versions/{version}"):
        yield Resource(f"/v2/models/{{model}}{version}{action}", **operations)


_TRACE = {
    "get": Operation("get_trace", "What is traced", "Trace"),
    "post": Operation("set_trace", "Change what is traced", "Trace", "Trace", admin=True),
}

RESOURCES: tuple[Resource, ...] = (
    Resource("/v2", get=Operation("metadata", "Name, version and extensions of the server", "ServerMetadata")),
    Resource("/v2/health/live", get=Operation("live", "Whether the server is alive", "Live")),
    Resource("/v2/health/ready", get=Operation("ready", "Whether all models can be asked", "Ready")),
    Resource("/v2/routes", get=Operation("routes", "What the routes have decided", "Routes")),
    Resource("/v2/models/stats", get=Operation("all_statistics", "What the models have done", "Statistics")),
    *_of_model("", get=Operation("model_metadata", "Inputs and outputs of a model", "ModelMetadata")),
    *_of_model("/ready", get=Operation("model_ready", "Whether a model can be asked", "ModelReady")),
    *_of_model("/infer", post=Operation("infer", "Run a model", "InferenceResponse", "InferenceRequest")),
    *_of_model("/stats", get=Operation("model_statistics", "What a model has done", "Statistics")),
    *_of_model("/config", get=Operation("model_config", "How a model is configured", "ModelConfiguration")),
    *_of_model("/labels", post=Operation("labels", "Tell which answers were right", "Nothing", "Labels")),
    *_of_model("/explain", get=Operation("explain", "Why its last batches are what they are", "Explanation")),
    Resource("/v2/models/{model}/trace/setting", **_TRACE),
    Resource("/v2/trace/setting", **_TRACE),
    Resource(
        "/v2/logging",
        get=Operation("get_logging", "What is logged", "Logging"),
        post=Operation("set_logging", "Change what is logged", "Logging", "Logging", admin=True),
    ),
    Resource(
        "/v2/repository/index",
        post=Operation("index", "All models that are installed", "RepositoryIndex", "IndexRequest", admin=True),
    ),
    Resource(
        "/v2/repository/models/{model}/load",
        post=Operation("load", "Put an installed model in service", "Nothing", "RepositoryRequest", admin=True),
    ),
    Resource(
        "/v2/repository/models/{model}/unload",
        post=Operation("unload", "Take a model out of service", "Nothing", "RepositoryRequest", admin=True),
    ),
    Resource("/v2/openapi.json", get=Operation("openapi", "This description", "Description")),
    Resource("/openapi.json", get=Operation("openapi", "This description", "Description")),
    Resource("/metrics", get=Operation("metrics", "Metrics as Prometheus text", "Text")),
)

_PATTERNS = tuple((tuple(resource.path[1:].split("/")), resource) for resource in RESOURCES)


def find_resource(segments: tuple[str, ...]) -> tuple[Resource, dict[str, str]] | None:
    """Return the resource of a path and what its variable segments are; the first in the table wins."""
    for pattern, resource in _PATTERNS:
        if len(pattern) == len(segments) and all(
            a in ("{model}", "{version}", b) for a, b in zip(pattern, segments, strict=True)
        ):
            names = {a[1:-1]: b for a, b in zip(pattern, segments, strict=True) if a[:1] == "{"}
            return resource, names
    return None
