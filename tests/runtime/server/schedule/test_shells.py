"""The scheduler on a real event loop and in a real thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.bundle.manifest import Manifest
from edgewright.runtime.server.pipeline import Job
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.schedule.adaptive import AdaptiveScheduler, scheduler_for
from edgewright.runtime.server.schedule.execution import BatchTimes, Execution
from edgewright.runtime.serving import ModelSettings
from tests.runtime.server.schedule.engines_in_memory import MemoryEngine, Tensors, doubled, job_of, manifest_of, tensor

FAST = ((1, 2e-5), (8, 3e-5), (32, 5e-5))
JOINED = tuple((rows, 1e-4) for rows in (1, 2, 3, 4))
"""All that wait are one batch, however slow the machine is: what is measured moves a known size by a tenth at most."""
SLOW = ((1, 2e-3), (8, 2.5e-3), (32, 3e-3))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    from tests.runtime.small_bundle import digits_bundle

    return digits_bundle(tmp_path_factory.mktemp("digits") / "digits-1").manifest


class Desk:
    """A scheduler, and what it delivered."""

    def __init__(self, template: Manifest, engine: MemoryEngine, points: Any, **settings: Any) -> None:
        self.engine = engine
        self.executed: list[BatchTimes] = []
        self.scheduler: AdaptiveScheduler = scheduler_for(
            engine, manifest_of(template), points, ModelSettings(**settings), self.executed.append, ended=self._count
        )
        self.ended: list[tuple[Job, Execution]] = []
        self.counted: list[tuple[int, int]] = []
        """Jobs that were counted together, and how many had been told before."""
        self.broken: Exception | None = None

    def ask(self, job: Job) -> Job:
        job.received_ns = time.perf_counter_ns()
        self.scheduler.submit(job, lambda execution: self.ended.append((job, execution)))
        return job

    def _count(self, jobs: Sequence[Job], executions: Sequence[Execution]) -> None:
        if self.broken is not None:
            raise self.broken
        assert len(jobs) == len(executions)
        self.counted.append((len(jobs), len(self.ended)))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.ended) < count:  # noqa: ASYNC110 - what is waited for happens in plain callbacks
                await asyncio.sleep(0.001)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


class Gate:
    """An engine's function that waits until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()

    def __call__(self, inputs: Tensors) -> dict[str, Any]:
        self.entered.set()
        assert self.open.wait(60)
        return doubled(inputs)


def test_what_arrives_in_one_turn_of_the_loop_is_one_batch(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), FAST)
        assert desk.scheduler.inline
        for number in range(5):
            desk.ask(job_of(number))
        assert desk.ended == []
        assert desk.scheduler.pending == 5
        await asyncio.sleep(0)
        assert desk.engine.calls == [5]
        assert [float(each.outputs["y"][0, 0]) for _, each in desk.ended if each.outputs] == [0, 2, 4, 6, 8]
        assert {each.batch_rows for _, each in desk.ended} == {5}
        assert [times.rows for times in desk.executed] == [5]
        assert desk.engine.threads == {"MainThread"}
        assert desk.scheduler.pending == 0
        desk.scheduler.close()

    run(scenario)


@pytest.mark.parametrize("points", [FAST, SLOW])
def test_a_batch_is_counted_before_the_first_of_it_is_told(template: Manifest, points: Any) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), points)
        for number in range(5):
            desk.ask(job_of(number))
        await desk.until(5)
        before = 0
        for jobs, told in desk.counted:
            assert told == before
            before += jobs
        assert before == 5
        desk.scheduler.close()

    run(scenario)


@pytest.mark.parametrize("points", [FAST, SLOW])
def test_what_cannot_be_counted_is_told_as_a_failure(template: Manifest, points: Any) -> None:
    """Acknowledged requests are never more than counted ones."""

    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), points)
        desk.broken = OSError("no room")
        desk.ask(job_of(1))
        desk.ask(job_of(2))
        await desk.until(2)
        assert [(each.outputs, each.error) for _, each in desk.ended] == [(None, desk.broken)] * 2
        desk.scheduler.close()

    run(scenario)


