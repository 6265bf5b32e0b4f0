"""Metrics of the models in service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ...telemetry.records import LATENCY_EDGES_US
from .exposition import Family, Labels, Sample, counter, gauge

if TYPE_CHECKING:
    from ..served_model import ServedModel

_STEPS = ("queue", "compute_input", "compute_infer", "compute_output")

_COUNTERS: tuple[tuple[str, str, Callable[[ServedModel], float]], ...] = (
    ("edgewright_rows_total", "Samples that were executed.", lambda model: model.statistics.rows),
    (
        "edgewright_executions_total",
        "Calls of the engine; a batch is one.",
        lambda model: model.statistics.executions,
    ),
    (
        "edgewright_refused_requests_total",
        "Requests that did not fit the model, or came when it took none.",
        lambda model: model.statistics.refused,
    ),
    (
        "edgewright_shed_requests_total",
        "Requests that were refused because too much waited.",
        lambda model: model.statistics.shed,
    ),
    (
        "edgewright_expired_requests_total",
        "Requests whose deadline was over before they began.",
        lambda model: model.statistics.expired,
    ),
    (
        "edgewright_cancelled_requests_total",
        "Requests whose client was gone before they began.",
        lambda model: model.statistics.cancelled,
    ),
    (
        "edgewright_observer_errors_total",
        "Batches whose drift was not counted.",
        lambda model: model.statistics.observer_errors,
    ),
    (
        "edgewright_uncounted_requests_total",
        "Requests that no counter file could take when they were answered; they are counted in memory until one can.",
        lambda model: model.recorder.uncounted,
    ),
    (
        "edgewright_worker_restarts_total",
        "Starts of a model's own process after its first.",
        lambda model: model.statistics.worker_restarts,
    ),
    ("edgewright_cache_hits_total", "Answers from the cache.", lambda model: model.statistics.cache_hit.count),
    ("edgewright_cache_misses_total", "Look-ups that found none.", lambda model: model.statistics.cache_miss.count),
)


def model_families(models: Sequence[ServedModel]) -> Iterator[Family]:
    """Return the families of all models."""
    yield counter("edgewright_requests_total", "Requests that were executed.", _outcomes(models))
    for name, help_text, value in _COUNTERS:
        yield counter(name, help_text, [(labels_of(model), value(model)) for model in models])
    yield Family(
        "edgewright_request_duration_seconds",
        "histogram",
        "Time from the last byte of a request until its outputs are there.",
        [sample for model in models for sample in _durations(model)],
    )
    for step in _STEPS:
        seconds = [(labels_of(model), getattr(model.statistics, step).ns / 1e9) for model in models]
        yield counter(f"edgewright_{step}_seconds_total", f"Time in the step {step}.", seconds)
    yield gauge(
        "edgewright_requests_in_flight",
        "Requests that are being executed or wait for it.",
        [(labels_of(model), model.in_flight) for model in models],
    )
    yield gauge(
        "edgewright_breaker_closed",
        "1 while the model is used; 0 while it is left alone after failures, or tried with one request at a time.",
        [(labels_of(model), int(model.statistics.breaker == "closed")) for model in models],
    )


def labels_of(model: ServedModel) -> Labels:
    """Return the labels of everything about a model."""
    return {"model": model.name, "version": model.version}


def _outcomes(models: Sequence[ServedModel]) -> Iterator[tuple[Labels, float]]:
    for model in models:
        yield {**labels_of(model), "outcome": "success"}, model.statistics.success.count
        yield {**labels_of(model), "outcome": "failure"}, model.statistics.fail.count


def _durations(model: ServedModel) -> Iterator[Sample]:
    labels, totals = labels_of(model), model.statistics
    below = 0
    for edge_us, count in zip(LATENCY_EDGES_US, totals.latency, strict=False):
        below += count
        yield Sample({**labels, "le": f"{edge_us / 1e6:g}"}, below, "_bucket")
    count = totals.success.count + totals.fail.count
    yield Sample({**labels, "le": "+Inf"}, count, "_bucket")
    yield Sample(labels, (totals.success.ns + totals.fail.ns) / 1e9, "_sum")
    yield Sample(labels, count, "_count")
