"""`grpc.health.v1.Health`: what load balancers and probes ask. The empty service is the server; others are models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from ...refusal import Refusal, not_now
from .messages import Message
from .schema import message
from .streaming import StreamingCall

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

    def __init__(self, server_ready: Callable[[], None], model_ready: Callable[[str], None]) -> None:
        """Both functions raise `Refusal` where something is not ready, 404 where there is no such thing."""
        self._server_ready = server_ready
        self._model_ready = model_ready

    def check(self, request: Any) -> Any:
        """Answer `Check`; raises `Refusal` 404 for what is not served here."""
        status = self._status(request.service)
        if status == _SERVICE_UNKNOWN:
            raise Refusal(404, f"unknown service '{request.service[:200]}'; models have their name")
        return _Response(status=status)

    async def watch(self, call: StreamingCall) -> AsyncGenerator[Message, None]:
        """Answer `Watch`: the status now, then each change of it; raises `Refusal` when the server ends."""
        while (taken := call.take()) is None:
            if call.finished:
                raise _not_one()
            await call.wait()
        try:
            service = _Request.FromString(bytes(taken[0])).service
        except DecodeError:
            raise Refusal(400, "the request is not a HealthCheckRequest message") from None
        call.release(taken[1])
        told: int | None = None
        while True:
            if call.take() is not None:
                raise _not_one()
            draining, status = call.draining, self._status(service)
            if status != told:
                yield _Response(status=status).SerializeToString()
                told = status
            if draining:
                raise not_now("the server is shutting down")
            await call.wait(_POLL_S)

    def _status(self, service: str) -> int:
        try:
            if service in {"", INFERENCE_SERVICE}:
                self._server_ready()
            else:
                self._model_ready(service)
        except Refusal as refusal:
            return _SERVICE_UNKNOWN if refusal.status == 404 else _NOT_SERVING
        return _SERVING


def _not_one() -> Refusal:
    return Refusal(400, "Watch takes one HealthCheckRequest message")