def test_what_a_job_asks_when_it_is_told_comes_behind_what_waits(template: Manifest) -> None:
    def slow(inputs: Tensors) -> dict[str, NDArray[Any]]:
        time.sleep(0.002)  # longer than a turn may take
        return doubled(inputs)

    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(slow), FAST)
        for number in range(40):
            desk.ask(job_of(number))

        def again(_: Execution) -> None:
            desk.ask(job_of(100))

        desk.scheduler.submit(job_of(99), again)
        await desk.until(41)
        assert [float(each.outputs["y"][0, 0]) for _, each in desk.ended if each.outputs] == [
            *range(0, 80, 2),
            200,
        ]
        desk.scheduler.close()

    run(scenario)


@pytest.mark.parametrize("deadline_ns", [None, 1])
def test_what_is_asked_by_who_is_told_that_it_is_dead_is_done_too(template: Manifest, deadline_ns: int | None) -> None:
    """It comes in the middle of a turn: neither it nor what the turn has left is lost, and none is done twice."""

    def slow(inputs: Tensors) -> dict[str, NDArray[Any]]:
        time.sleep(0.002)  # longer than a turn may take
        return doubled(inputs)

    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(slow), FAST)
        dead = job_of(99, deadline_ns=deadline_ns)
        if deadline_ns is None:
            dead.cancel()

        def again(_: Execution) -> None:
            desk.ask(job_of(100))
            desk.ask(job_of(101))

        desk.scheduler.submit(dead, again)
        for number in range(40):
            desk.ask(job_of(number))
        await desk.until(42)
        await asyncio.sleep(0)
        told = sorted(float(each.outputs["y"][0, 0]) for _, each in desk.ended if each.outputs)
        assert told == [*range(0, 80, 2), 200, 202]
        assert desk.scheduler.pending == 0
        desk.scheduler.close()

    run(scenario)


def test_who_comes_in_each_turn_does_not_keep_back_who_is_in_the_queue(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), FAST)
        desk.ask(job_of(0))
        desk.ask(job_of(1, rows=2))  # not one of those that may simply go behind another: both are in the queue
        for number in range(2, 12):
            desk.ask(job_of(number))
            await asyncio.sleep(0)
        await desk.until(12)
        assert [float(job.inputs["x"][0, 0]) for job, _ in desk.ended] == list(range(12))
        desk.scheduler.close()

    run(scenario)


def test_whoever_comes_a_moment_late_shares_the_batch_of_those_who_were_answered_with_it(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), JOINED)
        for number in range(4):
            desk.ask(job_of(number))
        await asyncio.sleep(0)
        for number in range(3):
            desk.ask(job_of(number))
        await asyncio.sleep(0)
        desk.ask(job_of(3))  # the last of the four
        await asyncio.sleep(0)
        assert desk.engine.calls == [4, 4]
        for number in range(3):  # one of them has gone: the others wait for it for a look at the sockets, and only once
            desk.ask(job_of(number))
        await asyncio.sleep(0)
        assert desk.engine.calls == [4, 4]
        await asyncio.sleep(0)
        assert desk.engine.calls == [4, 4, 3]
        desk.ask(job_of(1))
        desk.ask(job_of(2))
        desk.ask(job_of(3))
        await asyncio.sleep(0)
        assert desk.engine.calls == [4, 4, 3, 3]
        desk.scheduler.close()

    run(scenario)


def test_between_batches_the_loop_gets_its_turn(template: Manifest) -> None:
    def slow(inputs: Tensors) -> dict[str, NDArray[Any]]:
        time.sleep(0.002)  # longer than a turn may take
        return doubled(inputs)

    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(slow), FAST)
        for _ in range(100):
            desk.ask(job_of(1))
        turns = []
        while len(desk.ended) < 100:
            await asyncio.sleep(0)
            turns.append(len(desk.ended))
        assert turns == [32, 64, 96, 100]

    run(scenario)


