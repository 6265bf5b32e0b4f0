"""Implicit state: what a step leaves is what the next one gets, whoever else is served in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle.manifest import Manifest, StatePair
from edgewright.runtime.server.pipeline import Job, SequenceStep
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.schedule.execution import Deliver, Execution
from edgewright.runtime.server.sequences import Sequences, client_specs
from edgewright.runtime.serving import ModelSettings
from tests.runtime.server.schedule.engines_in_memory import MemoryEngine, Tensors, job_of, manifest_of, tensor

SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A model that adds what it is given to its state, and says the sum."""
    from tests.runtime.small_bundle import digits_bundle

    return manifest_of(
        digits_bundle(tmp_path_factory.mktemp("digits") / "digits-1").manifest,
        (tensor("x", -1, 2), tensor("before", -1, 2)),
        (tensor("y", -1, 2), tensor("after", -1, 2)),
        (StatePair(input="before", output="after"),),
    )


def adding(inputs: Tensors) -> dict[str, Any]:
    total = inputs["x"] + inputs["before"]
    return {"y": total, "after": total.copy()}


class Steps:
    """A scheduler that runs jobs when it is told to."""

    inline = True

    def __init__(self) -> None:
        self.jobs: list[tuple[Job, Deliver]] = []
        self.full = False
        self.broken = 0
        """So many of the next jobs end in an error of ours."""

    @property
    def pending(self) -> int:
        return len(self.jobs)

    def submit(self, job: Job, deliver: Deliver) -> None:
        if self.full:
            raise Refusal(503, "full")
        if self.broken:
            self.broken -= 1
            raise MemoryError
        self.jobs.append((job, deliver))

    def turn_away(self, rows: int) -> Refusal | None:
        return Refusal(503, f"{rows}") if self.full else None

    def explain(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing."""

    def run(self, end: Callable[[Job], Execution] = lambda job: Execution(adding(job.inputs))) -> int:
        """Run everything that waits; returns how many that was."""
        jobs, self.jobs = self.jobs, []
        for job, deliver in jobs:
            deliver(end(job))
        return len(jobs)


class Desk:
    """Sequences over `Steps`."""

    def __init__(self, manifest: Manifest, steps: Steps | None = None, **changes: Any) -> None:
        self.now_ns = 0
        self.steps = steps or Steps()
        self.sequences = Sequences(self.steps, manifest, ModelSettings(**changes), lambda: self.now_ns)
        self.answers: list[float | int] = []

    def ask(self, name: str | None, value: float = 1, *, start: bool = False, end: bool = False, rows: int = 1) -> Job:
        step = None if name is None else SequenceStep(name, start, end)
        job = job_of(value, rows, sequence=step)
        self.sequences.submit(job, self.take)
        return job

    def take(self, execution: Execution) -> None:
        if execution.outputs is not None:
            assert set(execution.outputs) == {"y"}, "state is not told"
            self.answers.append(float(execution.outputs["y"][0, 0]))
        else:
            self.answers.append(execution.refusal.status if execution.refusal else -1)

    def run(self) -> list[float | int]:
        while self.steps.run():
            pass
        answers, self.answers = self.answers, []
        return answers


def test_a_sequence_keeps_its_state_from_start_to_end(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask("a", 1, start=True)
    desk.ask("a", 2)
    desk.ask("a", 3, end=True)
    assert desk.sequences.pending == 3
    assert desk.run() == [1, 3, 6]
    with pytest.raises(Refusal, match="sequence_start") as caught:
        desk.ask("a", 4)
    assert caught.value.status == 400
    assert desk.sequences.explain() == {"sequences": 0, "steps_in_line": 0}


def test_start_begins_anew(manifest: Manifest) -> None:
    desk = Desk(manifest)
    for start in (True, False, True, False):
        desk.ask("a", 1, start=start)
    assert desk.run() == [1, 2, 1, 2]


def test_a_job_without_a_sequence_has_a_state_of_its_own(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask(None, 1)
    desk.ask(None, 1)
    assert desk.run() == [1, 1]


def test_steps_of_one_sequence_run_in_order_and_those_of_several_together(manifest: Manifest) -> None:
    desk = Desk(manifest)
    for name in "abc":
        for value in (1, 2):
            desk.ask(name, value, start=value == 1)
    assert desk.steps.pending == 3, "the first of each"
    desk.steps.run()
    assert desk.steps.pending == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans()), max_size=40))
def test_any_mix_of_sequences_adds_up(manifest: Manifest, steps: list[tuple[str, int, bool]]) -> None:
    desk, sums = Desk(manifest), dict.fromkeys("abc", 0)
    told: dict[str, list[float]] = {name: [] for name in "abc"}
    expected: dict[str, list[float]] = {name: [] for name in "abc"}
    begun: set[str] = set()
    for name, value, run_now in steps:
        sums[name] += value
        expected[name].append(sums[name])
        job = job_of(value, sequence=SequenceStep(name, name not in begun, False))
        begun.add(name)
        desk.sequences.submit(job, lambda each, name=name: told[name].append(float(each.outputs["y"][0, 0])))  # type: ignore[misc]
        if run_now:
            desk.steps.run()
    desk.run()
    assert told == expected


def test_what_is_looked_at_after_a_step_is_what_was_sent(manifest: Manifest) -> None:
    desk = Desk(manifest)
    job = desk.ask("a", start=True)
    desk.run()
    assert set(job.inputs) == {"x"}


def test_a_step_that_fails_or_expires_leaves_the_state_as_it_was(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask("a", 1, start=True)
    desk.run()
    desk.ask("a", 5)
    desk.steps.run(lambda _: Execution(None, ValueError()))
    desk.ask("a", 5)
    desk.steps.run(lambda _: Execution(None, None, Refusal(504, "late")))
    desk.ask("a", 2)
    assert desk.run() == [-1, 504, 3]


def test_a_first_step_that_fails_begins_no_sequence(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask("a", 1, start=True)
    desk.ask("a", 2)
    desk.steps.run(lambda _: Execution(None, ValueError()))
    assert desk.run() == [400, -1]
    desk.steps.full = True
    with pytest.raises(Refusal):
        desk.ask("b", start=True)
    assert desk.sequences.explain()["sequences"] == 0


def test_steps_behind_the_last_are_refused(manifest: Manifest) -> None:
    desk = Desk(manifest)
    for start, end in ((True, False), (False, True), (False, False), (True, False)):
        desk.ask("a", 1, start=start, end=end)
    assert sorted(desk.run()) == [1, 1, 2, 400]
    assert desk.sequences.explain()["sequences"] == 1


def test_rows_of_a_sequence_stay_the_same(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask("a", rows=2, start=True)
    desk.run()
    with pytest.raises(Refusal, match="2 rows") as caught:
        desk.ask("a", rows=3)
    assert caught.value.status == 400
    desk.ask("a", rows=2)
    assert desk.run() == [2]


def test_an_idle_sequence_is_forgotten_but_not_one_at_work(manifest: Manifest) -> None:
    desk = Desk(manifest, sequence_idle_s=10)
    desk.ask("idle", start=True)
    desk.run()
    desk.now_ns = 5 * SECOND_NS
    desk.ask("busy", start=True)
    desk.now_ns = 100 * SECOND_NS
    desk.sequences.forget_idle(desk.now_ns)
    assert desk.sequences.explain()["sequences"] == 1
    assert desk.run() == [1]
    with pytest.raises(Refusal):
        desk.ask("idle")


def test_beyond_the_bound_the_longest_unused_goes(manifest: Manifest) -> None:
    desk = Desk(manifest, max_sequences=2)
    for name in ("a", "b"):
        desk.ask(name, start=True)
    with pytest.raises(Refusal) as caught:
        desk.ask("c", start=True)
    assert caught.value.status == 503, "both are at work"
    desk.run()
    desk.ask("a", 1)
    desk.run()
    desk.ask("c", start=True)
    desk.run()
    with pytest.raises(Refusal) as caught:
        desk.ask("b")
    assert caught.value.status == 400
    desk.ask("a", 1)
    assert desk.run() == [3]


class AtOnce(Steps):
    """A scheduler that has run a job before `submit` returns."""

    def submit(self, job: Job, deliver: Deliver) -> None:
        super().submit(job, deliver)
        self.run()


def test_steps_may_be_over_before_submit_returns(manifest: Manifest) -> None:
    desk = Desk(manifest, steps=AtOnce())
    for start, end in ((True, False), (False, False), (False, True)):
        desk.ask("a", 1, start=start, end=end)
    assert desk.answers == [1, 2, 3]
    assert desk.sequences.explain() == {"sequences": 0, "steps_in_line": 0}


def test_a_client_that_cannot_take_its_answer_costs_no_other_theirs(manifest: Manifest) -> None:
    def broken(_: Execution) -> None:
        raise ConnectionError("gone")

    desk = Desk(manifest)
    desk.ask("a", 1, start=True, end=True)
    desk.sequences.submit(
        job_of(1, sequence=SequenceStep("a", start=False, end=False)), broken
    )  # is refused: behind the end
    desk.ask("a", 1, start=True)
    assert desk.run() == [1, 1]


def test_a_step_that_cannot_even_begin_costs_no_other_its_answer(manifest: Manifest) -> None:
    desk = Desk(manifest)
    desk.ask("a", 1, start=True)
    desk.ask("a", 2)
    desk.ask("a", 3)
    desk.steps.broken = 1
    assert desk.run() == [-1, 1, 4]
    desk.steps.broken = 1
    with pytest.raises(MemoryError):
        desk.ask("a", 1)
    desk.ask("a", 1)
    assert desk.run() == [5], "it is not taken for busy"


def test_who_asks_again_while_being_told_finds_a_sequence_of_its_own(manifest: Manifest) -> None:
    """A pipelined request comes while the answer of the one before it is written."""
    desk = Desk(manifest, max_sequences=1)

    def ask_another(execution: Execution) -> None:
        desk.take(execution)
        desk.ask("b", 7, start=True)

    desk.ask("a", 1, start=True, end=True)
    desk.sequences.submit(job_of(1, sequence=SequenceStep("a", start=False, end=False)), ask_another)
    assert desk.run() == [400, 1, 7]
    assert desk.sequences.explain()["sequences"] == 1


def test_lines_are_bounded_in_bytes(manifest: Manifest) -> None:
    desk = Desk(manifest, queue_bytes=20)
    desk.ask("a", start=True)
    desk.ask("a")  # 8 bytes
    desk.ask("a")
    with pytest.raises(Refusal, match="wait"):
        desk.ask("a")
    assert desk.run() == [1, 2, 3]
    desk.ask("a")
    desk.ask("a", rows=1)
    assert desk.run() == [4, 5], "room is given back"


def test_lines_are_bounded(manifest: Manifest) -> None:
    desk = Desk(manifest, queue_jobs=2)
    desk.ask("a", start=True)
    desk.ask("a")
    desk.ask("a")
    with pytest.raises(Refusal) as caught:
        desk.ask("a")
    assert caught.value.status == 503
    assert desk.run() == [1, 2, 3]


def test_clients_do_not_see_state(manifest: Manifest) -> None:
    inputs, outputs = client_specs(manifest)
    assert (list(inputs), list(outputs)) == (["x"], ["y"])


def test_sequences_share_batches_in_the_real_scheduler(manifest: Manifest) -> None:
    from edgewright.runtime.server.schedule.adaptive import scheduler_for

    async def scenario() -> None:
        engine, config = MemoryEngine(adding), ModelSettings()
        points = ((1, 2e-5), (32, 4e-5))
        inner = scheduler_for(engine, manifest, points, config, lambda _: None)
        sequences = Sequences(inner, manifest, config)
        totals: dict[str, list[float]] = {str(number): [] for number in range(8)}

        def keep(name: str) -> Deliver:
            def take(execution: Execution) -> None:
                assert execution.outputs is not None
                totals[name].append(float(execution.outputs["y"][0, 0]))

            return take

        for turn in range(4):
            for name in totals:
                step = SequenceStep(name, turn == 0, turn == 3)
                sequences.submit(Job({"x": np.ones((1, 2), np.float32)}, 1, 0, sequence=step), keep(name))
        async with asyncio.timeout(60):
            while sequences.pending:  # noqa: ASYNC110 - what is waited for happens in plain callbacks
                await asyncio.sleep(0)
        assert engine.calls == [8, 8, 8, 8]
        assert all(total == [1, 2, 3, 4] for total in totals.values())
        sequences.close()

    asyncio.run(scenario())
