"""Where a model's jobs run: on the event loop while they cost less than handing them to a thread, else in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgewright.bundle.manifest import Manifest

from ...engines.protocol import Blocking, Instance
from ...serving import ModelSettings
from ..pipeline import Job
from ..refusal import Refusal
from .core import Core
from .execution import Deliver, Ended, Executed
from .explain import KEPT
from .inline import InlineScheduler
from .latency_model import LatencyModel, Point
from .policy import BatchPolicy
from .runner import Lane, Runner
from .scheduled import nobody
from .threaded import ThreadedScheduler

HOP_NS = 200_000
"""Cost of a round trip to another thread and back: 125 to 195 µs were measured on a slow x86 core."""
BACK_RATIO = 0.7
"""A model returns to the event loop when it is so much below that: one at the border must not go to and fro."""
INLINE_BATCH_NS = 2_000_000
"""A batch on the event loop holds up everything else."""
RUN_OVERHEAD_NS = 8_000
"""Of one run on the event loop beside the engine, whatever its rows."""
BATCH_OVERHEAD_NS = 50_000
"""Of a batch in the thread beside the engine."""


SHELLS = 2
"""On the event loop and in a thread: both may run at one time."""
Lanes = Sequence[Lane | None]
"""Of the black box, one for each shell: of the event loop, of the thread."""
NO_LANES: Lanes = (None,) * SHELLS


class AdaptiveScheduler:
    """The `Scheduler` of one model: an inline and a threaded one over one latency model."""

    def __init__(
        self,
        model: LatencyModel,
        inline: InlineScheduler | None,
        threaded: ThreadedScheduler,
        policies: tuple[BatchPolicy, ...] = (),
        *,
        free_batch: bool = True,
    ) -> None:
        self._model = model
        self._free_batch = free_batch
        self._policies = policies
        self._allowed = inline
        self._threaded = threaded
        self._inline = inline is not None and model.single_ns < HOP_NS

    @property
    def inline(self) -> bool:
        return self._inline

    @property
    def pending(self) -> int:
        return self._threaded.pending + (self._allowed.pending if self._allowed is not None else 0)

    def submit(self, job: Job, deliver: Deliver) -> None:
        self._choose(job.rows).submit(job, deliver)

    def turn_away(self, rows: int) -> Refusal | None:
        return self._choose(rows).turn_away(rows)

    def limit_rows(self, max_rows: int | None) -> None:
        """Form batches of so many rows at most; None is what the settings say."""
        for policy in self._policies:
            policy.limit(max_rows)

    def explain(self) -> dict[str, Any]:
        told = self._threaded.explain()
        if self._allowed is not None:
            other = self._allowed.explain()
            active, passive = (other, told) if self._inline else (told, other)
            batches = sorted(active["batches"] + passive["batches"], key=lambda each: float(each["ago_ms"]))
            sums = {name: active[name] + passive[name] for name in ("shed", "expired", "cancelled")}
            told = {**active, **sums, "batches": batches[:KEPT]}
        return {"runs": "on the event loop" if self._inline else "in a thread", **told}

    def close(self) -> None:
        self._threaded.close()

    def _choose(self, rows: int) -> InlineScheduler | ThreadedScheduler:
        allowed, model = self._allowed, self._model
        if allowed is None:
            return self._threaded
        if self._inline:
            if model.single_ns > HOP_NS:
                self._inline = False
                return self._threaded
        elif model.single_ns < HOP_NS * BACK_RATIO:
            self._inline = True
        if self._inline and (rows == 1 or not self._free_batch or model.estimate_ns(rows) <= HOP_NS):
            return allowed
        return self._threaded


def scheduler_for(
    instance: Instance,
    manifest: Manifest,
    points: tuple[Point, ...],
    settings: ModelSettings,
    executed: Executed,
    lanes: Lanes = NO_LANES,
    ended: Ended = nobody,
) -> AdaptiveScheduler:
    """Return the scheduler of a loaded model.

    Args:
        instance: what runs.
        manifest: its tensors.
        points: what the warm-up measured, rows and seconds, 1 row among them.
        settings: of the model.
        executed: is told of every run of the engine, on the event loop.
        lanes: of the black box.
        ended: is told how the jobs of every batch ended, on the event loop and before they are delivered.
    """
    model = LatencyModel(points)

    def runner(lane: Lane | None = None) -> Runner:  # each with buffers of its own, as both may run at one time
        return Runner(instance, manifest, lane)

    max_rows = settings.max_batch_rows if runner().batchable else 1
    free_batch = any(spec.shape[:1] == (-1,) for spec in manifest.inputs)
    core = _core_factory(model, settings, free_batch=free_batch)
    threaded_policy = BatchPolicy(model, max_rows, overhead_ns=BATCH_OVERHEAD_NS)
    threaded = ThreadedScheduler(core(threaded_policy), runner(lanes[1]), executed, ended)
    policies = [threaded_policy]
    inline: InlineScheduler | None = None
    if not (isinstance(instance, Blocking) and instance.blocking):
        policy = BatchPolicy(model, max_rows, overhead_ns=RUN_OVERHEAD_NS, budget_ns=INLINE_BATCH_NS)
        policies.append(policy)
        inline = InlineScheduler(core(policy), runner(lanes[0]), executed, ended)
    return AdaptiveScheduler(model, inline, threaded, tuple(policies), free_batch=free_batch)


def _core_factory(model: LatencyModel, settings: ModelSettings, *, free_batch: bool) -> Callable[[BatchPolicy], Core]:
    timeout_ns = None if settings.timeout_ms is None else int(settings.timeout_ms * 1e6)

    def core(policy: BatchPolicy) -> Core:
        return Core(
            model,
            policy,
            max_jobs=settings.queue_jobs,
            max_bytes=settings.queue_bytes,
            shed_after_ns=int(settings.shed_after_ms * 1e6),
            timeout_ns=timeout_ns,
            free_batch=free_batch,
        )

    return core
