"""Watch: the status now and each change of it, to a client that sends one message and no more."""

from __future__ import annotations

import pytest

from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.grpc.health import Health
from edgewright.runtime.server.v2.grpc.service import Service
from edgewright.runtime.server.v2.grpc.status import Code
from tests.runtime.server.v2.grpc.call_rig import Rig, run, send, settle

WATCH = b"/grpc.health.v1.Health/Watch"


def ready(name: str = "") -> None:
    if name not in {"", "m"}:
        raise Refusal(404, f"unknown model '{name}'")


SERVICE = Service({}, {WATCH: Health(ready, ready).watch})


def test_a_watch_tells_the_status_holds_nothing_and_ends_with_the_server() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(WATCH)
        send(call, b"\n\1m")
        await settle()
        assert (stream.messages, stream.status) == ([b"\x08\x01"], None)
        assert rig.holds_no_bytes
        rig.open_calls.drain()
        await settle()
        assert (stream.messages, stream.status) == ([b"\x08\x01"], Code.UNAVAILABLE)
        assert rig.holds_nothing

    run(use, service=SERVICE)


@pytest.mark.parametrize("ends", [False, True])
def test_a_watch_takes_one_message(ends: bool) -> None:
    """Further ones would be held for as long as the client likes, out of the memory for all bodies."""

    async def use(rig: Rig) -> None:
        stream, call = rig.open(WATCH)
        if ends:
            call.ended(())
        else:
            send(call, b"", bytes(5000))
        await settle()
        assert (stream.status, stream.message) == (
            Code.INVALID_ARGUMENT,
            "Watch takes one HealthCheckRequest message",
        )
        assert rig.holds_nothing

    run(use, service=SERVICE)


def test_a_message_that_comes_later_ends_a_watch() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(WATCH)
        send(call, b"")
        await settle()
        assert stream.status is None
        send(call, bytes(5000))
        await settle()
        assert stream.status == Code.INVALID_ARGUMENT
        assert rig.holds_nothing

    run(use, service=SERVICE)
