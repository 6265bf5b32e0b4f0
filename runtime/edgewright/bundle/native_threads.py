"""One call of a compiled model by several threads: a small pool, and each call's fixed shares (native.md).

The threads of a call wait for each other inside the library, and without end: so whatever happens to one of them, it
lets the others go before it leaves, and the call is then made again by one thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from edgewright.targets.faults import EnvironmentFault

from .native_library import NativeLibrary

Run = Callable[..., None]
"""`run` or `run_part` of an entry, without declared arguments."""


class _Call:
    """What the threads of a pool get: a function with its arguments, and where to say that they have left it."""

    __slots__ = ("arena", "arguments", "counters_bytes", "ended", "function", "spoiled")

    def __init__(self, function: Run, arguments: tuple[Any, ...], arena: ctypes.c_void_p, counters_bytes: int) -> None:
        self.function = function
        self.arguments = arguments
        self.arena = arena
        self.counters_bytes = counters_bytes
        self.ended: SimpleQueue[None] = SimpleQueue()
        self.spoiled = False

    def part(self, part: ctypes.c_uint32, parts: ctypes.c_uint32) -> None:
        """One thread's share."""
        self.function(*self.arguments, self.arena, part, parts)

    def release(self) -> None:
        """Lets every thread pass that waits for another one, or comes to: what is computed then is of no use."""
        self.spoiled = True
        ctypes.memset(self.arena, 0xFF, self.counters_bytes)


_Queue = SimpleQueue[_Call | None]


class Pool:
    """Threads that wait for calls; the caller's own thread is one of those that `threads` counts."""

    def __init__(self, threads: int) -> None:
        """Starts the threads.

        Raises:
            EnvironmentFault: the system gives no more threads.
        """
        self._parts = ctypes.c_uint32(threads)
        self._first = ctypes.c_uint32(0)
        self._queues: list[_Queue] = [SimpleQueue() for _ in range(threads - 1)]
        # It holds the queues and not the pool: a pool that is forgotten ends its threads as one that is closed does.
        self._stop = weakref.finalize(self, _stop, self._queues)
        self._stop.atexit = False
        self._threads = [
            threading.Thread(
                target=_work, args=(queue, index + 1, threads), name=f"edgewright-native-{index + 1}", daemon=True
            )
            for index, queue in enumerate(self._queues)
        ]
        self._busy = threading.Lock()
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self._stop()
            raise EnvironmentFault(f"a model needs {threads - 1} threads more, and the system gives none") from error

    @property
    def threads(self) -> int:
        """Those of a call, the caller's included."""
        return self._parts.value

    def call(self, function: Run, arguments: tuple[Any, ...], arena: ctypes.c_void_p, counters_bytes: int) -> bool:
        """Runs `run_part` of an entry by all threads.

        Args:
            function: it.
            arguments: its first two.
            arena: its third one.
            counters_bytes: of the arena, at its beginning: the counters of the threads.

        Returns:
            Whether the outputs are there. They are not where another call is under way, and where a thread is gone.
        """
        if not self._busy.acquire(blocking=False):
            return False
        try:
            # After a fork the other process has the pool and none of its threads.
            if not all(thread.is_alive() for thread in self._threads):
                return False
            return self._call(_Call(function, arguments, arena, counters_bytes))
        finally:
            self._busy.release()

    def _call(self, call: _Call) -> bool:
        ctypes.memset(call.arena, 0, call.counters_bytes)
        try:
            for queue in self._queues:
                queue.put(call)
            call.part(self._first, self._parts)
            for _ in self._queues:
                call.ended.get()
        except BaseException:  # an interruption, for example, before every thread had its share
            call.release()
            self._settle()
            raise
        return not call.spoiled

    def _settle(self) -> None:
        """Returns when every thread has left whatever it had been given."""
        nothing = _Call(_do_nothing, (), ctypes.c_void_p(), 0)
        for queue in self._queues:
            queue.put(nothing)
        for _ in self._queues:
            nothing.ended.get()

    def close(self) -> None:
        """Ends the threads. No call is under way and none follows."""
        self._stop()
        for thread in self._threads:
            thread.join()


def _work(queue: _Queue, index: int, threads: int) -> None:
    """A thread of a pool. It must not hold the pool."""
    part, parts = ctypes.c_uint32(index), ctypes.c_uint32(threads)
    while (call := queue.get()) is not None:
        try:
            call.part(part, parts)
        except BaseException:  # noqa: BLE001 - the caller computes again, and sees what comes of it
            call.release()
        finally:
            call.ended.put(None)
        del call  # with the arena it may hold the last reference to what the caller has given up


def _do_nothing(*_: object) -> None:
    pass


def _stop(queues: Sequence[_Queue]) -> None:
    for queue in queues:
        queue.put(None)


def divided(library: NativeLibrary, entry: int, pool: Pool) -> Run:
    """`run` of an entry as calls of the pool; by one thread where the entry has no such calls or the pool is busy."""
    run, run_part = library.function(entry), library.part_function(entry)
    counters_bytes = library.entries[entry].arena_alignment
    if run_part is None:
        return run

    def call(inputs: Any, outputs: Any, arena: ctypes.c_void_p) -> None:
        if not pool.call(run_part, (inputs, outputs), arena, counters_bytes):
            run(inputs, outputs, arena)

    return call


def useful_threads(library: NativeLibrary, wanted: int) -> int:
    """As many threads as are wanted, as the library can use, and as there are cores: more would wait for each other."""
    most = max(entry.max_parts for entry in library.entries)
    return max(1, min(wanted, most, len(os.sched_getaffinity(0))))