@pytest.mark.parametrize("points", [FAST, SLOW])
def test_the_dead_do_not_run_and_are_told(template: Manifest, points: Any) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), points)
        gone = job_of(1)
        gone.cancel()
        desk.ask(gone)
        desk.ask(job_of(2, deadline_ns=1))
        alive = desk.ask(job_of(3))
        await desk.until(3)
        told = {id(job): execution for job, execution in desk.ended}
        assert told[id(alive)].outputs is not None
        refusals = sorted(each.refusal.status for each in told.values() if each.refusal is not None)
        assert refusals == [499, 504]
        assert sum(desk.engine.calls) == 1
        explained = desk.scheduler.explain()
        assert (explained["expired"], explained["cancelled"]) == (1, 1)
        desk.scheduler.close()

    run(scenario)


def test_a_lone_dead_job_does_not_run_either(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), FAST)
        desk.ask(job_of(2, deadline_ns=1))
        await desk.until(1)
        assert desk.engine.calls == []

    run(scenario)


def test_while_the_engine_is_busy_jobs_gather_to_a_batch(template: Manifest) -> None:
    async def scenario() -> None:
        gate = Gate()
        desk = Desk(template, MemoryEngine(gate), SLOW)
        assert not desk.scheduler.inline
        desk.ask(job_of(0))
        await asyncio.to_thread(gate.entered.wait, 60)
        for number in range(1, 8):
            desk.ask(job_of(number))
        assert desk.scheduler.pending == 8
        gate.open.set()
        await desk.until(8)
        assert desk.engine.calls == [1, 7]
        assert desk.engine.threads == {"inference"}
        assert [float(each.outputs["y"][0, 0]) for _, each in desk.ended if each.outputs] == [0, 2, 4, 6, 8, 10, 12, 14]
        assert desk.scheduler.pending == 0
        desk.scheduler.close()

    run(scenario)


def test_a_deadline_is_answered_while_the_engine_is_busy(template: Manifest) -> None:
    async def scenario() -> None:
        gate = Gate()
        desk = Desk(template, MemoryEngine(gate), SLOW, timeout_ms=300)
        desk.ask(job_of(0))
        await asyncio.to_thread(gate.entered.wait, 60)
        desk.ask(job_of(1))
        now_ns = time.perf_counter_ns()
        desk.ask(job_of(2, deadline_ns=now_ns + 50_000_000))
        await desk.until(2)
        assert [execution.refusal.status for _, execution in desk.ended if execution.refusal] == [504, 504]
        assert [float(job.inputs["x"][0, 0]) for job, _ in desk.ended] == [2, 1], "each when its time is over"
        gate.open.set()
        await desk.until(3)
        assert desk.ended[2][1].outputs is not None, "who had begun is answered"
        desk.scheduler.close()

    run(scenario)


def test_a_deadline_is_answered_in_time_though_another_was_taken_first(template: Manifest) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set()
        desk = Desk(template, MemoryEngine(gate), ((1, 2e-3),))
        desk.ask(job_of(0))
        await desk.until(1)  # the thread is there, and asleep
        gate.open.clear()
        patience_s = sys.getswitchinterval()
        sys.setswitchinterval(10)  # both are in the queue before the thread looks into it
        try:
            desk.ask(job_of(1, priority=4, deadline_ns=time.perf_counter_ns() + 50_000_000))
            desk.ask(job_of(2, priority=1))
        finally:
            sys.setswitchinterval(patience_s)
        await desk.until(2)
        assert desk.ended[1][1].refusal is not None
        assert desk.ended[1][1].refusal.status == 504
        gate.open.set()
        await desk.until(3)
        desk.scheduler.close()

    run(scenario)


def test_without_a_thread_to_have_nobody_is_kept_waiting(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), SLOW)
        usual_bytes = threading.stack_size(1 << 46)  # no address space has room for it
        try:
            with pytest.raises(Refusal, match="no thread") as caught:
                desk.ask(job_of(1))
        finally:
            threading.stack_size(usual_bytes)
        assert caught.value.status == 503
        assert desk.scheduler.pending == 0
        desk.ask(job_of(1))
        await desk.until(1)
        desk.scheduler.close()

    run(scenario)


