"""What happens at a steady rate, and at three times what the server can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .load import Load
from .servers import Server

STEADY_RATE = 1000.0
STEADY_CONNECTIONS = 32
CAPACITY_CONNECTIONS = (8, 64)
"""So few that a slow model turns nobody away, and so many that a fast one has full batches."""
OVERLOAD = 3.0
OVERLOAD_CONNECTIONS = 250
"""Below the server's limit of connections: what is measured is what it says when it has too much to do."""


def steady(server: Server, load: Load, request: Path, seconds: float) -> dict[str, Any]:
    """An open loop of 1 000 requests/s; latencies count from when each request was due."""
    counted = load.run(server.port, request, connections=STEADY_CONNECTIONS, seconds=seconds, rate=STEADY_RATE)
    return {**counted["ok_from_due"], "failed": _failed(counted) + counted["shed_from_sent"]["count"]}


def overload(server: Server, load: Load, request: Path, seconds: float) -> dict[str, Any]:
    """Capacity in the better of two closed loops, then three times as many."""
    capacity = max(
        load.run(server.port, request, connections=connections, seconds=seconds)["per_second"]
        for connections in CAPACITY_CONNECTIONS
    )
    rate = OVERLOAD * capacity
    counted = load.run(server.port, request, connections=OVERLOAD_CONNECTIONS, seconds=2 * seconds, rate=rate)
    return {
        "capacity_per_second": capacity,
        "offered_per_second": round(rate, 1),
        "goodput_per_second": counted["per_second"],
        "goodput": round(counted["per_second"] / capacity, 3),
        "shed_per_second": counted["shed_per_second"],
        "unsent": counted["unsent"],
        "ok_p99_ms": round(counted["ok_from_sent"].get("p99_us", 0.0) / 1000, 2),
        "shed_max_ms": round(counted["shed_from_sent"].get("max_us", 0.0) / 1000, 2),
        "shed_p99_ms": round(counted["shed_from_sent"].get("p99_us", 0.0) / 1000, 2),
        "failed": _failed(counted),
    }


def _failed(counted: dict[str, Any]) -> int:
    failed: int = counted["errors"] + counted["others"]
    return failed
