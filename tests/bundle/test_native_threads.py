"""The pool of threads: nothing hangs, nothing is left, and answers are there whatever happens to a thread."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgewright.bundle.native_threads import Pool

COUNTERS = 64
LIMIT_S = 60.0


class Memory:
    """An arena of counters."""

    def __init__(self) -> None:
        self.counters = (ctypes.c_uint32 * (COUNTERS // 4))()
        self.arena = ctypes.c_void_p(ctypes.addressof(self.counters))


def waiting(memory: Memory, fails: Callable[[int], bool], seen: list[int]) -> Callable[..., None]:
    """A call whose parts wait for each other as those of a library do."""

    def run_part(_in: Any, _out: Any, _arena: Any, part: ctypes.c_uint32, parts: ctypes.c_uint32) -> None:
        seen.append(part.value)
        if fails(part.value):
            raise MemoryError
        memory.counters[part.value] = 1
        deadline = time.monotonic() + LIMIT_S
        while not all(memory.counters[other] >= 1 for other in range(parts.value)):
            assert time.monotonic() < deadline
            time.sleep(0.0001)

    return run_part


def never(_part: int) -> bool:
    return False


def native_threads() -> int:
    return sum(thread.name.startswith("edgewright-native") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_every_part_is_called_once(threads: int) -> None:
    pool, memory = Pool(threads), Memory()
    for _ in range(50):
        seen: list[int] = []
        assert pool.call(waiting(memory, never, seen), (None, None), memory.arena, COUNTERS)
        assert sorted(seen) == list(range(threads))
    pool.close()


@pytest.mark.parametrize("bad", [1, 2])
def test_a_thread_that_fails_lets_the_others_go_and_serves_again(bad: int) -> None:
    pool, memory = Pool(3), Memory()
    seen: list[int] = []
    assert not pool.call(waiting(memory, lambda part: part == bad, seen), (None, None), memory.arena, COUNTERS)
    assert pool.call(waiting(memory, never, seen), (None, None), memory.arena, COUNTERS)
    pool.close()


def test_an_interrupted_caller_leaves_no_thread_inside() -> None:
    pool, memory = Pool(3), Memory()
    inside = threading.Semaphore(0)

    def run_part(_in: Any, _out: Any, _arena: Any, part: ctypes.c_uint32, _parts: Any) -> None:
        if part.value == 0:
            raise KeyboardInterrupt
        while memory.counters[0] == 0:
            time.sleep(0.0001)
        inside.release()

    with pytest.raises(KeyboardInterrupt):
        pool.call(run_part, (None, None), memory.arena, COUNTERS)
    assert inside.acquire(blocking=False)
    assert inside.acquire(blocking=False)
    assert pool.call(waiting(memory, never, []), (None, None), memory.arena, COUNTERS)
    pool.close()


def test_a_second_call_at_the_same_time_is_not_shared() -> None:
    pool, memory, other = Pool(2), Memory(), Memory()
    found: list[bool] = []

    def run_part(_in: Any, _out: Any, _arena: Any, part: ctypes.c_uint32, _parts: Any) -> None:
        if part.value == 0:
            found.append(pool.call(waiting(other, never, []), (None, None), other.arena, COUNTERS))

    assert pool.call(run_part, (None, None), memory.arena, COUNTERS)
    assert found == [False]
    pool.close()


def test_two_hundred_pools_leave_no_thread() -> None:
    gc.collect()
    before = native_threads()  # pools of tests before, whose threads may end meanwhile
    for turn in range(200):
        pool = Pool(3)
        if turn % 2:
            pool.close()
        del pool
    gc.collect()
    deadline = time.monotonic() + LIMIT_S
    while native_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert native_threads() <= before


def test_after_a_fork_calls_are_not_shared() -> None:
    pool, memory = Pool(2), Memory()
    child = os.fork()
    if child == 0:
        shared = pool.call(waiting(memory, never, []), (None, None), memory.arena, COUNTERS)
        os._exit(int(shared))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.close()