def test_an_engine_that_got_slow_leaves_the_loop_and_comes_back(template: Manifest) -> None:
    async def scenario() -> None:
        slow = True

        def varying(inputs: Tensors) -> dict[str, Any]:
            if slow:
                time.sleep(0.001)
            return doubled(inputs)

        desk = Desk(template, MemoryEngine(varying), ((1, 1e-4),))
        for count in range(1, 60):
            desk.ask(job_of(1))
            await desk.until(count)
        assert not desk.scheduler.inline
        assert "inference" in desk.engine.threads
        assert desk.scheduler.explain()["runs"] == "in a thread"
        slow = False
        for count in range(60, 400):
            desk.ask(job_of(1))
            await desk.until(count)
            if desk.scheduler.inline:
                break
        assert desk.scheduler.inline
        desk.scheduler.close()

    run(scenario)


def test_an_instance_that_waits_for_a_process_never_runs_on_the_loop(template: Manifest) -> None:
    class Waits(MemoryEngine):
        blocking = True

    async def scenario() -> None:
        desk = Desk(template, Waits(), FAST)
        desk.ask(job_of(1))
        await desk.until(1)
        assert desk.engine.threads == {"inference"}
        desk.scheduler.close()

    run(scenario)


@pytest.mark.parametrize("points", [FAST, SLOW])
def test_who_cannot_take_an_outcome_takes_none_from_others(template: Manifest, points: Any) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), points)

        def broken(_: Execution) -> None:
            raise RuntimeError("the connection is gone")

        desk.scheduler.submit(job_of(0), broken)
        desk.ask(job_of(1))
        await desk.until(1)
        assert desk.scheduler.pending == 0
        desk.scheduler.close()

    run(scenario)


@pytest.mark.parametrize("points", [FAST, SLOW])
def test_bounds_refuse_and_the_first_of_a_turn_is_counted(template: Manifest, points: Any) -> None:
    async def scenario() -> None:
        gate = Gate()
        gate.open.set() if points is FAST else None
        desk = Desk(template, MemoryEngine(gate), points, queue_jobs=3)
        if points is SLOW:
            desk.ask(job_of(0))
            await asyncio.to_thread(gate.entered.wait, 60)
        for _ in range(3):
            desk.ask(job_of(1))
        with pytest.raises(Refusal) as caught:
            desk.ask(job_of(1))
        assert caught.value.status == 503
        gate.open.set()
        await desk.until(3)
        assert desk.scheduler.explain()["shed"] == 1
        desk.scheduler.close()

    run(scenario)


def test_a_thousand_jobs_from_many_tasks_all_end_right(template: Manifest) -> None:
    async def scenario() -> None:
        desk = Desk(template, MemoryEngine(), SLOW, queue_jobs=10_000)
        for number in range(1000):
            desk.ask(job_of(number, rows=1 + number % 3))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await desk.until(1000)
        for job, execution in desk.ended:
            assert execution.outputs is not None
            np.testing.assert_array_equal(execution.outputs["y"], job.inputs["x"] * 2)
        assert max(desk.engine.calls) <= 32
        assert sum(times.rows for times in desk.executed) == sum(job.rows for job, _ in desk.ended)
        desk.scheduler.close()

    run(scenario)


def test_a_fixed_batch_is_one_call_whatever_its_rows(template: Manifest) -> None:
    async def scenario() -> None:
        engine, ended = MemoryEngine(), list[Execution]()
        fixed = manifest_of(template, (tensor("x", 8, 2),), (tensor("y", 8, 2),))
        scheduler = scheduler_for(engine, fixed, ((1, 1e-4),), ModelSettings(), lambda _: None)
        for _ in range(2):
            scheduler.submit(job_of(1, rows=8), ended.append)
        async with asyncio.timeout(60):
            while len(ended) < 2:  # noqa: ASYNC110 - what is waited for happens in plain callbacks
                await asyncio.sleep(0)
        assert engine.calls == [8, 8]
        assert engine.threads == {"MainThread"}, "0.1 ms is below a hop"
        scheduler.close()

    asyncio.run(scenario())
