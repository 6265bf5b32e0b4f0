"""An inference by HTTP in overload: refused before it is read, unless it may say that it is urgent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from edgewright.runtime.server.assembly import assemble
from edgewright.runtime.server.http.messages import Request, Response
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.rest import infer
from edgewright.runtime.serving import ModelSettings
from tests.runtime.server.pipeline_stand_ins import HeldModel


def ask(model: HeldModel, body: bytes, headers: dict[bytes, bytes] | None = None) -> Response | None:
    answers: list[Response] = []
    endpoint = assemble(model, ModelSettings(), moved=lambda *_: None).endpoint
    infer(endpoint, Request(b"POST", b"/", headers or {}, memoryview(body), True, 1, 0), answers.append, DEFAULT_LIMITS)
    return answers[0] if answers else None


def status(model: HeldModel, body: bytes, headers: dict[bytes, bytes] | None = None) -> int:
    with pytest.raises(Refusal) as caught:
        ask(model, body, headers)
    return caught.value.status


def told_later(model: HeldModel, body: bytes, headers: dict[bytes, bytes] | None = None) -> int:
    async def scenario() -> int:
        answers: list[Response] = []
        endpoint = assemble(model, ModelSettings(), moved=lambda *_: None).endpoint
        request = Request(b"POST", b"/", headers or {}, memoryview(body), True, 1, 0)
        infer(endpoint, request, answers.append, DEFAULT_LIMITS)
        assert answers == [], "who comes again at once costs those who are served"
        async with asyncio.timeout(5):
            while not answers:  # noqa: ASYNC110 - the answer comes in a plain callback
                await asyncio.sleep(0.001)
        return answers[0].status

    return asyncio.run(scenario())


def test_in_overload_a_body_is_refused_unread() -> None:
    model = HeldModel()
    assert status(model, b"no JSON") == 400
    model.full = True
    assert told_later(model, b"no JSON") == 503
    assert told_later(model, b'{"inputs": []}' + bytes(100), {b"inference-header-content-length": b"14"}) == 503


def test_a_request_that_may_be_urgent_is_read_first() -> None:
    model = HeldModel()
    urgent: dict[str, Any] = {"inputs": [], "parameters": {"priority": 1}}
    assert ask(model, json.dumps(urgent).encode()) is None
    assert model.held[0][0].priority == 1
    model.full = True
    assert status(model, b'not JSON, but "priority"') == 400
    text = b'not JSON, but "priority"'
    assert status(model, text + bytes(10), {b"inference-header-content-length": b"%d" % len(text)}) == 400
    binary = {b"inference-header-content-length": b"2"}
    assert told_later(model, b'{}"priority"', binary) == 503, "tensors are not searched"
