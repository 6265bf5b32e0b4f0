"""ModelInfer and ModelStreamInfer: from the message to the job, and from its outcome to the message."""

from __future__ import annotations

import asyncio
import logging
import time

from ...pipeline import Endpoint, Job, Outcome
from ...refusal import Refusal
from ..rest import with_times
from ..shared import Shared
from .inference import Head, Heads, Plan, plan_inference, read_inputs, write_answer
from .refusing import INTERNAL

_log = logging.getLogger(__name__)

_LONGEST_S = 24 * 3600.0


class Inferences:
    """Has the inferences of this protocol done. Used on the event loop only."""

    def __init__(self, shared: Shared) -> None:
        self._names = shared.names
        self._limits = shared.limits
        self._trace = shared.trace
        self._heads = Heads(shared.limits)

    def open(self, data: bytes) -> tuple[Head, list[memoryview]]:
        """Return the parts of a `ModelInferRequest`; raises `Refusal` where it is none."""
        return self._heads.open(data)

    async def answer(self, head: Head, raw: list[memoryview], received_ns: int, remaining_s: float | None) -> bytes:
        """Return the `ModelInferResponse` to a request; a caller that is cancelled cancels the job.

        Args:
            head: of the request, see `open`.
            raw: its raw tensors.
            received_ns: `time.perf_counter_ns()` when it had arrived.
            remaining_s: How long the client waits; None says for ever.

        Raises:
            Refusal: the request does not fit, cannot be taken now, or failed.
        """
        endpoint = self._names.endpoint(head.model, head.version)
        traced = self._trace.active and self._trace.take(head.model)
        try:
            plan = plan_inference(head, len(raw), endpoint.signature, self._limits)
            job = _job(head, raw, plan, received_ns, remaining_s)
            outcome = await _outcome(endpoint, job)
        except Refusal:
            self._names.count_refused(head.model, head.version)
            raise
        return _written(head, plan, with_times(job, outcome) if traced else outcome)


def _job(head: Head, raw: list[memoryview], plan: Plan, received_ns: int, remaining_s: float | None) -> Job:
    inputs = read_inputs(head, raw, plan)
    wish = head.scheduling
    return Job(
        inputs,
        plan.rows,
        received_ns,
        time.perf_counter_ns() - received_ns,
        wish.priority,
        _deadline_ns(received_ns, wish.timeout_us, remaining_s),
        wish.key,
        wish.sequence,
    )


def _deadline_ns(received_ns: int, timeout_us: int | None, remaining_s: float | None) -> int | None:
    """The sooner of what the client asks the server and what it told gRPC."""
    asked = None if timeout_us is None else received_ns + timeout_us * 1000
    if remaining_s is None or remaining_s > _LONGEST_S:
        return asked
    told = received_ns + int(remaining_s * 1e9)
    return told if asked is None else min(asked, told)


async def _outcome(endpoint: Endpoint, job: Job) -> Outcome:
    """Wait for a job; one that is done before `submit` returns costs no turn of the loop."""
    delivered: list[Outcome] = []
    waiting: asyncio.Future[None] | None = None

    def deliver(outcome: Outcome) -> None:
        delivered.append(outcome)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    endpoint.submit(job, deliver)
    if not delivered:
        waiting = asyncio.get_running_loop().create_future()
        try:
            await waiting
        except asyncio.CancelledError:
            job.cancel()
            raise
    return delivered[0]


def _written(head: Head, plan: Plan, outcome: Outcome) -> bytes:
    if outcome.refusal is not None or outcome.outputs is None:
        raise outcome.refusal or INTERNAL
    begun_ns = time.perf_counter_ns()
    try:
        response = write_answer(head, plan, outcome)
    except Refusal:
        raise
    except Exception as error:
        _log.exception("%s %s gave outputs that cannot be written", outcome.model, outcome.version)
        raise Refusal(500, "the model's outputs cannot be written; the server's log has the details") from error
    if outcome.statistics is not None:
        outcome.statistics.compute_output.add(time.perf_counter_ns() - begun_ns)
    return response
