"""The agent's one loop: everything that decides runs here, on one thread; other threads only post to it."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_log = logging.getLogger(__name__)

Call = Callable[[], None]


@dataclass(order=True)
class Timer:
    """A call that is due at a time; `cancel` makes it not happen."""

    due_s: float
    number: int
    call: Call = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class Scheduler(Protocol):
    """What the parts of the agent need of the loop."""

    def post(self, call: Call) -> None:
        """Call soon, on the loop's thread. Any thread may post."""

    def call_later(self, delay_s: float, call: Call) -> Timer:
        """Call after a while, on the loop's thread. Only the loop's thread may ask for this."""


class _Timers:
    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._numbers = itertools.count()

    def add(self, due_s: float, call: Call) -> Timer:
        timer = Timer(due_s, next(self._numbers), call)
        heapq.heappush(self._heap, timer)
        return timer

    def next_due_s(self) -> float | None:
        while self._heap and self._heap[0].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0].due_s if self._heap else None

    def pop_due(self, now_s: float) -> Timer | None:
        due_s = self.next_due_s()
        if due_s is None or due_s > now_s:
            return None
        timer = heapq.heappop(self._heap)
        timer.cancelled = True  # over: who keeps a list of timers can drop it
        return timer


class Loop:
    """The real one, on the monotonic clock."""

    def __init__(self) -> None:
        self._posted: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._timers = _Timers()
        self._running = True

    def post(self, call: Call) -> None:
        self._posted.put(call)

    def call_later(self, delay_s: float, call: Call) -> Timer:
        return self._timers.add(time.monotonic() + delay_s, call)

    def stop(self) -> None:
        """Make `run` return; a signal handler may call this."""
        self.post(self._stop)

    def run(self) -> None:
        """Call what is posted and what is due until `stop`."""
        while self._running:
            while (timer := self._timers.pop_due(time.monotonic())) is not None:
                self._call(timer.call)
            due_s = self._timers.next_due_s()
            try:
                call = self._posted.get(timeout=None if due_s is None else max(0.0, due_s - time.monotonic()))
            except queue.Empty:
                continue
            self._call(call)

    def _stop(self) -> None:
        self._running = False

    def _call(self, call: Call) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - a bug in one step must not stop a device that serves; the log has its traceback
            _log.exception("a step of the agent failed")


class VirtualLoop:
    """The stand-in: time passes only in `advance`, and an error in a call is not caught."""

    def __init__(self) -> None:
        self._posted: list[Call] = []
        self._timers = _Timers()
        self.now_s = 0.0

    def post(self, call: Call) -> None:
        self._posted.append(call)

    def call_later(self, delay_s: float, call: Call) -> Timer:
        return self._timers.add(self.now_s + delay_s, call)

    def settle(self) -> None:
        """Call everything that is posted, and what that posts."""
        while self._posted:
            self._posted.pop(0)()

    def advance(self, seconds: float) -> None:
        """Let time pass, calling what falls due in its order."""
        end_s = self.now_s + seconds
        self.settle()
        while (due_s := self._timers.next_due_s()) is not None and due_s <= end_s:
            self.now_s = max(self.now_s, due_s)
            timer = self._timers.pop_due(self.now_s)
            if timer is not None:
                timer.call()
            self.settle()
        self.now_s = end_s
