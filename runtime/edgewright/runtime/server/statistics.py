"""What a served model has done: plain integers, changed on the event loop, read by /stats and by /metrics."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from ..control import BreakerState
from ..telemetry.records import LATENCY_EDGES_US

BATCH_SIZES_KEPT = 128
"""Clients choose sizes; so many of them are counted one by one."""


@dataclass(slots=True)
class Duration:
    """How often something was done and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def as_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class BatchStatistics:
    """Runs of the engine with batches of one size."""

    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelStatistics:
    """Totals since the model was loaded by this run of the server."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    """Requests that were answered from the cache, and the time that looking up took."""
    cache_miss: Duration = field(default_factory=Duration)
    """Requests that were executed and then kept, and the time for looking up and keeping."""
    rows: int = 0
    executions: int = 0
    """Runs of the engine: fewer than requests where these came in batches."""
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    """By rows, up to `BATCH_SIZES_KEPT` sizes."""
    expired: int = 0
    """Requests whose deadline was over before they began (504)."""
    cancelled: int = 0
    """Requests whose client was gone before they began."""
    shed: int = 0
    """Requests that were refused because too much waited (503)."""
    last_inference_ms: int = 0
    observer_errors: int = 0
    breaker: BreakerState = "closed"
    worker_restarts: int = 0
    """How often the model's own process was started again."""
    refused: int = 0
    """Requests that did not fit the model (4xx): never executed, never counted in telemetry."""
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES_US) + 1))

    def add_ended(self, answered_ns: list[int], failed_ns: list[int]) -> list[int]:
        """Count requests that ended together, by their latencies; return these in microseconds."""
        if answered_ns:
            self.success.add(sum(answered_ns), len(answered_ns))
        if failed_ns:
            self.fail.add(sum(failed_ns), len(failed_ns))
        bins, latencies_us = self.latency, [latency_ns // 1000 for latency_ns in answered_ns + failed_ns]
        for latency_us in latencies_us:
            bins[bisect_right(LATENCY_EDGES_US, latency_us)] += 1
        return latencies_us

    def add_steps(self, count: int, queue_ns: int, input_ns: int, infer_ns: int) -> None:
        """Add what the steps of so many requests took in all."""
        queue, read, infer = self.queue, self.compute_input, self.compute_infer
        queue.count += count
        queue.ns += queue_ns
        read.count += count
        read.ns += input_ns
        infer.count += count
        infer.ns += infer_ns

    def add_batch(self, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count a run of the engine."""
        self.executions += 1
        batch = self.batches.get(rows)
        if batch is None:
            if len(self.batches) >= BATCH_SIZES_KEPT:
                return
            batch = self.batches[rows] = BatchStatistics()
        batch.input.add(input_ns)
        batch.infer.add(infer_ns)
        batch.output.add(output_ns)

    def as_json(self, name: str, version: str) -> dict[str, Any]:
        """Return one entry of `model_stats`, as the statistics extension spells it."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.rows,
            "execution_count": self.executions,
            "inference_stats": {
                "success": self.success.as_json(),
                "fail": self.fail.as_json(),
                "queue": self.queue.as_json(),
                "compute_input": self.compute_input.as_json(),
                "compute_infer": self.compute_infer.as_json(),
                "compute_output": self.compute_output.as_json(),
                "cache_hit": self.cache_hit.as_json(),
                "cache_miss": self.cache_miss.as_json(),
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": batch.input.as_json(),
                    "compute_infer": batch.infer.as_json(),
                    "compute_output": batch.output.as_json(),
                }
                for rows, batch in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }
