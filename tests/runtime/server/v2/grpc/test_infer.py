"""Inferences from the message to the job and back, over a model that answers when the test says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.runtime.server.v2.grpc.schema import message
from edgewright.runtime.server.v2.grpc.status import Code
from tests.runtime.server.v2.grpc.call_rig import LIMITS, SIGNATURE, STREAM, Rig, run, send, settle
from tests.runtime.server.v2.grpc.messages import Request, Response, raw_request
from tests.runtime.server.v2.grpc.small_stream import SmallStream

StreamResponse = message("ModelStreamInferResponse")


def request(**parameters: Any) -> Any:
    made = raw_request(SIGNATURE, {"y": np.zeros(3, np.float32)})
    for name, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "bool_param" if isinstance(value, bool) else "int64_param"
        setattr(made.parameters[name], kind, value)
    return made


def data(asked: Any) -> bytes:
    written: bytes = asked.SerializeToString()
    return written


def answers(stream: SmallStream) -> list[Any]:
    return [StreamResponse.FromString(each) for each in stream.messages]


def test_an_inference_is_answered_in_one_turn_and_leaves_nothing() -> None:
    async def use(rig: Rig) -> None:
        stream, _ = rig.ask(data(request()))
        assert stream.status is None
        assert not rig.holds_nothing, "until it is answered, its body is held"
        rig.model.answer(2.0)
        (answer,) = stream.messages
        assert np.frombuffer(Response.FromString(answer).raw_output_contents[0], np.float32).tolist() == [2, 2, 2]
        assert stream.status == Code.OK
        assert rig.holds_nothing

    run(use)


def test_a_client_that_leaves_cancels_its_job() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.ask(data(request()))
        ((job, _),) = rig.model.held
        assert not job.cancelled
        call.gone()
        assert job.cancelled
        assert rig.holds_nothing
        rig.model.answer()  # what comes after is nobody's
        assert stream.head is None

    run(use)


@pytest.mark.parametrize(
    ("timeout_us", "told", "expected_s"),
    [
        (None, None, None),
        (5_000_000, None, 5),
        (None, b"2S", 2),
        (5_000_000, b"2S", 2),
        (1_000_000, b"2000m", 1),
        (0, b"3S", 3),
    ],
)
def test_the_sooner_deadline_counts(timeout_us: int | None, told: bytes | None, expected_s: float | None) -> None:
    async def use(rig: Rig) -> None:
        asked = request() if timeout_us is None else request(timeout=timeout_us)
        rig.ask(data(asked), *([] if told is None else [(b"grpc-timeout", told)]))
        ((job, _),) = rig.model.held
        left = None if job.deadline_ns is None else (job.deadline_ns - job.received_ns) / 1e9
        assert left == (None if expected_s is None else pytest.approx(expected_s, abs=0.5))
        rig.model.answer()

    run(use)


def test_what_a_request_asks_of_the_scheduler_reaches_the_job() -> None:
    async def use(rig: Rig) -> None:
        rig.ask(data(request(priority=2, key="robot-7", sequence_id=9, sequence_start=True, sequence_end=True)))
        ((job, _),) = rig.model.held
        assert (job.priority, job.key, job.rows) == (2, "robot-7", 3)
        assert job.sequence is not None
        assert (job.sequence.id, job.sequence.start, job.sequence.end) == ("9", True, True)

    run(use)


def test_refusals_are_counted_where_the_model_is_known() -> None:
    async def use(rig: Rig) -> None:
        rig.model.full = True
        for asked, code, sentence in (
            (request(), Code.UNAVAILABLE, "too many"),
            (Request(model_name="m"), Code.INVALID_ARGUMENT, "is missing"),
            (Request(model_name="other"), Code.NOT_FOUND, "unknown model"),
        ):
            stream, _ = rig.ask(data(asked))
            assert stream.status == code
            assert sentence in stream.message
        assert rig.names.refused == 2
        assert rig.holds_nothing

    run(use)


def test_a_job_that_fails_is_told_as_it_failed() -> None:
    async def use(rig: Rig) -> None:
        stream, _ = rig.ask(data(request()))
        rig.model.refuse(503)
        assert (stream.status, stream.message) == (Code.UNAVAILABLE, "status 503")
        assert rig.holds_nothing

    run(use)


def test_a_stream_takes_no_more_than_it_may_and_answers_in_order() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(STREAM)
        for number in range(10):
            asked = request()
            asked.id = str(number)
            send(call, data(asked))
        call.ended(())
        await settle()
        assert len(rig.model.held) == LIMITS.pipelined
        second = rig.model.held.pop(1)
        rig.model.held.append(second)
        for number in range(10):
            rig.model.answer(float(number))
            await settle()
        assert [answer.infer_response.id for answer in answers(stream)] == [str(number) for number in range(10)]
        assert stream.status == Code.OK
        assert rig.holds_nothing

    run(use)


def test_a_stream_goes_on_after_an_error_and_says_whose_it_was() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(STREAM)
        wrong = Request(model_name="other", id="a")
        final = request(triton_enable_empty_final_response=True)
        send(call, data(wrong), b"\xff", data(final))
        await settle()
        rig.model.answer()
        await settle()
        found = answers(stream)
        assert [answer.error_message for answer in found[:2]] == [
            "unknown model 'other'",
            "the request is not a ModelInferRequest message",
        ]
        assert found[0].infer_response.id == "a"
        assert found[2].infer_response.parameters["triton_final_response"].bool_param
        assert stream.status is None

    run(use)


def test_a_draining_stream_answers_what_it_took_and_ends() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(STREAM)
        send(call, data(request()))
        await settle()
        rig.open_calls.drain()
        send(call, data(request()))
        await settle()
        assert stream.status is None
        assert len(rig.model.held) == 1
        rig.model.answer()
        await settle()
        assert len(stream.messages) == 1
        assert stream.status == Code.UNAVAILABLE
        assert rig.holds_nothing

    run(use)


def test_a_stream_that_is_left_cancels_what_it_runs() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(STREAM)
        send(call, data(request()))
        await settle()
        call.gone()
        await settle()
        assert [job.cancelled for job, _ in rig.model.held] == [True]
        assert stream.status is None
        assert rig.holds_nothing

    run(use)
