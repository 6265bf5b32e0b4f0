"""Which earlier releases of a model did well: the ways back, with how badly each fits the present data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from edgewright.bundle.reference import Histogram

from .core.drift import divergence
from .core.gates.evidence import KnownBundle
from .core.rows import ReleaseBundle, Rollout
from .core.situation import GoodRelease
from .core.sums.slots import FLEET, Slot, shape_of_reference
from .core.sums.windows import sum_of
from .store import releases, rollouts, totals

MIN_SAMPLES = 200
"""Fewer samples than this say nothing about a misfit."""
PRESENT_S = 3600.0
"""The present data are those of this last stretch of time."""
DID_WELL = frozenset({"completed", "following", "superseded"})


def good_releases(
    connection: Connection, model: str, bundles: Collection[KnownBundle], *, now_s: float, until_s: float
) -> tuple[GoodRelease, ...]:
    """Return the releases of a model that a rollout brought out to its end, board by board, newest first.

    A board that was halted is left out, and so is a release that a later rollout of it took back.
    """
    ended = _ended_well(rollouts.every(connection), model)
    known = {bundle.digest: bundle for bundle in bundles}
    slots = totals.slots_of(connection, list(known), since_s=now_s - PRESENT_S, until_s=until_s)
    epoch_of = releases.epochs(connection)
    return tuple(
        GoodRelease(
            version=rollout.version,
            bundle=bundle,
            security_epoch=epoch_of.get(bundle.digest, 0),
            misfit=misfit(known[bundle.digest], slots, known),
        )
        for rollout, bundle in ended
        if bundle.digest in known
    )


def _ended_well(every: Iterable[Rollout], model: str) -> list[tuple[Rollout, ReleaseBundle]]:
    """Return the newest word on each bundle, newest first; `every` is newest first."""
    seen: set[str] = set()
    found = []
    for rollout in every:
        if rollout.model != model:
            continue
        halted = {halt.target for halt in rollout.halted}
        for bundle in rollout.bundles:
            if bundle.digest not in seen and rollout.state in DID_WELL and bundle.target not in halted:
                found.append((rollout, bundle))
            seen.add(bundle.digest)
    return found


def misfit(bundle: KnownBundle, slots: Sequence[Slot], known: Mapping[str, KnownBundle]) -> float | None:
    """Return the largest PSI of the board's present inputs against a reference; None where too little can be compared.

    Inputs are counted on the edges of the bundle that a device runs, so only features that both bundles count on the
    same edges can be compared.
    """
    counted: dict[tuple[object, ...], list[int]] = {}
    for other in known.values():
        if other.target == bundle.target:
            _add(counted, other, slots)
    values = []
    for histogram in bundle.reference.histograms:
        live = counted.get(_signature(histogram))
        if histogram.role == "input" and live is not None and sum(live) >= MIN_SAMPLES:
            join = divergence.join_neighbours if histogram.kind == "numeric" else divergence.join_rare
            values.append(divergence.psi(*join(live, histogram.counts)))
    return max(values, default=None)


def _add(counted: dict[tuple[object, ...], list[int]], bundle: KnownBundle, slots: Sequence[Slot]) -> None:
    shape = shape_of_reference(bundle.reference)
    live = sum_of(
        slot.totals
        for slot in slots
        if slot.key.cohort == FLEET and slot.key.bundle == bundle.digest and slot.key.shape == shape
    )
    for histogram, counts in zip(bundle.reference.histograms, live.histograms, strict=False):
        before = counted.setdefault(_signature(histogram), [0] * len(counts))
        counted[_signature(histogram)] = [one + other for one, other in zip(before, counts, strict=True)]


def _signature(histogram: Histogram) -> tuple[object, ...]:
    return histogram.name, histogram.role, histogram.kind, histogram.edges, len(histogram.counts)
