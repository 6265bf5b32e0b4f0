"""Calls with as many messages as both sides like. Each has a task, since most of the time they wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ...http2.faults import Code as Reset
from ...http2.stream import Fields, Stream
from ...limits import Limits
from ...refusal import Refusal
from .answers import HEAD, OK, only_trailers, too_late, too_slow
from .head import CallHead
from .messages import Message, Messages, framed
from .open_calls import OpenCalls
from .status import INTERNAL, trailers_of

_log = logging.getLogger(__name__)

Streaming = Callable[["StreamingCall"], AsyncGenerator[Message, None]]
"""Yields the messages of the answer; its end is the end of the call, and it may raise `Refusal`."""


class StreamingCall:
    """One side of a stream (`http2.stream.Answering`), and what a handler sees of the call.

    Messages are taken out by the handler. As long as one waits for it, the client gets no more window.
    """

    def __init__(
        self,
        stream: Stream,
        head: CallHead,
        answers: Streaming,
        messages: Messages,
        open_calls: OpenCalls,
        limits: Limits,
    ) -> None:
        self._stream: Stream | None = stream
        self._messages = messages
        self._open_calls = open_calls
        self._limits = limits
        self._path = head.path
        self._begun = False
        self._ended = False
        self._owed_bytes = 0
        self._waits_since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self.deadline_ns: int | None = None
        """By `time.perf_counter_ns()`: the client waits no longer."""
        loop = asyncio.get_running_loop()
        if head.timeout_ns is not None:
            self.deadline_ns = time.perf_counter_ns() + head.timeout_ns
            self._timer = loop.call_later(head.timeout_ns / 1e9, self._late)
        self._task = loop.create_task(self._run(answers))
        open_calls.add(self)

    # What a handler uses.

    @property
    def finished(self) -> bool:
        """True when the client has sent its last message, and that was taken."""
        return self._ended and self._messages.empty

    @property
    def draining(self) -> bool:
        """True when the server ends: no message is taken any more."""
        return self._open_calls.draining

    def take(self) -> tuple[Message, int] | None:
        """Return the next message and what it holds of the memory for bodies; None where none is there.

        Raises:
            Refusal: it is too large, or none.
        """
        message = self._messages.take()
        self._give_window()
        if message is not None:
            self._waits_since_s = None
            return message, self._messages.taken_bytes
        if self._ended and not self._messages.empty:
            raise Refusal(400, "the last message is not whole")
        return None

    def hold(self, size_bytes: int) -> bool:
        """Count so much more of the memory for bodies, for an answer that may wait; False where there is no room."""
        if self._stream is not None:
            try:
                self._messages.hold(size_bytes)
            except Refusal:
                return False
        return True

    def release(self, size_bytes: int) -> None:
        """Give back the memory of a message."""
        if self._stream is not None:  # otherwise all of it has been given back
            self._messages.release(size_bytes)

    def change(self) -> None:
        """Have `wait` return."""
        self._changed.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when something has happened since the last call: a message, an end, `change`; or after that time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    # What the connection calls.

    def data(self, data: bytes, size_bytes: int) -> None:
        if self._stream is None:
            return
        self._owed_bytes += size_bytes
        try:
            self._messages.add(data)
        except Refusal as refusal:
            self._stop(refusal)
            return
        self._give_window()
        self._changed.set()

    def ended(self, trailers: Fields) -> None:
        del trailers
        self._ended = True
        self._changed.set()

    def gone(self) -> None:
        if self._stream is not None:
            self._over()
        self._task.cancel()

    def drain(self) -> None:
        self._changed.set()

    def sweep(self, now_s: float) -> None:
        messages = self._messages
        if self._ended or messages.empty or messages.complete:
            self._waits_since_s = None
        elif self._waits_since_s is None:
            self._waits_since_s = now_s
        elif now_s - self._waits_since_s > self._limits.receive_s:
            self._stop(too_slow(self._limits.receive_s))

    def _late(self) -> None:
        self._stop(too_late())

    def _stop(self, refusal: Refusal) -> None:
        self._conclude(refusal)
        self._task.cancel()

    async def _run(self, answers: Streaming) -> None:
        refusal: Refusal | None = None
        try:
            async with aclosing(answers(self)) as messages:
                async for message in messages:
                    await self._send(message)
        except Refusal as error:
            refusal = error
        except Exception:  # noqa: BLE001 - the border of one call: our bug must not end the other calls
            _log.exception("%s failed", self._path.decode(errors="replace")[:200])
            refusal = INTERNAL
        self._conclude(refusal)

    async def _send(self, message: Message) -> None:
        stream = self._stream
        if stream is None:
            return
        if not self._begun:
            self._begun = True
            stream.begin(HEAD)
        stream.send(framed(message))
        while not stream.writable:
            room = asyncio.Event()
            stream.on_writable(room.set)
            await room.wait()  # a stream that is gone cancels this task

    def _conclude(self, refusal: Refusal | None) -> None:
        stream = self._stream
        if stream is None:
            return
        self._over()
        if not stream.writable:
            # What waits for the client is not counted any more, so that it must not stay.
            stream.reset(Reset.CANCEL)
        elif self._begun:
            stream.end(OK if refusal is None else trailers_of(refusal))
        else:
            stream.end((*HEAD, *OK) if refusal is None else only_trailers(refusal))

    def _give_window(self) -> None:
        if self._stream is not None and self._owed_bytes and not self._messages.complete:
            owed, self._owed_bytes = self._owed_bytes, 0
            self._stream.took(owed)

    def _over(self) -> None:
        self._stream = None
        self._messages.release()
        self._open_calls.remove(self)
        if self._timer is not None:
            self._timer.cancel()
