"""Calls with one message in either direction, answered by callbacks: without a task and without a future.

Inferences come this way, thousands a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ...http2.stream import Fields, Stream
from ...limits import Limits
from ...refusal import Refusal
from .answers import HEAD, OK, only_trailers, too_late, too_slow
from .head import CallHead
from .messages import PREFIX_BYTES, Message, Messages, framed
from .open_calls import OpenCalls
from .status import INTERNAL
from .waiting_answer import SMALL_BYTES, WaitingAnswer

_log = logging.getLogger(__name__)

Unary = Callable[[Message, "UnaryCall"], None]
"""Answers a call with one message by its `conclude`, now or later. It may raise `Refusal` before it returns."""


class UnaryCall:
    """One side of a stream (`http2.stream.Answering`), and what a handler sees of the call."""

    __slots__ = (
        "_answer",
        "_begun_s",
        "_ended",
        "_limits",
        "_messages",
        "_open_calls",
        "_stream",
        "_timer",
        "_waiting",
        "deadline_ns",
        "on_gone",
        "path",
        "received_ns",
    )

    def __init__(
        self, stream: Stream, head: CallHead, answer: Unary, messages: Messages, open_calls: OpenCalls, limits: Limits
    ) -> None:
        self._stream: Stream | None = stream
        self._answer = answer
        self._messages = messages
        self._open_calls = open_calls
        self._limits = limits
        self._ended = False
        self._waiting: WaitingAnswer | None = None
        self._begun_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.path = head.path
        self.received_ns = 0
        """`time.perf_counter_ns()` when the message had arrived."""
        self.deadline_ns: int | None = None
        """By the same clock: the client waits no longer."""
        self.on_gone: Callable[[], None] | None = None
        """Called where nobody waits for the answer any more."""
        if head.timeout_ns is not None:
            self.deadline_ns = time.perf_counter_ns() + head.timeout_ns
            self._timer = asyncio.get_running_loop().call_later(head.timeout_ns / 1e9, self._late)
        open_calls.add(self)

    def conclude(self, result: Message | Refusal) -> None:
        """End the call with a message, or without one; where it is over already, nothing happens."""
        stream = self._stream
        if stream is None:
            return
        self._over()
        if isinstance(result, Refusal):
            stream.end(only_trailers(result))
        elif len(result) <= SMALL_BYTES or stream.takes(len(result) + PREFIX_BYTES):
            stream.answer(HEAD, framed(result), OK)
        else:
            self._waiting = WaitingAnswer(stream, result, self._messages)

    def data(self, data: bytes, size_bytes: int) -> None:
        if self._stream is None:
            return
        try:
            self._messages.add(data)
            if self._messages.surplus:
                raise _not_one()
        except Refusal as refusal:
            self.conclude(refusal)
        else:
            # At once, since what is held is bounded by other means: a large message is larger than any window.
            self._stream.took(size_bytes)

    def ended(self, trailers: Fields) -> None:
        del trailers
        self._ended = True
        try:
            message = self._messages.take()
            if message is None:
                raise _not_one()
            self.received_ns = time.perf_counter_ns()
            self._answer(message, self)
        except Refusal as refusal:
            self.conclude(refusal)
        except Exception:  # noqa: BLE001 - the border of one call: our bug must not end the other calls
            _log.exception("%s failed", self.path.decode(errors="replace")[:200])
            self.conclude(INTERNAL)

    def gone(self) -> None:
        on_gone = self.on_gone
        if self._stream is not None:
            self._over()
        elif self._waiting is not None:
            self._waiting.gone()
        if on_gone is not None:
            on_gone()

    def drain(self) -> None:
        """What has been accepted is answered."""

    def sweep(self, now_s: float) -> None:
        if self._ended:
            return
        if self._begun_s is None:
            self._begun_s = now_s
        elif now_s - self._begun_s > self._limits.receive_s:
            self.conclude(too_slow(self._limits.receive_s))

    def _late(self) -> None:
        on_gone = self.on_gone
        self.conclude(too_late())
        if on_gone is not None:
            on_gone()

    def _over(self) -> None:
        """Let go of everything that refers to this call: circles stay until the collector comes by."""
        self._stream = None
        self.on_gone = None
        self._messages.release()
        self._open_calls.remove(self)
        if self._timer is not None:
            self._timer.cancel()


def _not_one() -> Refusal:
    return Refusal(400, "this call takes one whole message")
