"""Reads what the devices of due blocks did: windows of single devices become the observations of the control gates.

What is compared is what happened at the same time: from when the last treated device of the block ran the release. What
a treated device did on the old release after its draw is not the release's doing, and is not counted for it; crashes
and silence count from the draw on, whatever ran.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from edgewright.bundle.reference import Histogram, Reference
from edgewright.runtime.telemetry.records import WindowRecord

from .core.drift.report import estimate_accuracy
from .core.gates.control import drawn_s, observation_s
from .core.gates.evidence import KnownBundle
from .core.gates.labels import labelled_accuracy
from .core.observations import Block, Observation
from .core.rows import Assignment, Rollout
from .store import spans

MOST_RECORDS = 4000
"""Read in one step; more blocks that are due wait for the next one."""
AT_ONCE = 20
"""Blocks that are read in one go."""


class _Seen(NamedTuple):
    assignment: Assignment
    found: Sequence[spans.Found]
    last_seen_s: float | None


def blocks_of(
    connection: Connection,
    rollout: Rollout,
    due: Sequence[tuple[int, list[Assignment]]],
    bundles: Collection[KnownBundle],
    *,
    last_seen_s: Callable[[str], float | None],
) -> list[Block]:
    """Return the first of the due blocks, in their order, with what their devices did; at least some where any is due.

    Args:
        connection: the store.
        rollout: the rollout.
        due: number and assignments of blocks whose observation time is over (core.gates.control.due_blocks).
        bundles: those of the model.
        last_seen_s: says when a device was heard last.
    """
    blocks: list[Block] = []
    records = 0
    known = {bundle.digest: bundle.reference for bundle in bundles}
    for first in range(0, len(due), AT_ONCE):
        if records >= MOST_RECORDS:
            break
        some = due[first : first + AT_ONCE]
        wanted = [span for _, members in some for span in _spans(rollout, members)]
        found: dict[str, list[spans.Found]] = {span.device: [] for span in wanted}
        for each in spans.records_in(connection, rollout.model, wanted):
            found[each.device].append(each)
            records += 1
        for number, members in some:
            seen = [_Seen(one, found[one.device], last_seen_s(one.device)) for one in members]
            observations = _observations(rollout, seen, known)
            blocks.append(Block(number=number, target=members[0].target, observations=observations))
    return blocks


def _spans(rollout: Rollout, members: Sequence[Assignment]) -> list[spans.Span]:
    """Return what is read: where an order was given again, the others are looked at until that one's time is over."""
    until_s = max(map(drawn_s, members)) + observation_s(rollout)
    return [spans.Span(one.device, drawn_s(one), until_s) for one in members]


def _observations(rollout: Rollout, seen: Sequence[_Seen], known: Mapping[str, Reference]) -> tuple[Observation, ...]:
    release = {bundle.target: bundle.digest for bundle in rollout.bundles}
    first = [
        min(records)
        for each in seen
        if each.assignment.arm == "treated"
        and (records := [one.record.window_start_s for one in each.found if _is_release(one, each, release)])
    ]
    since_s = max(first, default=0)
    compared = [_compared(each, release, since_s, known) for each in seen]
    common = _common(known[record.bundle] for records in compared for record in records)
    return tuple(
        _observation(rollout, each, records, known, common) for each, records in zip(seen, compared, strict=True)
    )


def _is_release(one: spans.Found, each: _Seen, release: Mapping[str, str]) -> bool:
    return one.record.bundle == release[each.assignment.target]


def _compared(
    each: _Seen, release: Mapping[str, str], since_s: float, known: Mapping[str, Reference]
) -> list[WindowRecord]:
    """Return the records of one device that speak for its arm, of the bundle with the most traffic among them."""
    is_treated = each.assignment.arm == "treated"
    by_bundle: dict[str, list[WindowRecord]] = {}
    for one in each.found:
        record = one.record
        fits = _is_release(one, each, release) == is_treated and record.bundle in known
        if fits and record.window_start_s >= max(since_s, drawn_s(each.assignment)):
            by_bundle.setdefault(record.bundle, []).append(record)
    return max(by_bundle.values(), key=lambda records: sum(one.requests for one in records), default=[])


