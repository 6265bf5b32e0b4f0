"""What the fleet shows of rollouts and of drift: read by the API, the console and the command line."""

from __future__ import annotations

from typing import Literal

import msgspec
from sqlalchemy import Connection

from edgewright.bundle.reference import Reference

from .core.drift.report import DriftReport, Totals, drift_report
from .core.gates.prediction_powered import PoweredMean, powered_accuracy
from .core.gates.status import GateStatus
from .core.policy.sections import DriftGate
from .core.rows import Assignment, Rollout
from .store import order_pages, rollouts
from .store.order_pages import BlockCount, OrderCount
from .traffic import Traffic


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout with its orders and what its gates said last."""

    rollout: Rollout
    gates: tuple[GateStatus, ...]
    assignments: tuple[Assignment, ...]
    """In the order in which they were given: all of them, or a page."""
    counts: tuple[OrderCount, ...] = ()
    """Of all orders, whatever the page holds."""
    blocks: dict[str, BlockCount] = {}
    """Of the boards on which controls were drawn."""
    after: int | None = None
    """Ask again with this for the next page; None where this is the last one."""
    next_block: int = 0
    """Blocks before this one have entered the control gates."""


def rollout_view(connection: Connection, rollout: Rollout, gates: tuple[GateStatus, ...]) -> RolloutView:
    """Return a rollout with its orders counted, and none of them."""
    next_block = rollouts.memory_of(connection, rollout.id).next_block
    return RolloutView(
        rollout=rollout,
        gates=gates,
        assignments=(),
        counts=order_pages.counts(connection, rollout.id),
        blocks=order_pages.blocks(connection, rollout.id, next_block=next_block),
        next_block=next_block,
    )


class HistogramView(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's bins: what the calibration data had, and what is live."""

    name: str
    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...]
    reference: tuple[int, ...]
    live: tuple[int, ...]


class DriftView(msgspec.Struct, frozen=True, kw_only=True):
    """Live traffic of one bundle against the reference that came with it."""

    model: str
    version: str
    target: str
    bundle: str
    devices: int
    requests: int
    failures: int
    rows: int
    report: DriftReport
    histograms: tuple[HistogramView, ...]
    """In the reference's order."""
    labelled_accuracy: PoweredMean | None = None
    """From the labels that came back, with the confidences of all other samples; None without labels."""


def drift_view(traffic: Traffic) -> DriftView:
    """Return one bundle's live traffic compared with its reference."""
    bundle, reference, live = traffic.bundle, traffic.reference, traffic.live
    return DriftView(
        model=bundle.model,
        version=bundle.version,
        target=bundle.target,
        bundle=bundle.digest,
        devices=live.devices,
        requests=live.requests,
        failures=live.failures,
        rows=live.rows,
        report=drift_report(reference, live, DriftGate()),
        histograms=_histograms(reference, live),
        labelled_accuracy=powered_accuracy(reference, live),
    )


def _histograms(reference: Reference, live: Totals) -> tuple[HistogramView, ...]:
    if len(live.histograms) != len(reference.histograms):
        return ()
    return tuple(
        HistogramView(
            name=histogram.name,
            kind=histogram.kind,
            edges=histogram.edges,
            reference=histogram.counts,
            live=tuple(counts),
        )
        for histogram, counts in zip(reference.histograms, live.histograms, strict=True)
    )
