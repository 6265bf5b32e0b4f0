"""Models with implicit state: each step of a sequence is given what the step before it left.

A client names a sequence (`sequence_id`) and says which steps are its first and its last; state never leaves the
server. The steps of one sequence run one after the other, in the order in which they came; steps of different sequences
share batches. A step that fails or is dropped leaves the state as it was, so that it can be sent again. A job without a
sequence is one of a single step.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.bundle.manifest import Manifest, TensorSpec

from ..serving import ModelSettings
from .pipeline import Job, SequenceStep
from .refusal import Refusal, not_now
from .schedule.execution import Deliver, Execution, Scheduler
from .schedule.scheduled import tell

State = dict[str, NDArray[Any]]


class _Sequence:
    """One sequence: its state between two steps, and the steps that wait for the one that runs."""

    __slots__ = ("busy", "line", "state", "used_ns")

    def __init__(self, now_ns: int) -> None:
        self.state: State | None = None
        """None before the first step and after the last."""
        self.line: deque[tuple[Job, Deliver]] = deque()
        self.busy = False
        self.used_ns = now_ns


class Sequences:
    """A `Scheduler` that adds state to jobs and hands them to another one."""

    def __init__(
        self,
        inner: Scheduler,
        manifest: Manifest,
        settings: ModelSettings,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        specs = {spec.name: spec for spec in manifest.inputs}
        self._inner = inner
        self._clock = clock
        self._pairs = [(pair.output, specs[pair.input]) for pair in manifest.state]
        self._max_sequences = settings.max_sequences
        self._idle_ns = int(settings.sequence_idle_s * 1e9)
        self._max_waiting, self._max_waiting_bytes = settings.queue_jobs, settings.queue_bytes
        self._waiting = self._waiting_bytes = 0
        self._known: OrderedDict[str, _Sequence] = OrderedDict()
        """The one that is longest unused first."""

    @property
    def inline(self) -> bool:
        return self._inner.inline

    @property
    def pending(self) -> int:
        return self._inner.pending + self._waiting

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Have a step done after those of its sequence that came before it.

        Raises:
            Refusal: 400 for a sequence that is not known, 503 where too many are.
        """
        step = job.sequence
        if step is None:
            self._run(job, self._zero(job.rows), lambda execution: deliver(self._without_state(execution)))
            return
        sequence = self._sequence(step)
        if sequence.busy:
            self._stand_in_line(sequence, job, deliver)
            return
        try:
            self._begin(step, sequence, job, deliver)
        except BaseException:
            self._forget_if_over(step, sequence)
            raise

    def turn_away(self, rows: int) -> Refusal | None:
        return self._inner.turn_away(rows)

    def explain(self) -> dict[str, Any]:
        return {**self._inner.explain(), "sequences": len(self._known), "steps_in_line": self._waiting}

    def forget_idle(self, now_ns: int) -> None:
        """Drop sequences that had no step for long."""
        while self._known:
            identity, sequence = next(iter(self._known.items()))
            if sequence.busy or now_ns - sequence.used_ns <= self._idle_ns:
                return
            del self._known[identity]

    def close(self) -> None:
        self._known.clear()
        self._inner.close()

    def _sequence(self, step: SequenceStep) -> _Sequence:
        now_ns = self._clock()
        self.forget_idle(now_ns)
        sequence = self._known.get(step.id)
        if sequence is None:
            if not step.start:
                raise _unknown(step)
            if len(self._known) >= self._max_sequences:
                self._make_room()
            sequence = self._known[step.id] = _Sequence(now_ns)
        sequence.used_ns = now_ns
        self._known.move_to_end(step.id)
        return sequence

    def _stand_in_line(self, sequence: _Sequence, job: Job, deliver: Deliver) -> None:
        size_bytes = job.size_bytes
        too_large = self._waiting > 0 and self._waiting_bytes + size_bytes > self._max_waiting_bytes
        if self._waiting >= self._max_waiting or too_large:
            raise not_now("too many steps wait for those before them")
        self._waiting += 1
        self._waiting_bytes += size_bytes
        sequence.line.append((job, deliver))

    def _make_room(self) -> None:
        unused = next((identity for identity, each in self._known.items() if not each.busy), None)
        if unused is None:
            raise not_now(f"{self._max_sequences} sequences are under way")
        del self._known[unused]

    def _begin(self, step: SequenceStep, sequence: _Sequence, job: Job, deliver: Deliver) -> None:
        state = self._zero(job.rows) if step.start else sequence.state
        if state is None:
            raise _unknown(step)
        for _, spec in self._pairs:
            if spec.shape[:1] == (-1,) and len(state[spec.name]) != job.rows:
                rows = len(state[spec.name])
                raise Refusal(400, f"sequence '{step.id}' began with {rows} rows, this step has {job.rows}")

        def ended(execution: Execution) -> None:
            self._ended(step, sequence, execution)
            deliver(self._without_state(execution))

        sequence.busy = True  # first: it may be over before `_run` returns
        try:
            self._run(job, state, ended)
        except BaseException:
            sequence.busy = False
            raise

    def _run(self, job: Job, state: State, deliver: Deliver) -> None:
        """Run a job with state among its inputs; whoever looks at the job afterwards sees what the client sent."""
        sent = job.inputs

        def ended(execution: Execution) -> None:
            job.inputs = sent
            deliver(execution)

        job.inputs = {**sent, **state}
        try:
            self._inner.submit(job, ended)
        except BaseException:
            job.inputs = sent
            raise

    def _ended(self, step: SequenceStep, sequence: _Sequence, execution: Execution) -> None:
        sequence.busy = False
        sequence.used_ns = self._clock()
        if execution.outputs is not None:
            # Copied: outputs are parts of their batch, which they would keep alive.
            outputs = execution.outputs
            sequence.state = None if step.end else {spec.name: outputs[name].copy() for name, spec in self._pairs}
        self._advance(sequence)
        self._forget_if_over(step, sequence)

    def _advance(self, sequence: _Sequence) -> None:
        """Begin the next step that can begin."""
        while sequence.line and not sequence.busy:
            job, deliver = sequence.line.popleft()
            self._waiting -= 1
            self._waiting_bytes -= job.size_bytes
            assert job.sequence is not None  # noqa: S101 - only steps stand in line
            try:
                self._begin(job.sequence, sequence, job, deliver)
            except Refusal as refusal:
                tell(deliver, Execution(None, None, refusal))
            except Exception as error:  # noqa: BLE001 - those behind it, and the one before it, are answered all the same
                tell(deliver, Execution(None, error))

    def _forget_if_over(self, step: SequenceStep, sequence: _Sequence) -> None:
        """A client that is told one thing may ask the next at once, so the name may be another sequence's by now."""
        if not sequence.busy and not sequence.line and sequence.state is None and self._known.get(step.id) is sequence:
            del self._known[step.id]

    def _without_state(self, execution: Execution) -> Execution:
        if execution.outputs is not None:
            for name, _ in self._pairs:
                del execution.outputs[name]
        return execution

    def _zero(self, rows: int) -> State:
        return {
            spec.name: np.zeros([rows if size == -1 else size for size in spec.shape], NUMPY_OF_DATATYPE[spec.datatype])
            for _, spec in self._pairs
        }


def client_specs(manifest: Manifest) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]:
    """Return inputs and outputs by name as a client sees them: without state."""
    given = {pair.input for pair in manifest.state}
    kept = {pair.output for pair in manifest.state}
    return (
        {spec.name: spec for spec in manifest.inputs if spec.name not in given},
        {spec.name: spec for spec in manifest.outputs if spec.name not in kept},
    )


def _unknown(step: SequenceStep) -> Refusal:
    return Refusal(
        400, f"sequence '{step.id}' is not known: it never began, has ended or was idle; begin it with sequence_start"
    )
