"""Calls from their head to their trailers: what a client can do to them, and what it is told."""

from __future__ import annotations

import asyncio
import gc
import gzip
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.grpc.head import CallHead
from edgewright.runtime.server.v2.grpc.messages import Message
from edgewright.runtime.server.v2.grpc.service import Service
from edgewright.runtime.server.v2.grpc.status import Code
from edgewright.runtime.server.v2.grpc.streaming import StreamingCall
from edgewright.runtime.server.v2.grpc.unary import UnaryCall
from tests.runtime.server.v2.grpc.call_rig import LIMITS, Rig, run, send, settle
from tests.runtime.server.v2.grpc.small_stream import fields, framed

ECHO, KEEP, BUG, TALK, ENDLESS = b"/t/Echo", b"/t/Keep", b"/t/Bug", b"/t/Talk", b"/t/Endless"


class Kept:
    """Calls that nobody answers, and what became of them."""

    def __init__(self) -> None:
        self.calls: list[UnaryCall] = []
        self.gone = 0

    def __call__(self, message: Message, call: UnaryCall) -> None:
        del message
        self.calls.append(call)
        call.on_gone = self._on_gone

    def _on_gone(self) -> None:
        self.gone += 1


def bug(message: Message, call: UnaryCall) -> None:
    raise RuntimeError(f"{len(message)} bytes of {call.path!r}")


async def talk(call: StreamingCall) -> AsyncGenerator[Message, None]:
    """Answer each message with itself, and refuse what begins with a `!`."""
    while not call.finished:
        if (taken := call.take()) is None:
            await call.wait()
            continue
        message, held_bytes = taken
        call.release(held_bytes)
        if message[:1] == b"!":
            raise Refusal(409, bytes(message).decode())
        if message[:1] == b"?":
            raise RuntimeError("a bug")
        yield message


async def endless(call: StreamingCall) -> AsyncGenerator[Message, None]:
    try:
        while True:
            yield b"tick"
            await asyncio.sleep(0)
    finally:
        ENDED.append(call)


ENDED: list[StreamingCall] = []


def service(kept: Kept | None = None) -> Service:
    unary: dict[bytes, Any] = {ECHO: lambda message, call: call.conclude(message), BUG: bug}
    return Service(unary | {KEEP: kept or Kept()}, {TALK: talk, ENDLESS: endless})


def test_a_call_is_answered_however_its_message_is_cut() -> None:
    async def use(rig: Rig) -> None:
        body = framed(b"hello")
        for cut in range(len(body) + 1):
            stream, call = rig.open(ECHO)
            for part in (body[:cut], body[cut:]):
                call.data(part, len(part) + 7)
            assert stream.body == b""
            call.ended(())
            assert (stream.messages, stream.status) == ([b"hello"], Code.OK)
            assert stream.head is not None
            assert (b"content-type", b"application/grpc") in stream.head
            assert stream.took_bytes == len(body) + 14, "padding is given back, too"
        assert rig.holds_nothing

    run(use, service=service())


def test_a_compressed_message_is_expanded() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(ECHO, (b"grpc-encoding", b"gzip"))
        packed = framed(gzip.compress(b"hello"), 1)
        call.data(packed, len(packed))
        call.ended(())
        assert stream.messages == [b"hello"]
        unknown, call = rig.open(ECHO, (b"grpc-encoding", b"zstd"))
        call.ended(())
        assert unknown.status == Code.UNIMPLEMENTED
        assert (unknown.trailers or {})[b"grpc-accept-encoding"] == b"identity, deflate, gzip"

    run(use, service=service())


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"", Code.INVALID_ARGUMENT, "takes one whole message"),
        (b"\0\0\0\0\5hell", Code.INVALID_ARGUMENT, "takes one whole message"),
        (framed(b"a") + framed(b"b"), Code.INVALID_ARGUMENT, "takes one whole message"),
        (b"\0\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED, "a message of 4294967295 bytes"),
        (framed(b"a", 1), Code.INTERNAL, "no grpc-encoding"),
    ],
)
def test_a_body_that_is_not_one_message_is_refused(body: bytes, code: Code, sentence: str) -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(ECHO)
        call.data(body, len(body))
        if stream.status is None:
            call.ended(())
        assert stream.status == code
        assert sentence in stream.message
        assert (stream.trailers or {})[b":status"] == b"200"
        assert rig.holds_nothing

    run(use, service=service())


def test_what_is_too_large_or_too_much_is_refused_before_it_has_come() -> None:
    async def use(rig: Rig) -> None:
        first, call = rig.open(ECHO)
        call.data(b"\0\1\0\0\0", 5)
        assert first.status == Code.RESOURCE_EXHAUSTED
        assert first.took_bytes == 0, "the stream is over, and with it its window"
        assert rig.connections.hold(LIMITS.total_body_bytes)
        second, call = rig.open(ECHO)
        send(call, b"a")
        assert second.status == Code.UNAVAILABLE
        assert (second.trailers or {})[b"grpc-retry-pushback-ms"] == b"1000"

    run(use, service=service())


