"""Jobs of all kinds, in any order, over engines that fail and clients that go: each is answered exactly once.

Nothing stays under way, and a model that is retired in the middle answers what it took.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle.manifest import Manifest, StatePair
from edgewright.bundle.reference import Reference
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.loading import LoadedModel
from edgewright.runtime.server.pipeline import Job, Outcome, SequenceStep
from edgewright.runtime.server.recorder import CounterStore
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.served_model import ServedModel
from edgewright.runtime.serving import ModelSettings
from tests.runtime.fuzzing import fuzz
from tests.runtime.server.schedule.engines_in_memory import MemoryEngine, Tensors, job_of, manifest_of, tensor
from tests.runtime.small_bundle import digits_bundle

PLAIN = ((tensor("x", -1, 2),), (tensor("y", -1, 2),), ())
WITH_STATE = (
    (tensor("x", -1, 2), tensor("before", -1, 2)),
    (tensor("y", -1, 2), tensor("after", -1, 2)),
    (StatePair(input="before", output="after"),),
)
NAMES = [None, "a", "b", "c"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return digits_bundle(tmp_path_factory.mktemp("digits") / "digits-1").manifest


class Wild:
    """A model whose engine fails now and then, and clients who do as they like."""

    def __init__(self, chance: random.Random, manifest: Manifest, folder: Path) -> None:
        self.chance = chance
        self.stateful = chance.random() < 0.5
        p50_s = chance.choice([1e-6, 1e-4, 0.5])
        settings = ModelSettings(
            queue_jobs=chance.choice([1, 3, 1000]), max_sequences=chance.choice([1, 2, 1000]), sequence_idle_s=60.0
        )
        shaped = manifest_of(manifest, *(WITH_STATE if self.stateful else PLAIN))
        loaded = LoadedModel(shaped, MemoryEngine(self.run), Reference(histograms=()), "sha256:r", p50_s, 0.1, ())
        self.model = ServedModel(
            loaded,
            bundle="sha256:b",
            store=CounterStore(folder, "boot", f"{chance.randrange(2**60)}", 60),
            limits=DEFAULT_LIMITS,
            settings=settings,
        )
        self.jobs: list[Job] = []
        self.taken = 0
        self.outcomes: list[Outcome] = []
        self.answers: dict[int, int] = {}

    def run(self, inputs: Tensors) -> dict[str, Any]:
        if self.chance.random() < 0.1:
            raise MemoryError("the engine fails")
        if self.chance.random() < 0.05:
            time.sleep(0.001)
        total = inputs["x"] + inputs["before"] if self.stateful else inputs["x"] * 2
        return {"y": total, "after": total.copy()} if self.stateful else {"y": total}

    def a_job(self) -> Job:
        chance = self.chance
        name = chance.choice(NAMES) if self.stateful else None
        step = None if name is None else SequenceStep(name, chance.random() < 0.4, chance.random() < 0.3)
        now_ns = time.perf_counter_ns()
        deadline_ns = chance.choice([None, None, now_ns - 1, now_ns + 100_000, now_ns + 10**9])
        return job_of(
            chance.random(), chance.choice([1, 1, 2]), sequence=step, priority=chance.choice([0, 0, 1, 7]),
            deadline_ns=deadline_ns, cancelled=chance.random() < 0.05,
        )  # fmt: skip

    def submit(self) -> None:
        job = self.a_job()
        number = len(self.jobs)
        self.jobs.append(job)

        def deliver(outcome: Outcome) -> None:
            self.answers[number] = self.answers.get(number, 0) + 1
            self.check(job, outcome)
            if self.chance.random() < 0.1 and len(self.jobs) < 300:
                self.submit()  # a client that asks again as soon as it is answered

        before = self.answers.get(number, 0)
        try:
            self.model.submit(job, deliver)
        except Refusal:
            assert self.answers.get(number, 0) == before == 0, "refused and answered"
            self.answers[number] = 1

    def check(self, job: Job, outcome: Outcome) -> None:
        assert (outcome.outputs is None) == (outcome.refusal is not None)
        if outcome.outputs is not None:
            assert set(outcome.outputs) == {"y"}
            assert outcome.outputs["y"].shape == (job.rows, 2)
            if not self.stateful:
                np.testing.assert_array_equal(outcome.outputs["y"], job.inputs["x"] * 2)
        assert set(job.inputs) == {"x"}, "state is not the client's"

    async def story(self) -> None:
        for _ in range(self.chance.randrange(1, 60)):
            match self.chance.randrange(8):
                case 0:
                    await asyncio.sleep(0)
                case 1 if self.jobs:
                    self.chance.choice(self.jobs).cancel()
                case 2:
                    self.model.tick(time.time())
                case 3:
                    self.model.explain()
                case 4 if self.chance.random() < 0.2:
                    await asyncio.sleep(0.002)
                case 5:
                    self.model.cap_batch_rows(self.chance.choice([None, 1, 2]))
                case _:
                    self.submit()
        async with asyncio.timeout(60):
            await self.model.retire()
        assert set(self.answers) == set(range(len(self.jobs)))
        assert set(self.answers.values()) <= {1}, "answered twice"
        assert (self.model.in_flight, self.model.scheduler.pending) == (0, 0)


def test_every_job_is_answered_exactly_once(manifest: Manifest, tmp_path: Path) -> None:
    def check(chance: random.Random) -> None:
        async def story() -> None:
            complaints: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
            await Wild(chance, manifest, tmp_path).story()
            assert complaints == []

        asyncio.run(story())
        for file in tmp_path.iterdir():
            file.unlink()

    fuzz(check)
