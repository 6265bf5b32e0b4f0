"""Which traffic speaks for the new release, and which for the old."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from edgewright.fleet.core.gates.evidence import KnownBundle, TargetEvidence, gather
from edgewright.fleet.core.rows import Assignment
from edgewright.fleet.core.sums.slots import FLEET, Reporting, Slot, SlotKey, cohort_of, shape_of
from edgewright.fleet.core.sums.windows import Totals

from ..conftest import NEW, OLD, Traffic, World

WAVE = cohort_of("r1", 0)


def slot(bundle: str, start_s: int, *, cohort: str = FLEET, rows: int = 10, length_s: int = 10) -> Slot:
    histograms = ((rows,) + (0,) * 9, (rows, 0, 0, 0), (rows, 0, 0, 0, 0, 0))
    return Slot(
        key=SlotKey(cohort, bundle, start_s, length_s, shape_of(histograms)),
        totals=Totals(windows=1, requests=rows, rows=rows, latency=(rows,), histograms=histograms),
    )


def started(devices: int = 3) -> tuple[World, Assignment]:
    world = World({"waves": [1, "rest"], "control": {"fractions": [0]}}, devices)
    world.step(1000.0)
    (order,) = world.ledger.assignments
    return world, order


def evidence_of(
    world: World,
    order: Assignment,
    slots: Sequence[Slot],
    traffic: Callable[[int], Traffic],
    *,
    reporting: Sequence[Reporting] = (),
    bundles: Sequence[str] = (OLD, NEW),
) -> TargetEvidence:
    reference = traffic(1).calibrated()
    known = [KnownBundle(digest=digest, target="board", reference=reference) for digest in bundles]
    (evidence,) = gather(world.ledger.rollout, [order], slots, reporting, known)
    return evidence


def test_treated_and_concurrent_control(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    others = [device.id for device in world.devices if device.id != order.device]
    slots = [
        slot(NEW, 1000, cohort=WAVE),
        slot(NEW, 1010, cohort=WAVE),
        slot(NEW, 1000, rows=70),  # the fleet's sum has others in it: an earlier try, or another wave
        slot(OLD, 1000, rows=25),
        slot(OLD, 1000, cohort=WAVE, rows=5),  # the device itself, before it had switched
        slot(OLD, 1010),
        slot(OLD, 1030),  # no device on the new release in that window
        slot(OLD, 990, rows=500),  # before: not concurrent
        slot("sha256:unknown", 1000, rows=90),
    ]
    reporting = [
        Reporting(device=order.device, bundle=NEW, ends_s=1020),
        Reporting(device=others[0], bundle=NEW, ends_s=1020),  # not of this wave
        Reporting(device=others[0], bundle=OLD, ends_s=1010),
        Reporting(device=others[1], bundle=OLD, ends_s=1020),
        Reporting(device="gone", bundle=OLD, ends_s=1000),  # was silent when the wave began
    ]
    evidence = evidence_of(world, order, slots, traffic, reporting=reporting)
    assert (evidence.treated.rows, evidence.treated.devices) == (20, 1)
    assert (evidence.control_kind, evidence.control.rows, evidence.control.devices) == ("concurrent", 30, 2)
    assert evidence.control_reference == traffic(1).calibrated()


def test_where_too_few_are_left_on_the_old_release_the_time_before_the_wave_is_taken(
    traffic: Callable[[int], Traffic],
) -> None:
    world, order = started(devices=1)
    few = slot(OLD, 1000, rows=2)
    before = slot(OLD, 990, rows=30)
    during = slot(OLD, 995, rows=40)  # ends after the order
    evidence = evidence_of(world, order, [slot(NEW, 1000, cohort=WAVE), few, before, during], traffic)
    assert (evidence.control_kind, evidence.control.rows) == ("before", 30)


def test_a_first_release_has_no_control(traffic: Callable[[int], Traffic]) -> None:
    world, order = started(devices=1)
    evidence = evidence_of(world, order, [slot(NEW, 1000, cohort=WAVE)], traffic, bundles=[NEW])
    assert (evidence.control_kind, evidence.control.rows, evidence.control_reference) == ("none", 0, None)


def test_of_several_old_bundles_the_busiest_is_taken(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    slots = [slot(NEW, 1000, cohort=WAVE), slot(OLD, 1000, rows=11), slot("sha256:older", 1000, rows=12)]
    evidence = evidence_of(world, order, slots, traffic, bundles=[OLD, NEW, "sha256:older"])
    assert evidence.control.rows == 12


def test_counts_that_do_not_fit_the_reference_are_left_out(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    good = slot(NEW, 1000, cohort=WAVE)
    odd = msgspec.structs.replace(good, key=good.key._replace(shape=shape_of(((0, 0),))))
    assert evidence_of(world, order, [good, odd], traffic).treated.rows == 10


def test_an_earlier_wave_does_not_vouch_for_a_later_one(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    later = msgspec.structs.replace(world.ledger.rollout, wave=1)
    known = [KnownBundle(digest=NEW, target="board", reference=traffic(1).calibrated())]
    assert gather(later, [order], [slot(NEW, 1000, cohort=WAVE)], [], known) == ()
