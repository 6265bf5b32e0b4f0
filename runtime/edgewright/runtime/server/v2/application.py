"""The V2 protocol's resources over what is in service. See `inference` for the request that does the work."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from ..http.messages import Handler, Request, Respond, Response, error_response, json_response
from ..labels import parse_labels
from ..limits import Limits
from ..log_settings import LogSettings
from ..metrics.exposition import CONTENT_TYPE, Family
from ..metrics.render import render
from ..model_table import ModelTable
from ..names import Names, route_metadata
from ..refusal import Refusal
from ..state import ServerState
from ..trace_settings import TraceSettings
from .about import check_server_ready, server_metadata
from .plans import Plans
from .repository import Repository
from .resources import Resource, find_resource
from .rest import infer
from .targets import Targets

_access = logging.getLogger("edgewright.access")

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "labels",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
    "trace",
)

Kind = Literal["data", "admin"]


class Asked(msgspec.Struct, frozen=True):
    """A request for one resource."""

    request: Request
    respond: Respond
    model: str
    version: str | None
    admin: bool


Answer = Callable[[Asked], Response | None]
"""Returns the response, or None where it comes through `respond`, now or later."""


class Application:
    """Answers requests. All calls are made on the event loop."""

    def __init__(
        self,
        *,
        names: Names,
        table: ModelTable,
        state: ServerState,
        repository: Repository,
        limits: Limits,
        log: LogSettings,
        trace: TraceSettings,
        more_metrics: Callable[[], Iterable[Family]] = tuple,
    ) -> None:
        self._names = names
        self._table = table
        self._state = state
        self._repository = repository
        self._limits = limits
        self._log = log
        self._trace = trace
        self._plans = Plans()
        self._targets = Targets()
        self._answers: dict[str, Answer] = {
            "metadata": lambda _: json_response(server_metadata(EXTENSIONS)),
            "live": lambda _: json_response({"live": True}),
            "ready": self._ready,
            "all_statistics": lambda _: json_response(repository.statistics()),
            "model_metadata": self._model_metadata,
            "model_ready": self._model_ready,
            "infer": self._infer_asked,
            "model_statistics": lambda asked: json_response(repository.statistics(asked.model, asked.version)),
            "model_config": lambda asked: json_response(repository.config(asked.model, asked.version)),
            "labels": self._labels,
            "explain": lambda asked: json_response(names.explanation(asked.model, asked.version)),
            "routes": lambda _: json_response({"routes": names.route_statistics()}),
            "get_trace": lambda asked: json_response(self._trace.as_json(asked.model or None)),
            "set_trace": self._set_trace,
            "get_logging": lambda _: json_response(log.as_json()),
            "set_logging": self._set_logging,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
            "openapi": _openapi,
            "metrics": lambda _: Response(200, [render(table, state, more_metrics()).encode()], CONTENT_TYPE),
        }

    def handler(self, kind: Kind) -> Handler:
        """Return what answers the requests of one listener."""
        return functools.partial(self._handle, kind == "admin")

    def _handle(self, admin: bool, request: Request, respond: Respond) -> None:
        if self._log.access_log:
            self._handle_logged(admin, request, _logged(request, respond))
            return
        named = self._targets.get(request.target)
        if named is not None and request.method == b"POST":
            self._infer(*named, request, respond)
        else:
            self._route(admin, request, respond)

    def _handle_logged(self, admin: bool, request: Request, respond: Respond) -> None:
        try:
            self._route(admin, request, respond)
        except Refusal as refusal:
            respond(error_response(refusal))

    def _route(self, admin: bool, request: Request, respond: Respond) -> None:
        if request.method == b"OPTIONS" and request.target == b"*":
            respond(_options((b"GET", b"HEAD", b"POST", b"OPTIONS")))
            return
        found = find_resource(_segments(request.target))
        if found is None:
            raise Refusal(404, "no such resource; the V2 protocol begins at /v2, and /v2/openapi.json describes it")
        resource, names = found
        if request.method == b"OPTIONS":
            respond(_options(resource.methods))
            return
        operation = resource.operation(request.method)
        if operation is None:
            raise _wrong_method(resource)
        if operation.admin and not admin:
            raise Refusal(403, "this changes the server, and is answered on its admin listener only")
        asked = Asked(request, respond, names.get("model", ""), names.get("version"), admin)
        response = self._answers[operation.name](asked)
        if response is not None:
            respond(response)

    def _infer_asked(self, asked: Asked) -> None:
        self._names.endpoint(asked.model, asked.version)  # what is unknown is not remembered
        self._targets.keep(asked.request.target, (asked.model, asked.version))
        self._infer(asked.model, asked.version, asked.request, asked.respond)

    def _infer(self, model: str, version: str | None, request: Request, respond: Respond) -> None:
        endpoint = self._names.endpoint(model, version)
        traced = self._trace.active and self._trace.take(model)
        try:
            infer(endpoint, request, respond, self._limits, self._plans, traced=traced)
        except Refusal:
            self._names.count_refused(model, version)
            raise

    def _ready(self, asked: Asked) -> Response:
        del asked
        check_server_ready(self._table, self._state)
        return json_response({"ready": True})

    def _model_metadata(self, asked: Asked) -> Response:
        route = self._names.route(asked.model, asked.version)
        if route is not None:
            return json_response(route_metadata(route))
        return Response(200, [self._table.find(asked.model, asked.version).metadata])

    def _model_ready(self, asked: Asked) -> Response:
        self._names.check_ready(asked.model, asked.version)
        return json_response({"name": asked.model, "ready": True})

    def _labels(self, asked: Asked) -> Response:
        self._table.find(asked.model, asked.version).add_labels(parse_labels(bytes(asked.request.body)))
        return json_response({})

    def _set_trace(self, asked: Asked) -> Response:
        if asked.model:
            self._names.endpoint(asked.model)
        self._trace.update(_json_object(asked.request), asked.model or None)
        return json_response(self._trace.as_json(asked.model or None))

    def _set_logging(self, asked: Asked) -> Response:
        self._log.update(_json_object(asked.request))
        return json_response(self._log.as_json())

    def _index(self, asked: Asked) -> Response:
        ready = _json_object(asked.request).get("ready", False)
        if not isinstance(ready, bool):
            raise Refusal(400, "'ready' must be true or false")
        return json_response(self._repository.index(ready_only=ready))

    def _load(self, asked: Asked) -> None:
        self._repository.load(asked.model, _parameters(asked.request), _finished(asked))

    def _unload(self, asked: Asked) -> None:
        _parameters(asked.request)
        self._repository.unload(asked.model, _finished(asked))


def _segments(target: bytes) -> tuple[str, ...]:
    path = target.partition(b"?")[0]
    if path.startswith((b"http://", b"https://")):  # the absolute form, which a server must accept
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") >= 3 else b"/"
    if not path.startswith(b"/"):
        raise Refusal(400, "the request target must be a path")
    return tuple(unquote(segment) for segment in path.decode("latin-1").strip("/").split("/"))


def _options(methods: tuple[bytes, ...]) -> Response:
    return Response(200, [], b"text/plain", ((b"allow", b", ".join(methods)),))


def _wrong_method(resource: Resource) -> Refusal:
    allowed = b", ".join(resource.methods)
    return Refusal(405, f"this resource takes {allowed.decode()}", headers=((b"allow", allowed),))


def _json_object(request: Request) -> dict[str, Any]:
    """Return the request's body, which may be empty; small, since nothing that changes the server is large."""
    text = bytes(request.body)
    if not text.strip():
        return {}
    try:
        parsed: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body must be a JSON object: {error}") from error
    return parsed


def _parameters(request: Request) -> dict[str, Any]:
    parameters = _json_object(request).get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Refusal(400, "'parameters' must be an object")
    return parameters


def _finished(asked: Asked) -> Callable[[Refusal | None], None]:
    def finished(refusal: Refusal | None) -> None:
        asked.respond(json_response({}) if refusal is None else error_response(refusal))

    return finished


def _openapi(asked: Asked) -> Response:
    from .openapi import describe  # who asks for it is a person or a test: a running device does not carry it

    return Response(200, [describe(admin=asked.admin)])


def _logged(request: Request, respond: Respond) -> Respond:
    def logged(response: Response) -> None:
        size_bytes = sum(map(len, response.body))
        took_ms = (time.perf_counter_ns() - request.received_ns) / 1e6
        target = request.target[:200].decode("latin-1").encode("unicode_escape").decode()
        _access.info("%s %s %d %d B %.3f ms", request.method.decode(), target, response.status, size_bytes, took_ms)
        respond(response)

    return logged
