"""ModelInfer and ModelStreamInfer: from the message to the job, and from its outcome to the message."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ...pipeline import Job, Outcome
from ...refusal import Refusal
from ..rest import with_times
from ..shared import Shared
from .inference import Head, Heads, Plan, plan_inference, read_inputs, write_answer
from .messages import Message
from .status import INTERNAL
from .unary import UnaryCall

_log = logging.getLogger(__name__)

Answered = Callable[[bytes | Refusal], None]


class Inferences:
    """Has the inferences of this protocol done. Used on the event loop only."""

    def __init__(self, shared: Shared) -> None:
        self._names = shared.names
        self._limits = shared.limits
        self._trace = shared.trace
        self._heads = Heads(shared.limits)

    def answer(self, message: Message, call: UnaryCall) -> None:
        """Answer ModelInfer; raises `Refusal` where that cannot even begin."""
        head, raw = self.open(message)
        call.on_gone = self.submit(head, raw, call.received_ns, call.deadline_ns, call.conclude).cancel

    def open(self, message: Message) -> tuple[Head, list[memoryview]]:
        """Return the parts of a `ModelInferRequest`; raises `Refusal` where it is none."""
        return self._heads.open(message)

    def submit(
        self, head: Head, raw: list[memoryview], received_ns: int, deadline_ns: int | None, answered: Answered
    ) -> Job:
        """Have an inference done. Returns its job, which can be cancelled.

        Args:
            head: of the request, see `open`.
            raw: its raw tensors.
            received_ns: `time.perf_counter_ns()` when it had arrived.
            deadline_ns: by the same clock, when the client stops to wait; None says never.
            answered: called once, now or later, with the `ModelInferResponse`, or with why there is none.

        Raises:
            Refusal: the request does not fit, or cannot be taken now; `answered` is not called.
        """
        endpoint = self._names.endpoint(head.model, head.version)
        traced = self._trace.active and self._trace.take(head.model)
        try:
            plan = plan_inference(head, len(raw), endpoint.signature, self._limits)
            job = _job(head, raw, plan, received_ns, deadline_ns)

            def deliver(outcome: Outcome) -> None:
                answered(_written(head, plan, with_times(job, outcome) if traced else outcome))

            endpoint.submit(job, deliver)
        except Refusal:
            self._names.count_refused(head.model, head.version)
            raise
        return job


def _job(head: Head, raw: list[memoryview], plan: Plan, received_ns: int, deadline_ns: int | None) -> Job:
    inputs = read_inputs(head, raw, plan)
    wish = head.scheduling
    return Job(
        inputs,
        plan.rows,
        received_ns,
        time.perf_counter_ns() - received_ns,
        wish.priority,
        _sooner_ns(received_ns, wish.timeout_us, deadline_ns),
        wish.key,
        wish.sequence,
    )


def _sooner_ns(received_ns: int, timeout_us: int | None, deadline_ns: int | None) -> int | None:
    """The sooner of what the client asks the server and what it told gRPC."""
    if timeout_us is None:
        return deadline_ns
    asked = received_ns + timeout_us * 1000
    return asked if deadline_ns is None else min(asked, deadline_ns)


def _written(head: Head, plan: Plan, outcome: Outcome) -> bytes | Refusal:
    if outcome.refusal is not None or outcome.outputs is None:
        return outcome.refusal or INTERNAL
    begun_ns = time.perf_counter_ns()
    try:
        response = write_answer(head, plan, outcome)
    except Refusal as refusal:
        return refusal
    except Exception:  # noqa: BLE001 - told to the client as 500, and to the log with its traceback
        _log.exception("%s %s gave outputs that cannot be written", outcome.model, outcome.version)
        return Refusal(500, "the model's outputs cannot be written; the server's log has the details")
    if outcome.statistics is not None:
        outcome.statistics.compute_output.add(time.perf_counter_ns() - begun_ns)
    return response
