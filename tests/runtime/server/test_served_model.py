"""A model in service over an engine in memory: whatever fails or waits stays the matter of one request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle.manifest import Manifest, StatePair
from edgewright.bundle.reference import Reference
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused
from edgewright.runtime.engines.versions import satisfies
from edgewright.runtime.server.drift import OBSERVED_ELEMENTS
from edgewright.runtime.server.http.messages import Request, Response
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.loading import LoadedModel
from edgewright.runtime.server.metrics.exposition import exposition
from edgewright.runtime.server.metrics.models import model_families
from edgewright.runtime.server.model_table import ModelTable
from edgewright.runtime.server.pipeline import Job, Outcome, SequenceStep
from edgewright.runtime.server.recorder import CounterStore
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.served_model import ServedModel
from edgewright.runtime.server.v2.rest import infer
from edgewright.runtime.telemetry.counters import read_counters
from edgewright.runtime.telemetry.records import WindowRecord
from tests.runtime.server.schedule.engines_in_memory import job_of, manifest_of, tensor
from tests.runtime.small_bundle import SmallBundle

Tensors = Mapping[str, Any]
INLINE_S, SLOW_S = 1e-5, 1.0
COUNTS = (("shed", 4), ("expired", 1), ("cancelled", 1))


class MemoryInstance:
    """An engine's instance whose `run` is a function."""

    def __init__(self, run: Callable[[Tensors], dict[str, Any]]) -> None:
        self._run = run
        self.threads: list[str] = []
        self.closed = False

    def run(self, inputs: Tensors) -> dict[str, Any]:
        assert not self.closed
        self.threads.append(threading.current_thread().name)
        return self._run(inputs)

    def close(self) -> None:
        self.closed = True


def uniform(inputs: Tensors) -> dict[str, Any]:
    return {"scores": np.full((len(inputs["image"]), 10), 0.1, np.float32)}


def fail(inputs: Tensors) -> dict[str, Any]:
    raise MemoryError(f"no room for {len(inputs)} tensors in /secret/place")


class Service:
    """A served model over an instance in memory."""

    def __init__(
        self, bundle: SmallBundle, run: Callable[[Tensors], dict[str, Any]], p50_s: float, **changes: Any
    ) -> None:
        self.instance = MemoryInstance(run)
        self.directory = bundle.directory.parent
        reference = changes.get("reference", Reference(histograms=()))
        loaded = LoadedModel(
            changes.get("manifest", bundle.manifest),
            self.instance,
            reference,
            "sha256:r",
            p50_s,
            0.1,
            changes.get("warm_up", ()),
        )
        store = CounterStore(self.directory, "boot", "run", 10**9)  # one window, whenever the test runs
        self.model = ServedModel(loaded, bundle=bundle.digest, store=store, limits=DEFAULT_LIMITS)
        self.answers: list[Response] = []

    def ask(self, rows: int = 1) -> None:
        tail = bytes(rows * 256)
        tensor = {
            "name": "image",
            "shape": [rows, 64],
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(tail)},
        }
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {b"inference-header-content-length": b"%d" % len(head)}
        request = Request(b"POST", b"/", headers, memoryview(head + tail), True, 1, 0)
        infer(self.model, request, self.answers.append, DEFAULT_LIMITS)

    @property
    def record(self) -> WindowRecord:
        (path,) = self.directory.glob("*.counters")
        return read_counters(path, writer_alive=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in plain callbacks
            await asyncio.sleep(0.001)


def test_a_fast_model_runs_on_the_loop_and_a_large_batch_of_it_does_not(digits_like_bundle: SmallBundle) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, INLINE_S)
        service.ask()
        await asyncio.sleep(0)
        assert len(service.answers) == 1, "it runs in the turn of the loop in which it came"
        service.ask(rows=1000)
        await asyncio.sleep(0)
        assert len(service.answers) == 1
        await until(lambda: len(service.answers) == 2)
        assert service.instance.threads == ["MainThread", "inference"]
        assert (service.record.requests, service.record.rows) == (2, 1001)
        await service.model.retire()

    asyncio.run(scenario())


def test_metrics_tell_what_ran_and_what_never_began(digits_like_bundle: SmallBundle) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, INLINE_S, warm_up=((1, INLINE_S), (32, 2 * INLINE_S)))
        gone, late = (Job({"image": np.zeros((1, 64), np.float32)}, 1, 0, deadline_ns=each) for each in (None, 1))
        gone.cancel()
        ended: list[Outcome] = []
        for job in (gone, late):
            service.model.submit(job, ended.append)
        for _ in range(3):
            service.ask()
        await until(lambda: len(service.answers) == 3 and len(ended) == 2)
        service.model.statistics.shed += 4
        lines = exposition(list(model_families([service.model]))).splitlines()
        label = f'{{model="{service.model.name}",version="1"}}'
        for name, value in (("rows", 3), ("executions", 1), *((f"{why}_requests", number) for why, number in COUNTS)):
            assert f"edgewright_{name}_total{label} {value}" in lines
        await service.model.retire()

    asyncio.run(scenario())


