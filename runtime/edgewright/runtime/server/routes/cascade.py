"""Cascade: a small model answers where it is sure; the rows that it is not sure of go on to the next."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec

from ...routes import Cascade
from ..pipeline import Deliver, Endpoint, Job, Outcome, Signature, Tensors
from ..refusal import Refusal
from .confidence import confidence
from .fallback import goes_on
from .legs import SERVER_ERROR, Clock, Lead, Leg, failed, refused

_log = logging.getLogger(__name__)

Rows = NDArray[np.intp]

_FLOATING = {"FP16", "FP32", "FP64"}


class CascadeRoute:
    """An `Endpoint`."""

    def __init__(self, name: str, settings: Cascade, legs: tuple[Leg, ...], clock: Clock) -> None:
        self._name = name
        self._settings = settings
        self._legs = legs
        self._lead = Lead(name, legs)
        self._clock = clock
        self._rows_on = [0] * (len(legs) - 1)
        """Rows that each stage passed on."""
        self._stayed = 0

    @property
    def signature(self) -> Signature:
        return self._lead.signature

    def problem(self) -> str | None:
        """Why the confidence of the first stage cannot be read; raises as `signature` does."""
        spec = self._looked_at(self.signature)
        if spec is None:
            return f"there is no output '{self._settings.output}'"
        if spec.datatype not in _FLOATING:
            return (
                f"output '{spec.name}' is {spec.datatype}; a cascade needs probabilities or logits (FP16, FP32, FP64)"
            )
        return None

    def submit(self, job: Job, deliver: Deliver) -> None:
        if job.sequence is not None:
            raise Refusal(400, f"the route '{self._name}' is a cascade, which cannot keep the state of a sequence")
        problem = self.problem()
        if problem is not None:
            raise Refusal(503, f"the route '{self._name}' cannot be used: {problem}")
        _Passage(self, job, deliver, self._lead.signature).begin()

    def statistics(self) -> dict[str, object]:
        passed = dict(zip([leg.label for leg in self._legs], self._rows_on, strict=False))
        return {"kind": "cascade", "rows_passed_on": passed, "jobs_not_passed_on": self._stayed}

    def unsure(self, outputs: Tensors, signature: Signature) -> NDArray[np.bool_]:
        """Which rows of a stage's outputs are below the threshold."""
        spec = self._looked_at(signature)
        if spec is None:  # pragma: no cover - `problem` was asked before
            return np.zeros(0, np.bool_)
        output = outputs[spec.name]
        rows = output if spec.shape[:1] == (-1,) else output[None]
        return ~(confidence(rows, self._settings.softmax) >= self._settings.threshold)

    def open_first(self, signature: Signature) -> tuple[int, Endpoint]:
        """The first stage that is there; raises the Refusal of the last where none is."""
        for index, leg in enumerate(self._legs):
            try:
                return index, leg.opened(signature)
            except Refusal:
                if index + 1 == len(self._legs):
                    raise
        raise AssertionError("a cascade has stages")

    def next_after(self, index: int, job: Job, signature: Signature) -> tuple[int, Endpoint] | None:
        """The next stage that is there, None where there is none or nobody waits."""
        if not goes_on(SERVER_ERROR, job, self._clock()):
            return None
        for following in range(index + 1, len(self._legs)):
            try:
                return following, self._legs[following].opened(signature)
            except Refusal:
                continue
        return None

    @property
    def stages(self) -> int:
        return len(self._legs)

    def leg(self, index: int) -> Leg:
        return self._legs[index]

    def passed_on(self, index: int, rows: int) -> None:
        self._rows_on[index] += rows

    def stays(self) -> None:
        """Unsure rows keep an answer because no later stage took them."""
        self._stayed += 1

    def _looked_at(self, signature: Signature) -> TensorSpec | None:
        name = self._settings.output
        return next((spec for spec in signature.outputs.values() if name in {None, spec.name}), None)


