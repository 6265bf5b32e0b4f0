"""The calls of `GRPCInferenceService` that answer at once, and the two that change models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...names import route_metadata
from ...refusal import Refusal
from ..about import check_server_ready, server_metadata
from ..application import EXTENSIONS
from ..shared import Shared
from .filling import fill
from .parameters import from_map
from .schema import message

_ServerLive = message("ServerLiveResponse")
_ServerReady = message("ServerReadyResponse")
_ModelReady = message("ModelReadyResponse")
_ServerMetadata = message("ServerMetadataResponse")
_ModelMetadata = message("ModelMetadataResponse")
_ModelConfig = message("ModelConfigResponse")
_ModelStatistics = message("ModelStatisticsResponse")
_RepositoryIndex = message("RepositoryIndexResponse")
_Loaded = message("RepositoryModelLoadResponse")
_Unloaded = message("RepositoryModelUnloadResponse")

_TraceSetting = message("TraceSettingResponse")
_LogSettings = message("LogSettingsResponse")
_LOG_FIELD = {bool: "bool_param", int: "uint32_param", str: "string_param"}

_EXTENSIONS = tuple(name for name in EXTENSIONS if name != "binary_tensor_data")
"""That one is about bodies of HTTP."""

Call = Callable[[Any], Any]
Concluded = Callable[[Any], None]
"""Told the answer, or the `Refusal` there is instead."""
LateCall = Callable[[Any, Concluded], None]


class Methods:
    """One method for each call: message in, message out. A `Refusal` becomes the call's status."""

    def __init__(self, shared: Shared, *, admin: bool) -> None:
        self._names = shared.names
        self._table = shared.table
        self._state = shared.state
        self._repository = shared.repository
        self._log = shared.log
        self._trace = shared.trace
        self._admin = admin

    def at_once(self) -> dict[str, Call]:
        """Return the calls that answer without waiting, by name."""
        return {
            "ServerLive": lambda _: _ServerLive(live=True),
            "ServerReady": self._server_ready,
            "ModelReady": lambda request: _ModelReady(ready=self._is_ready(request.name, request.version)),
            "ServerMetadata": lambda _: fill(_ServerMetadata(), server_metadata(_EXTENSIONS)),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "TraceSetting": self._trace_setting,
            "LogSettings": self._log_settings,
        }

    def later(self) -> dict[str, LateCall]:
        """Return the calls that take time, by name."""
        return {"RepositoryModelLoad": self._load, "RepositoryModelUnload": self._unload}

    def check_server_ready(self) -> None:
        """Raise `Refusal` where the server is not ready."""
        check_server_ready(self._table, self._state)

    def check_model_ready(self, name: str) -> None:
        """Raise `Refusal` where no inference would be taken."""
        self._names.check_ready(name)

    def _server_ready(self, request: Any) -> Any:
        del request
        try:
            self.check_server_ready()
        except Refusal:
            return _ServerReady(ready=False)
        return _ServerReady(ready=True)

    def _is_ready(self, name: str, version: str) -> bool:
        try:
            self._names.check_ready(name, version or None)
        except Refusal:
            return False
        return True

    def _model_metadata(self, request: Any) -> Any:
        name, version = request.name, request.version or None
        route = self._names.route(name, version)
        if route is not None:
            return fill(_ModelMetadata(), route_metadata(route))
        return fill(_ModelMetadata(), msgspec.json.decode(self._table.find(name, version).metadata))

    def _model_config(self, request: Any) -> Any:
        return fill(_ModelConfig(), {"config": self._repository.config(request.name, request.version or None)})

    def _model_statistics(self, request: Any) -> Any:
        return fill(_ModelStatistics(), self._repository.statistics(request.name or None, request.version or None))

    def _repository_index(self, request: Any) -> Any:
        self._check_admin()
        return fill(_RepositoryIndex(), {"models": self._repository.index(ready_only=request.ready)})

    def _trace_setting(self, request: Any) -> Any:
        model = request.model_name or None
        if model is not None:
            self._names.endpoint(model)
        if request.settings:
            self._check_admin()
            changes = {name: list(setting.value) or None for name, setting in request.settings.items()}
            self._trace.update(changes, model)
        response = _TraceSetting()
        for name, value in self._trace.as_json(model).items():
            response.settings[name].value.extend([value] if isinstance(value, str) else value)
        return response

    def _log_settings(self, request: Any) -> Any:
        if request.settings:
            self._check_admin()
            self._log.update(from_map(request.settings))
        response = _LogSettings()
        for name, value in self._log.as_json().items():
            kind = _LOG_FIELD[type(value)]
            setattr(response.settings[name], kind, value)
        return response

    def _load(self, request: Any, concluded: Concluded) -> None:
        self._check_admin()
        parameters = dict.fromkeys(request.parameters)
        self._repository.load(request.model_name, parameters, lambda refusal: concluded(refusal or _Loaded()))

    def _unload(self, request: Any, concluded: Concluded) -> None:
        self._check_admin()
        self._repository.unload(request.model_name, lambda refusal: concluded(refusal or _Unloaded()))

    def _check_admin(self) -> None:
        if not self._admin:
            raise Refusal(
                403,
                "this is about what is installed, and is answered on an admin address only (see docs/guides/device.md)",
            )