def test_a_job_that_cannot_even_be_queued_keeps_no_model_in_service(digits_like_bundle: SmallBundle) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, SLOW_S)
        nonsense: Any = {"image": None}
        with pytest.raises(AttributeError):
            service.model.submit(Job(nonsense, 1, 0), lambda _: None)
        assert service.model.in_flight == 0
        async with asyncio.timeout(60):
            await service.model.retire()

    asyncio.run(scenario())


@pytest.mark.parametrize("p50_s", [INLINE_S, SLOW_S])
def test_an_engine_that_fails_fails_one_request_and_tells_no_secrets(
    digits_like_bundle: SmallBundle, p50_s: float
) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, fail, p50_s)
        service.ask()
        await until(lambda: len(service.answers) == 1)
        assert service.answers[0].status == 500
        assert b"secret" not in bytes(service.answers[0].body[0])
        assert (service.record.requests, service.record.failures) == (1, 1)
        await service.model.retire()

    asyncio.run(scenario())


@pytest.mark.parametrize("p50_s", [INLINE_S, SLOW_S])
def test_outputs_that_cannot_be_written_fail_one_request(digits_like_bundle: SmallBundle, p50_s: float) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, lambda _: {"other": np.zeros(1)}, p50_s)
        service.ask()
        await until(lambda: len(service.answers) == 1)
        assert service.answers[0].status == 500
        assert service.record.failures == 1
        await service.model.retire()

    asyncio.run(scenario())


def test_an_observer_that_fails_is_counted_and_fails_no_request(digits_like_bundle: SmallBundle) -> None:
    class Broken:
        """Looks like a reference until it is used."""

        histograms = ()

    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, INLINE_S, reference=Broken())
        service.ask()
        await until(lambda: len(service.answers) == 1)
        assert service.answers[0].status == 200
        service.model.count_drift()
        assert service.model.statistics.observer_errors == 1
        assert service.record.requests == 1
        await service.model.retire()

    asyncio.run(scenario())


def test_the_observer_sees_a_bounded_part_of_a_large_batch(digits_like_bundle: SmallBundle) -> None:
    from edgewright.bundle.reference import read_reference

    reference = read_reference(digits_like_bundle.directory / "reference.cbor")
    rows = 3 * OBSERVED_ELEMENTS // 64

    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, SLOW_S, reference=reference)
        service.ask(rows)
        await until(lambda: len(service.answers) == 1)
        record = service.record
        assert record.rows == rows
        for histogram, counts in zip(reference.histograms, record.histograms, strict=True):
            assert sum(counts) == (rows // 3 if histogram.role == "input" else rows)
        await service.model.retire()

    asyncio.run(scenario())


def test_too_many_waiting_requests_are_told_to_come_again(digits_like_bundle: SmallBundle) -> None:
    gate = threading.Event()

    def wait(inputs: Tensors) -> dict[str, Any]:
        gate.wait(60)
        return uniform(inputs)

    async def scenario() -> None:
        service = Service(digits_like_bundle, wait, SLOW_S)
        service.ask()
        await until(lambda: len(service.instance.threads) == 1)
        for _ in range(1024):
            service.ask()
        with pytest.raises(Refusal) as caught:
            service.ask()
        assert caught.value.status == 503
        assert (b"retry-after", b"1024") in caught.value.headers, "a second for each that waits"
        assert service.model.in_flight == 1025
        assert service.model.statistics.shed == 1
        retiring = asyncio.ensure_future(service.model.retire())
        await asyncio.sleep(0.01)
        assert not service.instance.closed
        gate.set()
        await retiring
        assert service.instance.closed
        assert len(service.answers) == 1025
        assert service.record.requests == 1025
        assert service.record.closed

    asyncio.run(scenario())


def test_statistics_count_runs_and_requests_and_explain_says_why(digits_like_bundle: SmallBundle) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, INLINE_S, warm_up=((1, 1e-5), (8, 1.5e-5)))
        for _ in range(5):
            service.ask()
        await until(lambda: len(service.answers) == 5)
        service.ask()
        await until(lambda: len(service.answers) == 6)
        told = service.model.statistics.as_json("digits", "1")
        assert (told["execution_count"], told["inference_count"]) == (2, 6)
        assert told["inference_stats"]["success"]["count"] == told["inference_stats"]["compute_infer"]["count"] == 6
        assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in told["batch_stats"]] == [
            (1, 1),
            (5, 1),
        ]
        explained = service.model.explain()
        assert json.loads(json.dumps(explained)) == explained
        assert (explained["name"], explained["runs"]) == ("digits", "on the event loop")
        assert [batch["rows"] for batch in explained["batches"]] == [1, 5]
        await service.model.retire()

    asyncio.run(scenario())


