"""`grpc.health.v1.Health`: what load balancers and probes ask. The empty service is the server; others are models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from ...refusal import Refusal, not_now
from .refusing import refuse
from .schema import message

_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")

_SERVING: int = _Response.SERVING
_NOT_SERVING: int = _Response.NOT_SERVING
_SERVICE_UNKNOWN: int = _Response.SERVICE_UNKNOWN

INFERENCE_SERVICE = "inference.GRPCInferenceService"

_POLL_S = 1.0
"""A change is seen at most so late by those who watch."""


class Health:
    """Answers for the server and for its models by name."""

    def __init__(
        self, server_ready: Callable[[], None], model_ready: Callable[[str], None], draining: asyncio.Event
    ) -> None:
        """Both functions raise `Refusal` where something is not ready, 404 where there is no such thing."""
        self._server_ready = server_ready
        self._model_ready = model_ready
        self._draining = draining

    def check(self, request: Any) -> Any:
        """Answer `Check`; raises `Refusal` 404 for what is not served here."""
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            raise Refusal(404, f"unknown service '{request.service[:200]}'; models have their name")
        return _Response(status=status)

    async def watch(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        """Answer `Watch`: the status now, then each change of it."""
        try:
            service = _Request.FromString(data).service
        except Exception:  # noqa: BLE001 - protobuf's own kinds of complaint
            await refuse(context, Refusal(400, "the request is not a HealthCheckRequest message"))
        told: int | None = None
        while True:
            status = self._status(service)
            if status != told:
                yield _Response(status=status).SerializeToString()
                told = status
            if self._draining.is_set():
                await refuse(context, not_now("the server is shutting down"))
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._draining.wait()
            except TimeoutError:
                continue

    def _status(self, service: str) -> int:
        try:
            if service in {"", INFERENCE_SERVICE}:
                self._server_ready()
            else:
                self._model_ready(service)
        except Refusal as refusal:
            return _SERVICE_UNKNOWN if refusal.status == 404 else _NOT_SERVING
        return _SERVING