def test_a_deadline_ends_a_call_that_nobody_has_answered() -> None:
    kept = Kept()

    async def use(rig: Rig) -> None:
        waiting, call = rig.open(KEEP, (b"grpc-timeout", b"1m"))
        send(call, b"a")
        call.ended(())
        silent, _ = rig.open(KEEP, (b"grpc-timeout", b"1m"))
        talking, _ = rig.open(TALK, (b"grpc-timeout", b"1m"))
        patient, call = rig.open(KEEP, (b"grpc-timeout", b"1H"))
        await asyncio.gather(*(each.over.wait() for each in (waiting, silent, talking)))
        assert {waiting.status, silent.status, talking.status} == {Code.DEADLINE_EXCEEDED}
        assert kept.gone == 1
        kept.calls[0].conclude(b"late")
        assert waiting.head is None
        assert patient.status is None
        call.gone()
        await settle()
        assert rig.holds_nothing

    run(use, service=service(kept))


def test_a_client_that_leaves_ends_its_call() -> None:
    kept = Kept()

    async def use(rig: Rig) -> None:
        begun, call = rig.open(KEEP)
        call.data(b"\0\0", 2)
        call.gone()
        asked, call = rig.open(KEEP)
        send(call, b"a")
        call.ended(())
        call.gone()
        assert kept.gone == 1
        kept.calls[0].conclude(b"late")
        assert (begun.status, asked.status) == (None, None)
        assert rig.holds_nothing

    run(use, service=service(kept))


def test_a_bug_in_one_call_is_told_without_its_insides(caplog: pytest.LogCaptureFixture) -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(BUG)
        send(call, b"abc")
        call.ended(())
        talking, call = rig.open(TALK)
        send(call, b"?")
        await settle()
        for each in (stream, talking):
            assert each.status == Code.INTERNAL
            assert each.message == "internal error; the server's log has the details"
        assert rig.holds_nothing

    run(use, service=service())
    assert "/t/Bug failed" in caplog.text
    assert "/t/Talk failed" in caplog.text


def test_what_is_no_call_and_what_nobody_serves() -> None:
    async def use(rig: Rig) -> None:
        for head, answer in (
            (fields(ECHO, content_type=b"application/json"), {b":status": b"415"}),
            ([(b":method", b"GET"), *fields(ECHO)[1:]], {b":status": b"405"}),
        ):
            stream, call = rig.begin(head)
            call.ended(())
            assert stream.trailers == answer
        for path, more, code in (
            (b"/t/Nothing", (), Code.UNIMPLEMENTED),
            (b"", (), Code.UNIMPLEMENTED),
            (ECHO, ((b"grpc-timeout", b"soon"),), Code.INVALID_ARGUMENT),
        ):
            stream, call = rig.open(path, *more)
            call.data(b"what nobody reads", 17)
            assert stream.took_bytes == 17
            call.ended(())
            assert stream.status == code
        early, _ = rig.open(b"/t/Nothing")
        await settle()
        assert early.status == Code.UNIMPLEMENTED, "whoever sends on and on is told, too"
        assert rig.holds_nothing

    run(use, service=service())


def test_strangers_are_told_before_anything_is_read() -> None:
    def admits(head: CallHead) -> Refusal | None:
        return None if head.authorization == b"Bearer sesame" else Refusal(401, "a token is needed")

    async def use(rig: Rig) -> None:
        for authorization, code in ((b"Bearer no", Code.UNAUTHENTICATED), (b"Bearer sesame", Code.OK)):
            for _ in range(2):
                stream, call = rig.open(ECHO, (b"authorization", authorization))
                send(call, b"a")
                call.ended(())
                assert stream.status == code
        hidden, call = rig.open(b"/t/Nothing")
        call.ended(())
        assert hidden.status == Code.UNAUTHENTICATED, "what there is, is told to friends only"

    run(use, service=service(), admits=admits)


def test_calls_are_bounded_over_all_connections() -> None:
    async def use(rig: Rig) -> None:
        most = LIMITS.connections * LIMITS.pipelined
        calls = [rig.open(KEEP)[1] for _ in range(most)]
        refused, call = rig.open(KEEP)
        call.ended(())
        assert refused.status == Code.RESOURCE_EXHAUSTED
        calls[0].gone()
        stream, call = rig.open(ECHO)
        send(call, b"a")
        call.ended(())
        assert stream.status == Code.OK

    run(use, service=service())


def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    async def use(rig: Rig) -> None:
        unary, call = rig.open(ECHO)
        call.data(b"\0\0", 2)
        talking, other = rig.open(TALK)
        other.data(b"\0\0", 2)
        quiet, _ = rig.open(TALK)
        for now_s in (0.0, 1.0, LIMITS.receive_s):
            rig.open_calls.sweep(now_s)
        assert (unary.status, talking.status) == (None, None)
        rig.open_calls.sweep(LIMITS.receive_s + 1)
        assert (unary.status, talking.status) == (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED)
        assert "within 60 s" in unary.message
        assert quiet.status is None, "a stream may be silent between messages"

    run(use, service=service())


