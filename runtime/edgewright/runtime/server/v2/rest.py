"""An inference that came by HTTP: from the request to the job, and from its outcome to the response."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time

from ..guarded import Guarded
from ..http.messages import HEADER_LENGTH_FIELD, Request, Respond, Response, error_response
from ..limits import Limits
from ..pipeline import Endpoint, Job, Note, Outcome
from ..refusal import Refusal
from .inference import Inference, read_request, write_response
from .plans import Plans

_log = logging.getLogger(__name__)

_TURNED_AWAY_S = 0.01
"""A client that is turned away hears of it so much later. One that comes again at once would otherwise take the
processor from those who are served: 64 of them took 60 % of it from a model of 2 ms."""
_DIGITS = 16
"""Of a header length; longer ones are refused where they are read."""


def infer(
    endpoint: Endpoint,
    request: Request,
    respond: Respond,
    limits: Limits,
    plans: Plans | None = None,
    *,
    traced: bool = False,
) -> None:
    """Answer an inference request through `respond`; a traced one is told how long each step took.

    Raises:
        Refusal: the request does not fit, or cannot be taken now; nothing was executed.
    """
    if isinstance(endpoint, Guarded):
        refusal = endpoint.turn_away()
        if refusal is not None and not _names_a_priority(request):
            # Unread: in overload, reading what is then refused would be most of the work.
            asyncio.get_running_loop().call_later(_TURNED_AWAY_S, respond, error_response(refusal))
            return
    inference = read_request(request, endpoint.signature, limits, plans)
    priority, timeout_us, key, sequence = inference.scheduling
    received_ns = request.received_ns
    job = Job(
        inference.inputs,
        inference.rows,
        received_ns,
        time.perf_counter_ns() - received_ns,
        priority,
        None if timeout_us is None else received_ns + timeout_us * 1000,
        key,
        sequence,
    )
    request.on_gone = job.cancel

    def deliver(outcome: Outcome) -> None:
        if traced:
            outcome = with_times(job, outcome)
        respond(_answer(endpoint, inference, outcome))

    endpoint.submit(job, deliver)


def _names_a_priority(request: Request) -> bool:
    """Whether the JSON may say how urgent it is; then it is read before anything is decided."""
    length = request.headers.get(HEADER_LENGTH_FIELD, b"")
    text = request.body[: int(length)] if length.isdigit() and len(length) < _DIGITS else request.body
    return b'"priority"' in bytes(text)


def _answer(endpoint: Endpoint, inference: Inference, outcome: Outcome) -> Response:
    if outcome.refusal is not None or outcome.outputs is None:
        return error_response(outcome.refusal or Refusal(500, "internal error; the server's log has the details"))
    begun_ns = time.perf_counter_ns()
    try:
        response = write_response(inference, outcome, endpoint.signature)
    except Refusal as refusal:
        return error_response(refusal)
    except Exception:  # noqa: BLE001 - outputs come from an engine; only this request fails
        _log.exception("%s %s gave outputs that cannot be written", outcome.model, outcome.version)
        return error_response(Refusal(500, "the model's outputs cannot be written; the server's log has the details"))
    if outcome.statistics is not None:
        outcome.statistics.compute_output.add(time.perf_counter_ns() - begun_ns)
    return response


def with_times(job: Job, outcome: Outcome) -> Outcome:
    """Return the outcome with the times of its job as notes, for a client that traces."""
    times: dict[str, Note] = {
        "input_ns": job.input_ns,
        "queue_ns": outcome.queue_ns,
        "compute_ns": outcome.compute_ns,
        "total_ns": time.perf_counter_ns() - job.received_ns,
    }
    return dataclasses.replace(outcome, notes={**outcome.notes, **times})