class _Passage:
    """One job on its way through the stages."""

    def __init__(self, route: CascadeRoute, job: Job, deliver: Deliver, signature: Signature) -> None:
        self._route = route
        self._job = job
        self._deliver = deliver
        self._signature = signature
        self._by_rows = _by_rows(signature)
        self._so_far: Outcome | None = None
        self._told = False

    def begin(self) -> None:
        """Raises the Refusal of a first stage that does not take the job, where there is no other."""
        index, endpoint = self._route.open_first(self._signature)
        while True:
            try:
                self._ask(index, endpoint, self._job, None)
            except Refusal as refusal:
                following = self._route.next_after(index, self._job, self._signature)
                if refusal.status < SERVER_ERROR or following is None:
                    raise
                index, endpoint = following
                continue
            return

    def _ask(self, index: int, endpoint: Endpoint, job: Job, rows: Rows | None) -> None:
        """`rows`: where the rows of `job` stand in the whole; None where it is the whole."""
        self._job.follower = None if job is self._job else job
        self._route.leg(index).submit(endpoint, job, lambda outcome: self._heard(index, outcome, job, rows))

    def _heard(self, index: int, outcome: Outcome, job: Job, rows: Rows | None) -> None:
        """What is looked at comes from engines; whatever is wrong with it, the job is answered."""
        try:
            end = self._answered(index, outcome, job, rows)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a stage of the cascade '%s' gave what it cannot go on with", self._signature.model)
            why = Refusal(500, "the cascade cannot go on with a stage's outputs; the server's log has the details")
            end = refused(why, self._signature.model)
        if end is not None and not self._told:
            self._told = True  # a stage may answer before its `submit` returns, and a client fail to take that
            self._deliver(end)

    def _answered(self, index: int, outcome: Outcome, job: Job, rows: Rows | None) -> Outcome | None:
        """The outcome of the whole; None where another stage was asked."""
        if outcome.outputs is None:
            return self._failed(index, outcome, job, rows)
        self._so_far = outcome if self._so_far is None else _merged(self._so_far, outcome, rows, self._signature)
        if index + 1 == self._route.stages:
            return self._so_far
        unsure = self._route.unsure(outcome.outputs, self._signature)
        if not unsure.any():
            return self._so_far
        if self._by_rows and not unsure.all():
            here = np.flatnonzero(unsure)
            return self._go_on(index, _rows_of(job, here, self._signature), here if rows is None else rows[here])
        return self._go_on(index, job, rows)

    def _go_on(self, index: int, job: Job, rows: Rows | None) -> Outcome | None:
        following = self._route.next_after(index, self._job, self._signature)
        while following is not None:
            try:
                self._ask(*following, job, rows)
            except Refusal:
                following = self._route.next_after(following[0], self._job, self._signature)
                continue
            self._route.passed_on(index, job.rows)
            return None
        if self._so_far is not None and self._so_far.outputs is not None:
            self._route.stays()
        return self._so_far

    def _failed(self, index: int, outcome: Outcome, job: Job, rows: Rows | None) -> Outcome | None:
        """A stage that fails is passed over; what is there already stands where no later stage can answer."""
        self._so_far = self._so_far or outcome
        return self._go_on(index, job, rows) if failed(outcome) else self._so_far


def _by_rows(signature: Signature) -> bool:
    """Whether rows can go different ways: the batch is every tensor's free first axis, and no output has another."""
    outputs = signature.outputs.values()
    batched = all(spec.shape[:1] == (-1,) for spec in (*signature.inputs.values(), *outputs))
    return batched and all(-1 not in spec.shape[1:] for spec in outputs)


def _rows_of(job: Job, rows: Rows, signature: Signature) -> Job:
    inputs = {name: job.inputs[name][rows] for name in signature.inputs if name in job.inputs}
    return replace(job, inputs=inputs, rows=len(rows), follower=None, digest=b"")


def _merged(first: Outcome, second: Outcome, rows: Rows | None, signature: Signature) -> Outcome:
    """The outcome with the rows of `second` in their places; it is the second that answered last."""
    if first.outputs is None or rows is None:
        outputs: Tensors | None = second.outputs
    else:
        outputs = _placed(first.outputs, second.outputs or {}, rows, signature.outputs)
    arms = [str(each.notes.get("edgewright_arm", each.model)) for each in (first, second)]
    kept = first.outputs is not None and rows is not None
    notes = {**second.notes, "edgewright_arm": ",".join(arms if kept else arms[1:])}
    return replace(
        second,
        outputs=outputs,
        notes=notes,
        queue_ns=first.queue_ns + second.queue_ns,
        compute_ns=first.compute_ns + second.compute_ns,
    )


def _placed(whole: Tensors, part: Tensors, rows: Rows, specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    """Copies of the arrays of `whole` with some rows replaced."""
    merged: dict[str, NDArray[Any]] = {}
    for name in specs:
        merged[name] = whole[name].copy()
        merged[name][rows] = part[name]
    return merged