def _observation(
    rollout: Rollout,
    each: _Seen,
    records: Sequence[WindowRecord],
    known: Mapping[str, Reference],
    common: Collection[tuple[object, ...]],
) -> Observation:
    given = each.assignment
    reference = known[records[0].bundle] if records else None
    histograms = _histograms(records, reference)
    accuracy = estimate_accuracy(reference, histograms) if reference is not None and histograms else None
    return Observation(
        device=given.device,
        is_treated=given.arm == "treated",
        heard=_was_heard(rollout, each),
        crashes=sum(one.record.crashes for one in each.found if one.record.window_start_s >= drawn_s(given)),
        requests=sum(one.requests for one in records),
        failures=sum(one.failures for one in records),
        rows=sum(one.rows for one in records),
        latency_us_sum=sum(one.latency_us_sum for one in records),
        energy_uj_sum=sum(one.energy_uj_sum for one in records),
        energy_requests=sum(one.energy_requests for one in records),
        accuracy=None if accuracy is None else accuracy.value,
        labelled_accuracy=_labelled(records, reference, histograms),
        shadow_rows=sum(one.shadow_rows for one in records),
        shadow_disagreements=sum(one.shadow_disagreements for one in records),
        inputs=_of_role("input", reference, histograms, common),
        outputs=_of_role("output", reference, histograms, common),
    )


def _was_heard(rollout: Rollout, each: _Seen) -> bool:
    """Tell whether there was a sign of life in the second half of the time."""
    middle_s = drawn_s(each.assignment) + observation_s(rollout) / 2
    if each.last_seen_s is not None and each.last_seen_s >= middle_s:
        return True
    return any(one.record.window_start_s >= middle_s or one.received_s >= middle_s for one in each.found)


def _histograms(records: Sequence[WindowRecord], reference: Reference | None) -> tuple[tuple[int, ...], ...]:
    """Add up the histograms of those records that have the sizes of the reference."""
    if reference is None:
        return ()
    sizes = [len(one.counts) for one in reference.histograms]
    fitting = [one.histograms for one in records if [len(row) for row in one.histograms] == sizes]
    if not fitting:
        return ()
    return tuple(tuple(map(sum, zip(*rows, strict=True))) for rows in zip(*fitting, strict=True))


def _labelled(
    records: Sequence[WindowRecord], reference: Reference | None, histograms: Sequence[Sequence[int]]
) -> float | None:
    told = [(one.labelled, one.labelled_correct) for one in records if one.labelled]
    if reference is None or not told:
        return None
    bins = len(told[0][0])
    if any(len(labelled) != bins or len(correct) != bins for labelled, correct in told):
        return None
    labelled = [sum(column) for column in zip(*(each for each, _ in told), strict=True)]
    correct = [sum(column) for column in zip(*(each for _, each in told), strict=True)]
    return labelled_accuracy(reference, histograms, labelled, correct)


def _signature(histogram: Histogram) -> tuple[object, ...]:
    return histogram.name, histogram.role, histogram.kind, histogram.edges, len(histogram.counts)


def _common(references: Iterable[Reference]) -> set[tuple[object, ...]]:
    """Return the histograms that all these bundles count on the same edges."""
    found = [{_signature(one) for one in reference.histograms} for reference in references]
    return set.intersection(*found) if found else set()


def _of_role(
    role: str,
    reference: Reference | None,
    histograms: Sequence[tuple[int, ...]],
    common: Collection[tuple[object, ...]],
) -> tuple[tuple[int, ...], ...]:
    if reference is None or not histograms:
        return ()
    return tuple(
        counts
        for one, counts in zip(reference.histograms, histograms, strict=True)
        if one.role == role and _signature(one) in common
    )
