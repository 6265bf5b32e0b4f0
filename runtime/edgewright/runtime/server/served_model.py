"""One model under its name and version: takes jobs, has them executed, counts them, delivers their outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.reference import confidence_histogram
from edgewright.targets.faults import UserFault

from ..engines.protocol import WorkerLost
from ..serving import ModelSettings
from .drift import DriftCounter
from .labels import Label, bin_of
from .limits import Limits
from .loading import LoadedModel
from .pipeline import Deliver, Job, Outcome, Signature, Tensors
from .recorder import Counted, CounterStore, Recorder
from .refusal import Refusal, not_now
from .schedule.adaptive import NO_LANES, Lanes, scheduler_for
from .schedule.execution import BatchTimes, Execution, Scheduler
from .schedule.scheduled import nobody
from .sequences import Sequences, client_specs
from .statistics import ModelStatistics

_log = logging.getLogger(__name__)

_PLATFORMS = {"onnxruntime": "onnx_onnxv1"}

_DRIFT_DELAY_S = 0.02
"""Samples wait at most so long to be counted, on a loop that has nothing else to do."""


class ServedModel:
    """A loaded model in service, an `Endpoint`. All methods are called on the event loop."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        bundle: str,
        store: CounterStore,
        limits: Limits,
        settings: ModelSettings = ModelSettings(),  # noqa: B008 - immutable
        lanes: Lanes = NO_LANES,
    ) -> None:
        manifest = loaded.manifest
        self.name, self.version, self.bundle = manifest.model, manifest.version, bundle
        self.manifest = manifest
        self.settings = settings
        self.limits = limits
        self.signature = Signature(
            manifest.model,
            manifest.version,
            *client_specs(manifest),
        )
        self.metadata = msgspec.json.encode(self._metadata())
        self.statistics = ModelStatistics()
        self._confidence = confidence_histogram(loaded.reference)
        sizes = tuple(len(histogram.counts) for histogram in loaded.reference.histograms)
        self.recorder = Recorder(
            store,
            Counted(
                model=self.name,
                version=self.version,
                bundle=bundle,
                reference=loaded.reference_digest,
                histogram_sizes=sizes,
                label_bins=len(self._confidence.counts) if self._confidence is not None else 1,
            ),
        )
        self._batching = scheduler_for(
            loaded.instance,
            manifest,
            loaded.warm_up or ((1, loaded.p50_s),),
            settings,
            self._executed,
            lanes,
            # Steps of a sequence may end without having been in a batch: they are counted one by one.
            nobody if manifest.state else self._count,
        )
        self.scheduler: Scheduler = self._batching
        self._sequences: Sequences | None = None
        if manifest.state:
            self.scheduler = self._sequences = Sequences(self.scheduler, manifest, settings)
        self.p50_s = loaded.p50_s
        self.in_flight = 0
        self._instance = loaded.instance
        self._drift = DriftCounter(loaded.reference, self.signature.inputs, self.signature.outputs)
        self._drift_timer: asyncio.TimerHandle | None = None
        self._drift_due = False
        self._energy_counted = 0
        self._idle = asyncio.Event()

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Have a job done (see `pipeline.Endpoint`); it is counted before it is delivered."""

        def ended(execution: Execution) -> None:
            self._leave()
            outputs = execution.outputs
            if outputs is None or self._sequences is not None:
                self._ended_otherwise(job, execution, deliver)
                return
            queue_ns, compute_ns = execution.queue_ns, execution.compute_ns
            deliver(Outcome(outputs, None, self.name, self.version, queue_ns, compute_ns, self.statistics))
            self._observe_later(job.inputs, outputs)

        self.in_flight += 1
        try:
            self.scheduler.submit(job, ended)
        except BaseException as error:
            self._leave()
            if isinstance(error, Refusal) and error.status == 503:
                self.statistics.shed += 1
            raise

    def turn_away(self, rows: int = 1) -> Refusal | None:
        """The refusal that a job would meet now for overload: who asks before reading a body spares that work."""
        refusal = self.scheduler.turn_away(rows)
        if refusal is not None:
            self.statistics.shed += 1
        return refusal

    def explain(self) -> dict[str, Any]:
        """Why the last batches were formed as they were."""
        return {"name": self.name, "version": self.version, "pending": self.in_flight, **self.scheduler.explain()}

    def cap_batch_rows(self, rows: int | None) -> None:
        """Form smaller batches, to save power; None ends that."""
        self._batching.limit_rows(rows)

    def count_shared(self, job: Job, outcome: Outcome) -> None:
        """Count a job that is answered with another job's outcome: answered, but not executed."""
        now_ns, totals = time.perf_counter_ns(), self.statistics
        totals.compute_input.add(job.input_ns)
        latency_ns = [now_ns - job.received_ns]
        self._record(*(([], latency_ns) if outcome.outputs is None else (latency_ns, [])), job.rows)
        if outcome.outputs is not None:
            self._observe_later(job.inputs, outcome.outputs)

    def add_energy(self, energy_uj: int) -> None:
        """Count what the board used, in microjoules, for the requests since this was called last."""
        answered = self.statistics.success.count + self.statistics.fail.count
        requests, self._energy_counted = answered - self._energy_counted, answered
        if energy_uj > 0 and requests > 0:
            self.recorder.add_energy(energy_uj, requests)

    def add_labels(self, told: Sequence[Label]) -> None:
        """Count answers whose truth is known by now.

        Raises:
            Refusal: 400, a confidence is missing that this model's labels are counted by.
        """
        edges = () if self._confidence is None else self._confidence.edges
        self.recorder.add_labels([(bin_of(each, edges), each.is_right) for each in told])

    def told_versions(self, versions: tuple[str, ...]) -> None:
        """Say in the metadata which versions of the name are in service."""
        self.metadata = msgspec.json.encode({**self._metadata(), "versions": versions})

    async def retire(self) -> None:
        """Answer what is under way, then give everything back. No job follows."""
        while self.in_flight:  # an answer may be what lets another job begin
            self._idle.clear()
            await self._idle.wait()
        self.count_drift()
        self.recorder.close()
        self.scheduler.close()
        self._instance.close()

    def tick(self, now_s: float) -> None:
        """About once a second."""
        self.count_drift()
        self.recorder.tick(now_s)
        if self._sequences is not None:
            self._sequences.forget_idle(time.perf_counter_ns())

    def close(self) -> None:
        """At the end of the process: everything that was answered is in the counter files."""
        self.count_drift()
        self.recorder.close()

    def count_drift(self) -> None:
        """Add what waits to the histograms of this window."""
        if self._drift_timer is not None:
            # A timer that is left to run out would keep a retired model alive, past the release of its memory.
            self._drift_timer.cancel()
            self._drift_timer = None
        self._drift_due = False
        cells = self._drift.count()
        self.statistics.observer_errors = self._drift.errors
        if cells is not None:
            self.recorder.observed(cells)

    def _leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    def _executed(self, times: BatchTimes) -> None:
        self.statistics.add_batch(times.rows, times.input_ns, times.infer_ns, times.output_ns)

    def _dropped(self, job: Job, execution: Execution, refusal: Refusal) -> Outcome:
        totals = self.statistics
        if job.cancelled:
            totals.cancelled += 1
        elif refusal.status == 504:
            totals.expired += 1
        elif refusal.status == 503:
            totals.shed += 1
        return Outcome(None, refusal, self.name, self.version, execution.queue_ns, 0, totals)

    def _ended_otherwise(self, job: Job, execution: Execution, deliver: Deliver) -> None:
        """Deliver what is not simply an answer that is counted already."""
        if execution.refusal is not None:
            deliver(self._dropped(job, execution, execution.refusal))
            return
        if self._sequences is not None:
            try:
                self._count([job], [execution])
            except Exception as error:  # noqa: BLE001 - no answer is given that is not counted
                execution = Execution(None, error)
        deliver(self._outcome(execution))
        if execution.outputs is not None:
            self._observe_later(job.inputs, execution.outputs)

    def _outcome(self, execution: Execution) -> Outcome:
        refusal: Refusal | None = None
        if execution.outputs is None:
            _log.error("%s %s failed to run: %s", self.name, self.version, execution.error)
            refusal = _refusal(execution.error)
        return Outcome(
            execution.outputs,
            refusal,
            self.name,
            self.version,
            execution.queue_ns,
            execution.compute_ns,
            self.statistics,
            lost=isinstance(execution.error, WorkerLost),
        )

    def _count(self, jobs: Sequence[Job], executions: Sequence[Execution]) -> None:
        """Count how jobs ended, before an answer is given. Once for a batch: most of it costs the same for all."""
        now_ns, totals = time.perf_counter_ns(), self.statistics
        answered_ns: list[int] = []
        failed_ns: list[int] = []
        rows = queue_ns = input_ns = infer_ns = 0
        for job, execution in zip(jobs, executions, strict=True):
            (failed_ns if execution.outputs is None else answered_ns).append(now_ns - job.received_ns)
            rows += job.rows
            input_ns += job.input_ns
            queue_ns += execution.queue_ns
            infer_ns += execution.compute_ns
        totals.rows += rows
        totals.add_steps(len(jobs), queue_ns, input_ns, infer_ns)
        self._record(answered_ns, failed_ns, rows)

    def _record(self, answered_ns: list[int], failed_ns: list[int], rows: int) -> None:
        now_s, totals = time.time(), self.statistics
        totals.last_inference_ms = int(now_s * 1000)
        latencies_us = totals.add_ended(answered_ns, failed_ns)
        self.recorder.record(now_s, latencies_us, rows=rows, failures=len(failed_ns))

    def _observe_later(self, inputs: Tensors, outputs: Tensors) -> None:
        if self._drift.add(inputs, outputs) and not self._drift_due:
            self._drift_due = True  # the answers of this turn leave first
            asyncio.get_running_loop().call_soon(self.count_drift)
        elif self._drift_timer is None:
            self._drift_timer = asyncio.get_running_loop().call_later(_DRIFT_DELAY_S, self.count_drift)

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS.get(self.manifest.engine.name, f"{self.manifest.engine.name}_model"),
            "inputs": [_described(spec) for spec in self.signature.inputs.values()],
            "outputs": [_described(spec) for spec in self.signature.outputs.values()],
        }


def _refusal(error: Exception | None) -> Refusal:
    if isinstance(error, UserFault):  # the bundle's steps or the engine's border refuse these inputs, and say why
        return Refusal(400, str(error))
    if not isinstance(error, WorkerLost):
        return Refusal(500, "the model failed to run; the server's log has the details")
    if error.executing:
        return Refusal(500, f"{error}; it is being started again")
    return not_now("the model's process is being started again")


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
