"""The same counts under the names of Triton (its docs/user_guide/metrics.md), microseconds and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from .exposition import Family, Labels, counter, gauge

if TYPE_CHECKING:
    from ..served_model import ServedModel
    from ..statistics import ModelStatistics

_COUNTERS: tuple[tuple[str, str, Callable[[ModelStatistics], float]], ...] = (
    ("nv_inference_request_success", "Successful requests.", lambda found: found.success.count),
    ("nv_inference_count", "Samples that were executed.", lambda found: found.rows),
    ("nv_inference_exec_count", "Executions of the model.", lambda found: found.compute_infer.count),
    (
        "nv_inference_request_duration_us",
        "Time of requests, in microseconds.",
        lambda found: (found.success.ns + found.fail.ns) // 1000,
    ),
    ("nv_inference_queue_duration_us", "Time of waiting, in microseconds.", lambda found: found.queue.ns // 1000),
    (
        "nv_inference_compute_input_duration_us",
        "Time of reading inputs, in microseconds.",
        lambda found: found.compute_input.ns // 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Time of executing, in microseconds.",
        lambda found: found.compute_infer.ns // 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Time of writing outputs, in microseconds.",
        lambda found: found.compute_output.ns // 1000,
    ),
    ("nv_cache_num_hits_per_model", "Answers from the cache.", lambda found: found.cache_hit.count),
    ("nv_cache_num_misses_per_model", "Look-ups that found none.", lambda found: found.cache_miss.count),
)


def triton_families(models: Sequence[ServedModel]) -> Iterator[Family]:
    """Return the families of all models."""
    for name, help_text, value in _COUNTERS:
        yield counter(name, help_text, [(_labels(model), value(model.statistics)) for model in models])
    yield counter("nv_inference_request_failure", "Failed requests.", _failures(models))
    yield gauge(
        "nv_inference_pending_request_count",
        "Requests that wait or are executed.",
        [(_labels(model), model.in_flight) for model in models],
    )


def _failures(models: Sequence[ServedModel]) -> Iterator[tuple[Labels, float]]:
    for model in models:
        yield {**_labels(model), "reason": "BACKEND"}, model.statistics.fail.count
        yield {**_labels(model), "reason": "REJECTED"}, model.statistics.refused


def _labels(model: ServedModel) -> Labels:
    return {"model": model.name, "version": model.version}
