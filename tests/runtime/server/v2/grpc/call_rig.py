"""Calls without sockets: a service over streams that the test plays the client of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from edgewright.runtime.server.http.connections import Connections
from edgewright.runtime.server.http2.stream import Answering, Fields
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.names import Names
from edgewright.runtime.server.pipeline import Endpoint
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.trace_settings import TraceSettings
from edgewright.runtime.server.v2.grpc.admission import Admits, everybody
from edgewright.runtime.server.v2.grpc.infer import Inferences
from edgewright.runtime.server.v2.grpc.open_calls import OpenCalls
from edgewright.runtime.server.v2.grpc.opening import Opening
from edgewright.runtime.server.v2.grpc.service import Service
from edgewright.runtime.server.v2.grpc.stream import InferenceStreams
from edgewright.runtime.server.v2.shared import Shared
from tests.runtime.server.pipeline_stand_ins import HeldModel
from tests.runtime.server.v2.grpc.messages import signature
from tests.runtime.server.v2.grpc.small_stream import SmallStream, fields, framed

SIGNATURE = signature(y=("FP32", (3,)))
LIMITS = Limits(pipelined=4, connections=4, body_bytes=100_000)
INFER, STREAM = b"/inference/ModelInfer", b"/inference/ModelStreamInfer"


class OneName:
    """Names that lead to one endpoint."""

    def __init__(self, endpoint: HeldModel) -> None:
        self._endpoint = endpoint
        self.refused = 0

    def endpoint(self, name: str, version: str | None = None) -> Endpoint:
        del version
        if name != "m":
            raise Refusal(404, f"unknown model '{name}'")
        return self._endpoint

    def count_refused(self, name: str, version: str | None = None) -> None:
        del name, version
        self.refused += 1


class Rig:
    """A held model behind gRPC's calls."""

    def __init__(self, service: Service | None = None, admits: Admits = everybody) -> None:
        self.model = HeldModel()
        self.model.signature = SIGNATURE
        self.names = OneName(self.model)
        none = cast("Any", None)
        inferences = Inferences(
            Shared(
                names=cast("Names", self.names),
                table=none,
                state=none,
                repository=none,
                limits=LIMITS,
                log=none,
                trace=TraceSettings(),
            )
        )
        streams = InferenceStreams(inferences, LIMITS)
        self.connections = Connections(LIMITS)
        self.open_calls = OpenCalls(LIMITS)
        served = service or Service({INFER: inferences.answer}, {STREAM: streams.answers})
        self.opening = Opening(served, admits, self.open_calls, self.connections, LIMITS)

    def open(self, path: bytes, *more: tuple[bytes, bytes], **changes: bytes) -> tuple[SmallStream, Answering]:
        return self.begin(fields(path, *more, **changes))

    def begin(self, head: Fields) -> tuple[SmallStream, Answering]:
        stream = SmallStream()
        return stream, self.opening(stream, head)

    def ask(self, message: bytes, *more: tuple[bytes, bytes]) -> tuple[SmallStream, Answering]:
        """Begin an inference."""
        stream, call = self.open(INFER, *more)
        send(call, message)
        call.ended(())
        return stream, call

    @property
    def holds_nothing(self) -> bool:
        """Whether no call is open and nothing of a body is held."""
        return self.holds_no_bytes and len(self.open_calls) == 0

    @property
    def holds_no_bytes(self) -> bool:
        held = not self.connections.hold(LIMITS.total_body_bytes)
        if not held:
            self.connections.release(LIMITS.total_body_bytes)
        return not held


def send(call: Answering, *messages: bytes) -> None:
    body = b"".join(map(framed, messages))
    call.data(body, len(body))


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(use: Callable[[Rig], Awaitable[None]], **settings: Any) -> None:
    async def scenario() -> None:
        await use(Rig(**settings))

    asyncio.run(scenario())