def test_a_busy_stream_is_not_taken_for_a_slow_one() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(TALK)
        call.data(b"\0\0", 2)
        for now_s in range(0, 200, 10):  # the end of one message and the begin of the next, each time
            rig.open_calls.sweep(float(now_s))
            call.data(b"\0\0\1a\0\0", 6)
            await settle()
        assert stream.status is None
        assert len(stream.messages) == 20

    run(use, service=service())


def test_a_stream_ends_with_its_handler() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(TALK)
        await settle()
        assert stream.head is None
        send(call, b"a", b"", b"b")
        await settle()
        assert (stream.messages, stream.status) == ([b"a", b"", b"b"], None)
        call.ended(())
        await settle()
        assert (stream.status, (stream.trailers or {}).get(b":status")) == (Code.OK, None)
        silent, call = rig.open(TALK)
        call.ended(())
        await settle()
        assert (silent.status, (silent.trailers or {})[b":status"]) == (Code.OK, b"200")
        refused, call = rig.open(TALK)
        send(call, b"a", b"!no", b"b")
        await settle()
        assert (refused.messages, refused.status, refused.message) == ([b"a"], Code.ABORTED, "!no")
        broken, call = rig.open(TALK)
        call.data(b"\0\0\0\0\5hell", 9)
        call.ended(())
        await settle()
        assert (broken.status, broken.message) == (Code.INVALID_ARGUMENT, "the last message is not whole")
        assert rig.holds_nothing

    run(use, service=service())


def test_a_client_that_does_not_read_holds_up_its_stream_only() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(ENDLESS)
        await settle()
        stream.writable = False
        await settle()
        before = len(stream.messages)
        await settle()
        assert len(stream.messages) == before > 0
        stream.become_writable()
        await settle()
        assert len(stream.messages) > before
        stream.writable = False
        await settle()
        call.gone()
        await settle()
        assert len(ENDED) == 1, "its handler is closed where it stands"
        assert rig.holds_nothing

    ENDED.clear()
    run(use, service=service())


def test_a_stream_that_is_stopped_leaves_nothing_that_waits_for_its_client() -> None:
    """A deadline and a window of zero: what waits is not counted any more when the call is over."""

    async def use(rig: Rig) -> None:
        stream, call = rig.open(ENDLESS)
        await settle()
        stream.writable = False
        await settle()
        call.data(b"\0\xff\xff\xff\xff", 5)
        await settle()
        assert (stream.code, stream.trailers) == (8, None)
        assert rig.holds_nothing

    ENDED.clear()
    run(use, service=service())


def test_an_answer_that_waits_for_its_client_is_counted_until_all_of_it_is_sent() -> None:
    async def use(rig: Rig) -> None:
        calls = [rig.open(ECHO) for _ in range(3)]
        for (stream, call), size in zip(calls, (1024, 1025, 1025), strict=True):
            stream.writable = False
            send(call, bytes(size))
            call.ended(())
        (small, _), (large, _), (left, call) = calls
        assert small.status == Code.OK, "so small that it is bounded by the number of streams"
        assert (large.status, left.status) == (None, None)
        rest = LIMITS.total_body_bytes - 2 * 1025
        assert rig.connections.hold(rest)
        assert not rig.connections.hold(1), "both are counted, and nothing else"
        rig.connections.release(rest)
        call.gone()
        large.become_writable()
        assert large.status == Code.OK
        assert rig.holds_nothing

    run(use, service=service())


def test_a_call_that_is_over_is_not_kept_until_its_deadline() -> None:
    async def use(rig: Rig) -> None:
        for path in (ECHO, TALK):
            stream, call = rig.open(path, (b"grpc-timeout", b"23H"))
            send(call, b"a")
            call.ended(())
            await settle()
            assert stream.status == Code.OK
            kept = weakref.ref(stream)
            del stream, call
        await settle()
        gc.collect()
        assert kept() is None
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run(use, service=service())


def test_a_handler_that_does_not_take_lets_no_more_come() -> None:
    async def use(rig: Rig) -> None:
        stream, call = rig.open(ENDLESS)  # takes nothing
        call.data(b"\0\0\0\0\2a", 6)
        assert stream.took_bytes == 6, "a message larger than the window has to come"
        call.data(b"b", 1)
        call.data(framed(b"cd"), 7)
        assert stream.took_bytes == 6
        talking, other = rig.open(TALK)
        send(other, b"a", b"b", b"c")
        assert talking.took_bytes == 0
        await settle()
        assert talking.took_bytes == 18
        for each in (call, other):
            each.gone()
        await settle()

    run(use, service=service())


def test_streams_that_begin_while_the_server_ends_are_sent_away() -> None:
    async def use(rig: Rig) -> None:
        rig.open_calls.drain()
        stream, call = rig.open(TALK)
        send(call, b"a")
        call.ended(())
        assert stream.status == Code.UNAVAILABLE
        late, call = rig.open(ECHO)
        send(call, b"a")
        call.ended(())
        assert late.status == Code.OK

    run(use, service=service())
