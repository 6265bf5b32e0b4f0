"""Metrics of the server process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..memory import peak_resident_bytes, resident_bytes
from ..state import ServerState
from .exposition import Family, counter, gauge

if TYPE_CHECKING:
    from ..model_table import ModelTable


def process_families(table: ModelTable, state: ServerState) -> Iterator[Family]:
    """Return what is told of the process as a whole."""
    loads = [({"outcome": "success"}, table.loads), ({"outcome": "failure"}, table.failed_loads)]
    yield counter("edgewright_model_loads_total", "Loads of bundles.", loads)
    responses = [({"code": str(status)}, count) for status, count in sorted(state.responses.items())]
    yield counter("edgewright_http_responses_total", "Responses by HTTP status.", responses)
    gauges = (
        ("edgewright_http_connections", "Open connections.", state.open_connections),
        ("edgewright_draining", "1 while the server shuts down.", int(state.draining)),
        ("process_start_time_seconds", "Start of the process, seconds since 1970.", state.started_s),
        ("process_resident_memory_bytes", "Resident memory.", resident_bytes()),
        ("edgewright_process_peak_resident_memory_bytes", "Largest resident memory so far.", peak_resident_bytes()),
    )
    for name, help_text, value in gauges:
        yield gauge(name, help_text, [({}, value)])
    yield counter("process_cpu_seconds_total", "Processor time, user and system.", [({}, time.process_time())])
