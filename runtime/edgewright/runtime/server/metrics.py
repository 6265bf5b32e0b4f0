"""The Prometheus text of GET /metrics, rendered when asked for. Names follow prometheus.io: base units, `_total`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..telemetry.records import LATENCY_EDGES_US
from .memory import peak_resident_bytes, resident_bytes
from .state import ServerState

if TYPE_CHECKING:
    from .model_table import ModelTable
    from .served_model import ServedModel

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Labels = dict[str, str]
Sample = tuple[str, Labels, float]


def render(table: ModelTable, state: ServerState) -> str:
    """Return all metrics of the server."""
    models = tuple(table)
    lines: list[str] = []
    for name, kind, help_text, samples in _families(models, table, state):
        lines += (f"# HELP {name} {help_text}", f"# TYPE {name} {kind}")
        lines += (_sample(*sample) for sample in samples)
    return "\n".join(lines) + "\n"


def _families(
    models: tuple[ServedModel, ...], table: ModelTable, state: ServerState
) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    yield _counter("edgewright_requests_total", "Requests that were executed.", _outcomes(models))
    yield _counter("edgewright_rows_total", "Samples in those requests.", _each(models, "rows"))
    yield _counter(
        "edgewright_refused_requests_total", "Requests that did not fit the model.", _each(models, "refused")
    )
    yield _counter(
        "edgewright_observer_errors_total", "Requests whose drift was not counted.", _each(models, "observer_errors")
    )
    yield (
        "edgewright_uncounted_requests_total",
        "counter",
        "Requests that no counter file could take when they were answered; they are counted in memory until one can.",
        [("edgewright_uncounted_requests_total", _labels(model), model.recorder.uncounted) for model in models],
    )
    yield (
        "edgewright_request_duration_seconds",
        "histogram",
        "Time from the last byte of a request to its answer.",
        [sample for model in models for sample in _durations(model)],
    )
    for step in ("queue", "compute_input", "compute_infer", "compute_output"):
        name = f"edgewright_{step}_seconds_total"
        yield _counter(
            name,
            f"Time in the step {step}.",
            [(name, _labels(m), getattr(m.statistics, step).ns / 1e9) for m in models],
        )
    name = "edgewright_requests_in_flight"
    yield (
        name,
        "gauge",
        "Requests that are being executed or wait for it.",
        [(name, _labels(m), m.in_flight) for m in models],
    )
    yield _counter("edgewright_model_loads_total", "Loads of bundles.", _loads(table))
    yield _counter("edgewright_http_responses_total", "Responses by HTTP status.", _responses(state))
    yield from _process(state)


def _process(state: ServerState) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    gauges = (
        ("edgewright_http_connections", "Open connections.", state.open_connections),
        ("edgewright_draining", "1 while the server shuts down.", int(state.draining)),
        ("process_start_time_seconds", "Start of the process, seconds since 1970.", state.started_s),
        ("process_resident_memory_bytes", "Resident memory.", resident_bytes()),
        ("edgewright_process_peak_resident_memory_bytes", "Largest resident memory so far.", peak_resident_bytes()),
    )
    for name, help_text, value in gauges:
        yield name, "gauge", help_text, [(name, {}, value)]
    name = "process_cpu_seconds_total"
    yield _counter(name, "Processor time, user and system.", [(name, {}, time.process_time())])


def _counter(name: str, help_text: str, samples: Iterable[Sample]) -> tuple[str, str, str, Iterable[Sample]]:
    return name, "counter", help_text, [(name, labels, value) for _, labels, value in samples]


def _each(models: tuple[ServedModel, ...], field: str) -> list[Sample]:
    return [("", _labels(model), getattr(model.statistics, field)) for model in models]


def _outcomes(models: tuple[ServedModel, ...]) -> Iterator[Sample]:
    for model in models:
        yield "", {**_labels(model), "outcome": "success"}, model.statistics.success.count
        yield "", {**_labels(model), "outcome": "failure"}, model.statistics.fail.count


def _loads(table: ModelTable) -> list[Sample]:
    return [("", {"outcome": "success"}, table.loads), ("", {"outcome": "failure"}, table.failed_loads)]


def _responses(state: ServerState) -> list[Sample]:
    return [("", {"code": str(status)}, count) for status, count in sorted(state.responses.items())]


def _durations(model: ServedModel) -> Iterator[Sample]:
    name, labels, totals = "edgewright_request_duration_seconds", _labels(model), model.statistics
    below = 0
    for edge_us, count in zip(LATENCY_EDGES_US, totals.latency, strict=False):
        below += count
        yield f"{name}_bucket", {**labels, "le": f"{edge_us / 1e6:g}"}, below
    count = totals.success.count + totals.fail.count
    yield f"{name}_bucket", {**labels, "le": "+Inf"}, count
    yield f"{name}_sum", labels, (totals.success.ns + totals.fail.ns) / 1e9
    yield f"{name}_count", labels, count


def _labels(model: ServedModel) -> Labels:
    return {"model": model.name, "version": model.version}


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = str(value) if isinstance(value, int) else repr(float(value))
    return f"{name}{{{inner}}} {number}" if inner else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
