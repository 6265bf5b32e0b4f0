"""The V2 protocol's routes over the models in service. See `inference` for the request that does the work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from ..http.messages import Request, Respond, Response, json_response
from ..metrics import CONTENT_TYPE, render
from ..model_table import ModelTable
from ..refusal import Refusal
from ..served_model import ServedModel
from ..state import ServerState
from .about import check_server_ready, server_metadata
from .rest import infer

_log = logging.getLogger(__name__)

EXTENSIONS = ("binary_tensor_data", "statistics")


class Application:
    """Answers requests. Everything but an inference is answered at once."""

    def __init__(self, table: ModelTable, state: ServerState) -> None:
        self._table = table
        self._state = state
        self._fixed: dict[tuple[str, ...], Callable[[], Response]] = {
            ("v2",): self._server_metadata,
            ("v2", "health", "live"): lambda: json_response({"live": True}),
            ("v2", "health", "ready"): self._ready,
            ("v2", "models", "stats"): lambda: _statistics(tuple(self._table)),
            ("metrics",): self._metrics,
        }

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request; see `messages.Handler`."""
        model = self._table.infer_targets.get(request.target)
        if model is not None and request.method == b"POST":
            self._infer(model, request, respond)
        else:
            self._route(request, respond)

    def _route(self, request: Request, respond: Respond) -> None:
        segments = _segments(request.target)
        fixed = self._fixed.get(segments)
        if fixed is not None:
            _allow(request, b"GET")
            respond(fixed())
            return
        name, version, action = _model_route(segments)
        _allow(request, b"POST" if action == "infer" else b"GET")
        model = self._table.find(name, version)
        if action == "infer":
            self._infer(model, request, respond)
        elif action == "ready":
            respond(json_response({"name": model.name, "ready": True}))
        elif action == "stats":
            respond(_statistics((model,)))
        else:
            respond(Response(200, [model.metadata]))

    def _infer(self, model: ServedModel, request: Request, respond: Respond) -> None:
        try:
            infer(model, request, respond, model.limits)
        except Refusal:
            model.statistics.refused += 1
            raise

    def _server_metadata(self) -> Response:
        return json_response(server_metadata(EXTENSIONS))

    def _ready(self) -> Response:
        check_server_ready(self._table, self._state)
        return json_response({"ready": True})

    def _metrics(self) -> Response:
        return Response(200, [render(self._table, self._state).encode()], CONTENT_TYPE)


def _segments(target: bytes) -> tuple[str, ...]:
    path = target.partition(b"?")[0]
    if path.startswith((b"http://", b"https://")):  # the absolute form, which a server must accept
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") >= 3 else b"/"
    if not path.startswith(b"/"):
        raise Refusal(400, "the request target must be a path")
    return tuple(unquote(segment) for segment in path.decode("latin-1").strip("/").split("/"))


def _model_route(segments: tuple[str, ...]) -> tuple[str, str | None, str]:
    """Return (model, version or None, action); the action is empty for the model's metadata."""
    if segments[:2] != ("v2", "models") or len(segments) < 3:
        raise Refusal(404, "no such resource; the V2 protocol begins at /v2")
    name, rest = segments[2], segments[3:]
    version: str | None = None
    if rest[:1] == ("versions",) and len(rest) >= 2:
        version, rest = rest[1], rest[2:]
    if rest in {(), ("ready",), ("infer",), ("stats",)}:
        return name, version, rest[0] if rest else ""
    raise Refusal(404, "no such resource; a model has /ready, /infer and /stats")


def _allow(request: Request, method: bytes) -> None:
    allowed = (b"GET", b"HEAD") if method == b"GET" else (method,)
    if request.method not in allowed:
        verbs = b", ".join(allowed)
        raise Refusal(405, f"this resource takes {verbs.decode()}", headers=((b"allow", verbs),))


def _statistics(models: tuple[ServedModel, ...]) -> Response:
    entries = [model.statistics.as_json(model.name, model.version) for model in models]
    return Response(200, [msgspec.json.encode({"model_stats": entries})])
