"""Blocks of an experiment on requests: one device, one window, two releases that shared its requests by chance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from edgewright.bundle.reference import Reference
from edgewright.runtime.telemetry.records import WindowRecord

from .core.drift.report import estimate_accuracy
from .core.experiment import Experiment
from .core.gates.evidence import KnownBundle
from .core.gates.labels import labelled_accuracy
from .core.observations import Block, Observation
from .core.sums.windows import amounts, sum_of
from .store.spans import Found


def request_blocks(
    experiment: Experiment, found: Iterable[Found], bundles: Collection[KnownBundle], *, first: int
) -> list[Block]:
    """Return a block for each device and window in which both releases answered, in the order that they come in."""
    known = {bundle.digest: bundle.reference for bundle in bundles}
    target_of = {bundle.digest: bundle.target for bundle in (*experiment.candidate, *experiment.baseline)}
    arms: dict[tuple[str, int, int], tuple[list[WindowRecord], list[WindowRecord]]] = {}
    new = {bundle.digest for bundle in experiment.candidate}
    for device, record, _ in found:
        if record.bundle in known and record.bundle in target_of and record.requests:
            place = (device, record.window_start_s, record.window_s)
            arms.setdefault(place, ([], []))[record.bundle not in new].append(record)
    both = [(place, arm) for place, arm in arms.items() if arm[0] and arm[1]]
    return [
        Block(
            number=first + number,
            target=target_of[arm[0][0].bundle],
            observations=tuple(
                _observation(place[0], records, known, is_treated=slot == 0) for slot, records in enumerate(arm)
            ),
        )
        for number, (place, arm) in enumerate(both)
    ]


def _observation(
    device: str, records: Sequence[WindowRecord], known: Mapping[str, Reference], *, is_treated: bool
) -> Observation:
    reference = known[records[0].bundle]
    sizes = [len(one.counts) for one in reference.histograms]
    of_one = [one for one in records if one.bundle == records[0].bundle]
    counts = sum_of(amounts(one) for one in of_one if [len(row) for row in one.histograms] == sizes)
    accuracy = estimate_accuracy(reference, counts.histograms) if counts.histograms else None
    fits = len(counts.labelled) == len(counts.labelled_correct) > 0
    labels = labelled_accuracy(reference, counts.histograms, counts.labelled, counts.labelled_correct) if fits else None
    return Observation(
        device=device,
        is_treated=is_treated,
        heard=True,
        requests=sum(one.requests for one in of_one),
        failures=sum(one.failures for one in of_one),
        rows=sum(one.rows for one in of_one),
        latency_us_sum=sum(one.latency_us_sum for one in of_one),
        energy_uj_sum=sum(one.energy_uj_sum for one in of_one),
        energy_requests=sum(one.energy_requests for one in of_one),
        accuracy=None if accuracy is None else accuracy.value,
        labelled_accuracy=labels,
    )