def test_steps_of_sequences_are_counted_once(digits_like_bundle: SmallBundle) -> None:
    def adding(inputs: Tensors) -> dict[str, Any]:
        if inputs["x"][0, 0] < 0:
            raise MemoryError
        return {"y": inputs["x"] + inputs["before"], "after": inputs["x"] + inputs["before"]}

    async def scenario() -> None:
        manifest = manifest_of(
            digits_like_bundle.manifest,
            (tensor("x", -1, 2), tensor("before", -1, 2)),
            (tensor("y", -1, 2), tensor("after", -1, 2)),
            (StatePair(input="before", output="after"),),
        )
        service = Service(digits_like_bundle, adding, INLINE_S, manifest=manifest)
        outcomes: list[Outcome] = []
        for value in (1, 2, -1, 3):
            job = job_of(value)
            job.sequence = SequenceStep("one", start=value == 1, end=False)
            service.model.submit(job, outcomes.append)
        await until(lambda: len(outcomes) == 4)
        assert [outcome.refusal is None for outcome in outcomes] == [True, True, False, True]
        totals = service.model.statistics
        assert (totals.success.count, totals.fail.count, totals.rows) == (3, 1, 4)
        assert (service.record.requests, service.record.failures) == (4, 1)
        await service.model.retire()

    asyncio.run(scenario())


def test_requests_that_are_dropped_are_counted_apart(digits_like_bundle: SmallBundle) -> None:
    async def scenario() -> None:
        service = Service(digits_like_bundle, uniform, INLINE_S)
        outcomes: list[Outcome] = []
        inputs = {"image": np.zeros((1, 64), np.float32)}
        gone = Job(inputs, 1, 0)
        gone.cancel()
        service.model.submit(gone, outcomes.append)
        service.model.submit(Job(inputs, 1, 0, deadline_ns=1), outcomes.append)
        await until(lambda: len(outcomes) == 2)
        assert sorted(outcome.refusal.status for outcome in outcomes if outcome.refusal) == [499, 504]
        totals = service.model.statistics
        assert (totals.cancelled, totals.expired, totals.fail.count, totals.executions) == (1, 1, 0, 0)
        assert service.model.in_flight == 0
        await service.model.retire()

    asyncio.run(scenario())


def test_a_model_that_is_loaded_for_the_first_time_is_not_ready_yet(tmp_path: Path) -> None:
    table = ModelTable(CounterStore(tmp_path, "b", "i", 60), DEFAULT_LIMITS, LoadOptions())
    table.loading = "digits"
    assert table.starting
    with pytest.raises(Refusal) as caught:
        table.find("digits", None)
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("1.31.1", ">=1.31,<2", True),
        ("1.30.9", ">=1.31,<2", False),
        ("2.0.0", ">=1.31,<2", False),
        ("1.31.1", "", True),
        ("1.31.1", "==1.31.1", True),
        ("1.31", "==1.31.0", True),
        ("1.31.1", "!=1.31.1", False),
        ("1.32.0", "~=1.31", True),
        ("2.0", "~=1.31", False),
        ("1.31.5", "~=1.31.2", True),
        ("1.32", "~=1.31.2", False),
        ("1.31.0.dev20", ">1.30", True),
    ],
)
def test_engine_version_ranges(version: str, wanted: str, fits: bool) -> None:
    assert satisfies(version, wanted) == fits


@pytest.mark.parametrize("wanted", ["1.31", ">=x", ">=1.*", "=1"])
def test_a_range_that_cannot_be_read_is_said_so(wanted: str) -> None:
    with pytest.raises(ModelRefused, match="cannot read"):
        satisfies("1.31.1", wanted)


def manifest_with(bundle: SmallBundle, **options: str | int | bool) -> Manifest:
    import msgspec

    engine = msgspec.structs.replace(bundle.manifest.engine, options=options)
    return msgspec.structs.replace(bundle.manifest, engine=engine)


@pytest.mark.parametrize("options", [{"speed": "max"}, {"intra_op_threads": "two"}, {"allow_spinning": 1}])
def test_engine_options_are_strict(digits_like_bundle: SmallBundle, options: dict[str, Any]) -> None:
    from edgewright.runtime.engines.onnxruntime import ENGINE

    with pytest.raises(ModelRefused, match="engine option"):
        ENGINE.load(digits_like_bundle.directory, manifest_with(digits_like_bundle, **options), LoadOptions())
