"""Batches: each job gets its own rows back, and what one of them breaks is only its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.bundle.manifest import Manifest
from edgewright.runtime.engines.protocol import WorkerLost
from edgewright.runtime.server.schedule.execution import BatchTimes
from edgewright.runtime.server.schedule.queue import Waiting
from edgewright.runtime.server.schedule.runner import Runner
from tests.runtime.server.schedule.engines_in_memory import (
    FramedEngine,
    MemoryEngine,
    Tensors,
    doubled,
    job_of,
    manifest_of,
    tensor,
)
from tests.runtime.small_bundle import SmallBundle


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    from tests.runtime.small_bundle import digits_bundle

    return digits_bundle(tmp_path_factory.mktemp("digits") / "digits-1").manifest


def batch_of(*rows: int, width: int = 2) -> list[Waiting]:
    return [Waiting(job_of(number, each, width), lambda _: None, 0, None) for number, each in enumerate(rows, 1)]


@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=10), framed=st.booleans())
def test_each_job_gets_its_rows(template: Manifest, rows: list[int], framed: bool) -> None:
    engine, counted = FramedEngine() if framed else MemoryEngine(), list[BatchTimes]()
    results = Runner(engine, manifest_of(template)).run_batch(batch_of(*rows), counted.append)
    assert engine.calls == [sum(rows)]
    for number, (result, each) in enumerate(zip(results, rows, strict=True), 1):
        assert result.outputs is not None
        assert result.outputs["y"].shape == (each, 2)
        assert (result.outputs["y"] == 2 * number).all()
    assert sum(times.rows for times in counted) in {sum(rows), 1}
    assert len(counted) == 1


def test_a_job_alone_is_not_copied(template: Manifest) -> None:
    seen: list[Tensors] = []

    def keep(inputs: Tensors) -> dict[str, NDArray[Any]]:
        seen.append(inputs)
        return doubled(inputs)

    (waiting,) = batch_of(3)
    Runner(MemoryEngine(keep), manifest_of(template)).run_batch([waiting], lambda _: None)
    assert seen[0] is waiting.job.inputs


def test_frames_are_made_once_for_a_size_and_outputs_outlive_the_next_run(template: Manifest) -> None:
    engine = FramedEngine()
    runner = Runner(engine, manifest_of(template))
    (first, _) = runner.run_batch(batch_of(1, 2), lambda _: None)
    runner.run_batch([*batch_of(5, 1, 1)[1:], *batch_of(1)], lambda _: None)
    assert engine.frames == [3]
    assert first.outputs is not None
    assert (first.outputs["y"] == 2).all()


def test_large_batches_are_joined_without_frames(template: Manifest) -> None:
    manifest = manifest_of(template, (tensor("x", -1, 2_000_000),), (tensor("y", -1, 2_000_000),))
    engine = FramedEngine()
    results = Runner(engine, manifest).run_batch(batch_of(1, 1, width=2_000_000), lambda _: None)
    assert engine.frames == []
    assert all(result.outputs is not None for result in results)


def test_one_job_that_the_engine_refuses_fails_alone(template: Manifest) -> None:
    def picky(inputs: Tensors) -> dict[str, NDArray[Any]]:
        if (inputs["x"] == 2).any():
            raise ValueError("a two")
        return doubled(inputs)

    counted: list[BatchTimes] = []
    results = Runner(MemoryEngine(picky), manifest_of(template)).run_batch(batch_of(1, 1, 1), counted.append)
    assert [result.outputs is None for result in results] == [False, True, False]
    assert isinstance(results[1].error, ValueError)
    assert [times.rows for times in counted] == [1, 1, 1]


def test_a_worker_that_is_lost_is_not_asked_again(template: Manifest) -> None:
    def lost(_: Tensors) -> dict[str, NDArray[Any]]:
        raise WorkerLost("killed", executing=True)

    engine = MemoryEngine(lost)
    results = Runner(engine, manifest_of(template)).run_batch(batch_of(1, 1, 1), lambda _: None)
    assert len(engine.calls) == 1
    assert all(isinstance(result.error, WorkerLost) for result in results)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros((2, 2), np.int32)])
def test_outputs_of_another_datatype_fail(template: Manifest, wrong: NDArray[Any]) -> None:
    runner = Runner(MemoryEngine(lambda _: {"y": wrong}), manifest_of(template))
    for batch in (batch_of(1), batch_of(1, 1)):
        assert all(isinstance(result.error, TypeError) for result in runner.run_batch(batch, lambda _: None))


def test_an_engine_that_gives_too_few_rows_for_a_batch_is_asked_one_by_one(template: Manifest) -> None:
    engine = MemoryEngine(lambda inputs: {"y": inputs["x"][:1] * 2})
    results = Runner(engine, manifest_of(template)).run_batch(batch_of(1, 1), lambda _: None)
    assert engine.calls == [2, 1, 1]
    assert [float(result.outputs["y"][0, 0]) for result in results if result.outputs is not None] == [2, 4]


def test_rows_of_different_shapes_are_different_calls(template: Manifest) -> None:
    manifest = manifest_of(template, (tensor("x", -1, -1),), (tensor("y", -1, -1),))
    engine = MemoryEngine()
    batch = [*batch_of(1, 1), *batch_of(1, width=5), *batch_of(1)]
    results = Runner(engine, manifest).run_batch(batch, lambda _: None)
    assert sorted(engine.calls) == [1, 3]
    shapes = [result.outputs["y"].shape for result in results if result.outputs is not None]
    assert shapes == [(1, 2), (1, 2), (1, 5), (1, 2)]


def test_what_cannot_share_a_call(template: Manifest) -> None:
    assert Runner(MemoryEngine(), manifest_of(template)).batchable
    for inputs, outputs in (
        ((tensor("x", 1, 2),), (tensor("y", -1, 2),)),
        ((tensor("x", -1, 2), tensor("scale", 2)), (tensor("y", -1, 2),)),
        ((tensor("x", -1, 2),), (tensor("y", -1, 2), tensor("mean", 2))),
        ((tensor("x"),), (tensor("y"),)),
    ):
        assert not Runner(MemoryEngine(), manifest_of(template, inputs, outputs)).batchable


class CountedLane:
    """Says whether an execution is under way."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        self.ended += 1


