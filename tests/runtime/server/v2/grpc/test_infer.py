"""From the message to the job and back, over a model that answers when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import numpy as np
import pytest

from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.names import Names
from edgewright.runtime.server.pipeline import Endpoint
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.trace_settings import TraceSettings
from edgewright.runtime.server.v2.grpc.infer import Inferences
from edgewright.runtime.server.v2.grpc.schema import message
from edgewright.runtime.server.v2.grpc.stream import InferenceStreams
from edgewright.runtime.server.v2.shared import Shared
from tests.runtime.server.pipeline_stand_ins import HeldModel
from tests.runtime.server.v2.grpc.messages import Request, Response, raw_request, signature

SIGNATURE = signature(y=("FP32", (3,)))
StreamResponse = message("ModelStreamInferResponse")
LIMITS = Limits(pipelined=4)


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
    """A held model behind gRPC's inferences."""

    def __init__(self) -> None:
        self.model = HeldModel()
        self.model.signature = SIGNATURE
        self.names = OneName(self.model)
        none = cast("Any", None)
        self.inferences = Inferences(
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

    async def ask(self, request: Any, remaining_s: float | None = None) -> Any:
        head, raw = self.inferences.open(request.SerializeToString())
        answer = await self.inferences.answer(head, raw, time.perf_counter_ns(), remaining_s)
        return Response.FromString(answer)


def request(**parameters: Any) -> Any:
    made = raw_request(SIGNATURE, {"y": np.zeros(3, np.float32)})
    for name, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "bool_param" if isinstance(value, bool) else "int64_param"
        setattr(made.parameters[name], kind, value)
    return made


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(use: Callable[[Rig], Awaitable[None]]) -> None:
    asyncio.run(_run(use))


async def _run(use: Callable[[Rig], Awaitable[None]]) -> None:
    await use(Rig())


def test_a_client_that_leaves_cancels_its_job() -> None:
    async def use(rig: Rig) -> None:
        asking = asyncio.create_task(rig.ask(request()))
        await settle()
        ((job, _),) = rig.model.held
        assert not job.cancelled
        asking.cancel()
        await settle()
        assert job.cancelled
        rig.model.answer()  # what comes after is nobody's

    run(use)


@pytest.mark.parametrize(
    ("timeout_us", "remaining_s", "expected_s"),
    [(None, None, None), (5_000_000, None, 5), (None, 2.0, 2), (5_000_000, 2.0, 2), (1_000_000, 2.0, 1), (0, 3.0, 3)],
)
def test_the_sooner_deadline_counts(
    timeout_us: int | None, remaining_s: float | None, expected_s: float | None
) -> None:
    async def use(rig: Rig) -> None:
        asked = request() if timeout_us is None else request(timeout=timeout_us)
        asking = asyncio.create_task(rig.ask(asked, remaining_s))
        await settle()
        ((job, _),) = rig.model.held
        left = None if job.deadline_ns is None else (job.deadline_ns - job.received_ns) / 1e9
        assert left == (None if expected_s is None else pytest.approx(expected_s))
        rig.model.answer()
        await asking

    run(use)


def test_what_a_request_asks_of_the_scheduler_reaches_the_job() -> None:
    async def use(rig: Rig) -> None:
        asked = request(priority=2, key="robot-7", sequence_id=9, sequence_start=True, sequence_end=True)
        asking = asyncio.create_task(rig.ask(asked))
        await settle()
        ((job, _),) = rig.model.held
        assert (job.priority, job.key, job.rows) == (2, "robot-7", 3)
        assert job.sequence is not None
        assert (job.sequence.id, job.sequence.start, job.sequence.end) == ("9", True, True)
        rig.model.answer(2.0)
        assert np.frombuffer((await asking).raw_output_contents[0], np.float32).tolist() == [2, 2, 2]

    run(use)


def test_refusals_are_counted_where_the_model_is_known() -> None:
    async def use(rig: Rig) -> None:
        rig.model.full = True
        with pytest.raises(Refusal, match="too many"):
            await rig.ask(request())
        with pytest.raises(Refusal, match="is missing"):
            await rig.ask(Request(model_name="m"))
        with pytest.raises(Refusal, match="unknown model"):
            await rig.ask(Request(model_name="other"))
        assert rig.names.refused == 2

    run(use)


class Ended(Exception):
    """A call was ended with this code."""


class Context:
    """The part of a call's context that a stream uses."""

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, code: grpc.StatusCode, details: str, trailing: object) -> None:
        del trailing
        raise Ended(code, details)


async def from_queue(source: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (data := await source.get()) is not None:
        yield data


def streaming(rig: Rig, draining: asyncio.Event) -> tuple[asyncio.Queue[bytes | None], list[Any], asyncio.Task[None]]:
    source: asyncio.Queue[bytes | None] = asyncio.Queue()
    answers: list[Any] = []

    async def collect() -> None:
        streams = InferenceStreams(rig.inferences, LIMITS, draining)
        async for data in streams.serve(from_queue(source), Context()):
            answers.append(StreamResponse.FromString(data))  # noqa: PERF401 - what came before an error counts too

    return source, answers, asyncio.create_task(collect())


def test_a_stream_takes_no_more_than_it_may_and_answers_in_order() -> None:
    async def use(rig: Rig) -> None:
        source, answers, collecting = streaming(rig, asyncio.Event())
        for number in range(10):
            asked = request()
            asked.id = str(number)
            source.put_nowait(asked.SerializeToString())
        source.put_nowait(None)
        for _ in range(5):
            await settle()
        assert len(rig.model.held) == LIMITS.pipelined
        second = rig.model.held.pop(1)
        rig.model.held.append(second)
        for number in range(10):
            rig.model.answer(float(number))
            for _ in range(5):
                await settle()
        await collecting
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(10)]

    run(use)


def test_a_stream_goes_on_after_an_error_and_says_whose_it_was() -> None:
    async def use(rig: Rig) -> None:
        source, answers, collecting = streaming(rig, asyncio.Event())
        wrong = Request(model_name="other", id="a")
        source.put_nowait(wrong.SerializeToString())
        source.put_nowait(b"\xff")
        source.put_nowait(request(triton_enable_empty_final_response=True).SerializeToString())
        source.put_nowait(None)
        for _ in range(5):
            await settle()
        rig.model.answer()
        await collecting
        assert [answer.error_message for answer in answers[:2]] == [
            "unknown model 'other'",
            "the request is not a ModelInferRequest message",
        ]
        assert answers[0].infer_response.id == "a"
        assert answers[2].infer_response.parameters["triton_final_response"].bool_param

    run(use)


def test_a_draining_stream_answers_what_it_took_and_ends() -> None:
    async def use(rig: Rig) -> None:
        draining = asyncio.Event()
        source, answers, collecting = streaming(rig, draining)
        source.put_nowait(request().SerializeToString())
        for _ in range(5):
            await settle()
        draining.set()
        for _ in range(5):
            await settle()
        assert not collecting.done()
        rig.model.answer()
        with pytest.raises(Ended) as caught:
            await collecting
        assert caught.value.args[0] is grpc.StatusCode.UNAVAILABLE
        assert len(answers) == 1

    run(use)


def test_a_stream_that_is_left_cancels_what_it_runs() -> None:
    async def use(rig: Rig) -> None:
        source, _, collecting = streaming(rig, asyncio.Event())
        source.put_nowait(request().SerializeToString())
        for _ in range(5):
            await settle()
        collecting.cancel()
        for _ in range(5):
            await settle()
        assert [job.cancelled for job, _ in rig.model.held] == [True]

    run(use)
