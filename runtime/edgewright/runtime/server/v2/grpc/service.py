"""Which call of which service is answered by what: generic handlers, with bytes in and bytes out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ...refusal import Refusal
from .admission import Admits
from .health import Health
from .infer import Inferences
from .methods import Call, Methods
from .refusing import fail, refuse, refusing_handler
from .schema import message, service
from .stream import InferenceStreams

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

_NO_SHARED_MEMORY = Refusal(
    501, "shared memory by name is not served; a local client passes its memory over the tensors socket"
)

Handlers = Mapping[str, grpc.RpcMethodHandler]


class Service(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio ships no types
    """Finds the handler of a call, and turns away who may not call."""

    def __init__(self, handlers: Handlers, admits: Admits | None) -> None:
        self._handlers = dict(handlers)
        self._admits = admits

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call; None is answered with UNIMPLEMENTED."""
        if self._admits is not None:
            refusal = self._admits(handler_call_details.method, handler_call_details.invocation_metadata)
            if refusal is not None:
                return refusing_handler(refusal)
        return self._handlers.get(handler_call_details.method)


def handlers(
    methods: Methods, inferences: Inferences, streams: InferenceStreams, health: Health
) -> dict[str, grpc.RpcMethodHandler]:
    """Return what is served, by the path of the call."""
    requests = {each.name: message(each.input_type.full_name) for each in service(INFERENCE).methods}
    found: dict[str, grpc.RpcMethodHandler] = {
        name: refusing_handler(_NO_SHARED_MEMORY) for name in requests if "SharedMemory" in name
    }
    for name, call in methods.at_once().items():
        found[name] = grpc.unary_unary_rpc_method_handler(_at_once(name, requests[name], call))
    for name, waiting in methods.waited_for().items():
        found[name] = grpc.unary_unary_rpc_method_handler(_waited_for(name, requests[name], waiting))
    found["ModelInfer"] = grpc.unary_unary_rpc_method_handler(_model_infer(inferences))
    found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(streams.serve)
    check = message("grpc.health.v1.HealthCheckRequest")
    return {f"/{INFERENCE}/{name}": handler for name, handler in found.items()} | {
        f"/{HEALTH}/Check": grpc.unary_unary_rpc_method_handler(_at_once("Check", check, health.check)),
        f"/{HEALTH}/Watch": grpc.unary_stream_rpc_method_handler(health.watch),
    }


def _model_infer(inferences: Inferences) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def model_infer(data: bytes, context: Any) -> bytes:
        received_ns = time.perf_counter_ns()
        try:
            head, raw = inferences.open(data)
            return await inferences.answer(head, raw, received_ns, context.time_remaining())
        except Refusal as refusal:
            await refuse(context, refusal)
        except Exception:  # noqa: BLE001 - `fail` logs it, and tells the client INTERNAL
            await fail(context, "ModelInfer")

    return model_infer


def _at_once(name: str, request: Any, call: Call) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def answer(parsed: Any) -> Any:
        return call(parsed)

    return _waited_for(name, request, answer)


def _waited_for(
    name: str, request: Any, call: Callable[[Any], Awaitable[Any]]
) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def handle(data: bytes, context: Any) -> bytes:
        try:
            answer: bytes = (await call(request.FromString(data))).SerializeToString()
        except DecodeError:
            await refuse(
                context, Refusal(400, f"the request of {name} is not a {request.DESCRIPTOR.full_name} message")
            )
        except Refusal as refusal:
            await refuse(context, refusal)
        except Exception:  # noqa: BLE001 - `fail` logs it, and tells the client INTERNAL
            await fail(context, name)
        return answer

    return handle
