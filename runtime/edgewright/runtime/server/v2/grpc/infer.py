"""ModelInfer and ModelStreamInfer: from the message to the job, and from its outcome to the message."""

from __future__ import annotations

import asyncio
import logging
import time

from ...limits import Limits
from ...names import Names
from ...pipeline import Endpoint, Job, Outcome
from ...refusal import Refusal
from ..scheduling import read_scheduling
from .inference import Envelope, Inference, open_envelope, read_inference, write_answer
from .refusing import INTERNAL

_log = logging.getLogger(__name__)

_LONGEST_S = 24 * 3600.0


class Inferences:
    """Has the inferences of this protocol done. Used on the event loop only."""

    def __init__(self, names: Names, limits: Limits) -> None:
        self._names = names
        self._limits = limits

    async def answer(self, data: bytes, received_ns: int, remaining_s: float | None) -> bytes:
        """Return the response to a message; a caller that is cancelled cancels the job.

        Args:
            data: A `ModelInferRequest`.
            received_ns: `time.perf_counter_ns()` when it had arrived.
            remaining_s: How long the client waits; None says for ever.

        Raises:
            Refusal: the request does not fit, cannot be taken now, or failed.
        """
        envelope = open_envelope(data, self._limits)
        return await self.answer_opened(envelope, received_ns, remaining_s)

    async def answer_opened(self, envelope: Envelope, received_ns: int, remaining_s: float | None) -> bytes:
        """Return the response to a request that was taken apart already; see `answer`."""
        endpoint = self._names.endpoint(envelope.model, envelope.version)
        inference, job = self._job(endpoint, envelope, received_ns, remaining_s)
        outcome = await _outcome(endpoint, job)
        return _written(endpoint, envelope, inference, outcome)

    def _job(
        self, endpoint: Endpoint, envelope: Envelope, received_ns: int, remaining_s: float | None
    ) -> tuple[Inference, Job]:
        inference = read_inference(envelope, endpoint.signature, self._limits)
        wish = read_scheduling(envelope.parameters)
        job = Job(
            inference.inputs,
            inference.rows,
            received_ns,
            time.perf_counter_ns() - received_ns,
            wish.priority,
            _deadline_ns(received_ns, wish.timeout_us, remaining_s),
            wish.key,
            wish.sequence,
        )
        return inference, job


def _deadline_ns(received_ns: int, timeout_us: int | None, remaining_s: float | None) -> int | None:
    """The sooner of what the client asks the server and what it told gRPC."""
    ends = []
    if timeout_us is not None:
        ends.append(received_ns + timeout_us * 1000)
    if remaining_s is not None and remaining_s < _LONGEST_S:
        ends.append(received_ns + int(remaining_s * 1e9))
    return min(ends, default=None)


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


def _written(endpoint: Endpoint, envelope: Envelope, inference: Inference, outcome: Outcome) -> bytes:
    if outcome.refusal is not None or outcome.outputs is None:
        raise outcome.refusal or INTERNAL
    begun_ns = time.perf_counter_ns()
    try:
        response = write_answer(envelope, inference, outcome, endpoint.signature)
    except Exception as error:
        _log.exception("%s %s gave outputs that cannot be written", outcome.model, outcome.version)
        raise Refusal(500, "the model's outputs cannot be written; the server's log has the details") from error
    if outcome.statistics is not None:
        outcome.statistics.compute_output.add(time.perf_counter_ns() - begun_ns)
    return response
