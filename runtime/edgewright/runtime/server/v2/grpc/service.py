"""Which call of which service is answered by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from ...refusal import Refusal
from .health import Health
from .infer import Inferences
from .messages import Message
from .methods import Call, LateCall, Methods
from .schema import message, service
from .stream import InferenceStreams
from .streaming import Streaming
from .unary import Unary, UnaryCall

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class Service:
    """What is served, by the path of the call."""

    unary: Mapping[bytes, Unary]
    streaming: Mapping[bytes, Streaming]


def service_of(methods: Methods, inferences: Inferences, streams: InferenceStreams, health: Health) -> Service:
    """Return what this server serves."""
    requests = {each.name: message(each.input_type.full_name) for each in service(INFERENCE).methods}
    found: dict[str, Unary] = {name: _no_shared_memory for name in requests if "SharedMemory" in name}
    found |= {name: _at_once(requests[name], call) for name, call in methods.at_once().items()}
    found |= {name: _later(requests[name], call) for name, call in methods.later().items()}
    found["ModelInfer"] = inferences.answer
    unary = {f"/{INFERENCE}/{name}".encode(): answer for name, answer in found.items()}
    unary[f"/{HEALTH}/Check".encode()] = _at_once(message("grpc.health.v1.HealthCheckRequest"), health.check)
    return Service(
        unary,
        {f"/{INFERENCE}/ModelStreamInfer".encode(): streams.answers, f"/{HEALTH}/Watch".encode(): health.watch},
    )


def _no_shared_memory(data: Message, call: UnaryCall) -> None:
    del data, call
    raise Refusal(501, "shared memory by name is not served; a local client passes its memory over the tensors socket")


def _at_once(request: Any, answer: Call) -> Unary:
    def handle(data: Message, call: UnaryCall) -> None:
        call.conclude(answer(_parsed(request, data)).SerializeToString())

    return handle


def _later(request: Any, begin: LateCall) -> Unary:
    def handle(data: Message, call: UnaryCall) -> None:
        def concluded(result: Any) -> None:
            call.conclude(result if isinstance(result, Refusal) else result.SerializeToString())

        begin(_parsed(request, data), concluded)

    return handle


def _parsed(request: Any, data: Message) -> Any:
    try:
        return request.FromString(bytes(data))
    except DecodeError:
        raise Refusal(400, f"the request is not a {request.DESCRIPTOR.full_name} message") from None
