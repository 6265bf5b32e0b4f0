"""Metrics of routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .exposition import Family, counter, gauge

_ARM_COUNTERS = (
    ("jobs", "edgewright_route_jobs_total", "Jobs that a place of a route has answered."),
    ("rows", "edgewright_route_rows_total", "Samples in these jobs."),
    ("errors", "edgewright_route_errors_total", "Jobs that a place of a route answered with a status from 500."),
    ("refused", "edgewright_route_refused_total", "Jobs that a place of a route did not take."),
    (
        "latency_s",
        "edgewright_route_latency_seconds_total",
        "Time from handing a job to a place to its answer, summed.",
    ),
    ("compute_s", "edgewright_route_compute_seconds_total", "Time in the engine for jobs of a route, summed."),
)


def route_families(statistics: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    """Return the counts in `RouteTable.statistics()`; none where there are no routes."""
    arms = [(route, arm, counts) for route, told in statistics.items() for arm, counts in told["arms"].items()]
    for key, name, text in _ARM_COUNTERS:
        yield counter(name, text, [({"route": route, "arm": arm}, counts[key]) for route, arm, counts in arms])
    given_up = _of_kind(statistics, "canary")
    text = "1 where a canary was found to be worse and gets no jobs."
    yield gauge("edgewright_canary_given_up", text, [(each, int(bool(told["given_up"]))) for each, told in given_up])
    shadows = [(each, told["agreement"]) for each, told in _of_kind(statistics, "shadow")]
    compared = [
        ({**each, "agreed": word}, rows)
        for each, told in shadows
        for word, rows in (("true", told["rows"] - told["disagreed_rows"]), ("false", told["disagreed_rows"]))
    ]
    yield counter("edgewright_shadow_rows_total", "Samples that primary and shadow were compared on.", compared)
    passed = [
        ({**each, "stage": stage}, rows)
        for each, told in _of_kind(statistics, "cascade")
        for stage, rows in told["rows_passed_on"].items()
    ]
    yield counter("edgewright_cascade_rows_passed_on_total", "Samples that a stage was not sure of.", passed)


def _of_kind(statistics: Mapping[str, Mapping[str, Any]], kind: str) -> list[tuple[dict[str, str], Mapping[str, Any]]]:
    return [({"route": route}, told) for route, told in statistics.items() if told["kind"] == kind]