def test_every_call_is_noted_also_one_that_fails(template: Manifest) -> None:
    lane = CountedLane()

    def fail(_: Tensors) -> dict[str, NDArray[Any]]:
        assert lane.begun == lane.ended + 1
        raise ValueError

    Runner(MemoryEngine(fail), manifest_of(template), lane).run_batch(batch_of(1, 1), lambda _: None)
    assert (lane.begun, lane.ended) == (3, 3)


def test_real_engines_batch_as_they_run_alone(digits_like_bundle: SmallBundle) -> None:
    from edgewright.runtime.engines.onnxruntime import ENGINE
    from edgewright.runtime.engines.protocol import LoadOptions

    bundle = digits_like_bundle
    instance = ENGINE.load(bundle.directory, bundle.manifest, LoadOptions())
    rows = np.random.default_rng(0).uniform(0, 1, (7, 64)).astype(np.float32)
    batch = [Waiting(job_of(0), lambda _: None, 0, None) for _ in range(3)]
    for waiting, part in zip(batch, (rows[:1], rows[1:5], rows[5:]), strict=True):
        waiting.job.inputs, waiting.job.rows = {"image": part}, len(part)
    runner = Runner(instance, bundle.manifest)
    for _ in range(2):
        results = runner.run_batch(batch, lambda _: None)
        joined = np.concatenate([result.outputs["scores"] for result in results if result.outputs is not None])
        np.testing.assert_allclose(joined, bundle.run({"image": rows})["scores"], rtol=1e-5)
    instance.close()
