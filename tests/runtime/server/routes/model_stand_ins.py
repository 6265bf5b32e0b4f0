"""Models without an engine: they compute what the test says, when the test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import Datatype, TensorSpec
from edgewright.runtime.server.pipeline import Deliver, Endpoint, Job, Outcome, SequenceStep, Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.routes.shadow import CountShadow
from edgewright.runtime.server.routes.table import RouteTable

Function = Callable[[NDArray[np.float32]], NDArray[Any]]


def spec(name: str, shape: tuple[int, ...], datatype: Datatype = "FP32") -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


@dataclass
class StandInModel:
    """`x [-1, 2] -> y`, computed by `function`; answers at once unless `holds`."""

    name: str
    function: Function = lambda x: x
    version: str = "1"
    holds: bool = False
    submit_status: int = 200
    """Other than 200: jobs are refused so when they come."""
    answer_status: int = 200
    """Other than 200: jobs end so."""
    inputs: tuple[TensorSpec, ...] = (spec("x", (-1, 2)),)
    outputs: tuple[TensorSpec, ...] = (spec("y", (-1, 2)),)
    on_submit: Callable[[], None] = lambda: None
    jobs: list[Job] = field(default_factory=list)
    held: list[Callable[[], None]] = field(default_factory=list)
    compute_ns: int = 0
    cached: Outcome | None = None
    """One outcome for all jobs, as a cache has."""

    def __post_init__(self) -> None:
        self.signature = Signature(
            self.name, self.version, {s.name: s for s in self.inputs}, {s.name: s for s in self.outputs}
        )

    def submit(self, job: Job, deliver: Deliver) -> None:
        self.on_submit()
        if self.submit_status != 200:
            raise Refusal(self.submit_status, f"{self.name} refuses")
        self.jobs.append(job)
        if self.holds:
            self.held.append(lambda: deliver(self._outcome(job)))
        else:
            deliver(self._outcome(job))

    def _outcome(self, job: Job) -> Outcome:
        if self.cached is not None:
            return self.cached
        if self.answer_status != 200:
            return Outcome(None, Refusal(self.answer_status, f"{self.name} fails"), self.name, self.version)
        outputs = {self.outputs[0].name: self.function(np.asarray(job.inputs["x"]))}
        return Outcome(outputs, None, self.name, self.version, compute_ns=self.compute_ns)


@dataclass
class House:
    """Models by name, a route table over them, and time and chance that the test decides."""

    models: list[StandInModel]
    draws: Callable[[], float] = lambda: 0.5
    now_ns: int = 0
    later: list[Callable[[], None]] = field(default_factory=list)
    count_shadow: CountShadow = lambda *_: None

    def __post_init__(self) -> None:
        self.table = RouteTable(
            self.find,
            draw=self.draws,
            clock=lambda: self.now_ns,
            later=self.later.append,
            count_shadow=self.count_shadow,
        )

    def find(self, name: str, version: str | None) -> Endpoint:
        for model in self.models:
            if model.name == name and version in {None, model.version}:
                return model
        raise Refusal(404, f"unknown model '{name}'")

    def route(self, name: str) -> Endpoint:
        route = self.table.get(name)
        assert route is not None
        return route

    def ask(self, name: str, job: Job) -> list[Outcome]:
        """Submit; the list has the outcome once there is one. A refusal is an outcome too."""
        outcomes: list[Outcome] = []
        try:
            self.route(name).submit(job, outcomes.append)
        except Refusal as refusal:
            outcomes.append(Outcome(None, refusal, "refused at once", ""))
        return outcomes

    def turn(self) -> None:
        """One turn of the event loop."""
        calls = self.later[:]
        self.later.clear()
        for call in calls:
            call()

    def counts(self, name: str, label: str) -> dict[str, Any]:
        arms: Any = self.table.statistics()[name]["arms"]
        counts: dict[str, Any] = arms[label]
        return counts


def job(
    rows: int | NDArray[Any] = 1,
    *,
    key: str = "",
    deadline_ns: int | None = None,
    sequence: SequenceStep | None = None,
) -> Job:
    values = np.zeros((rows, 2), np.float32) if isinstance(rows, int) else np.asarray(rows, np.float32)
    return Job({"x": values}, len(values), 0, key=key, deadline_ns=deadline_ns, sequence=sequence)


def status(outcomes: list[Outcome]) -> int:
    assert len(outcomes) == 1, outcomes
    return 200 if outcomes[0].refusal is None else outcomes[0].refusal.status
