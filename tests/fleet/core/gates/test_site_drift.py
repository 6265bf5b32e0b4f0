"""Drift of one site is told from drift everywhere and from a release that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from edgewright.fleet.core.gates.attribution import drift_gate
from edgewright.fleet.core.gates.evidence import KnownBundle, TargetEvidence, gather
from edgewright.fleet.core.gates.site_drift import SiteTraffic, drifted_sites
from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.policy.sections import DriftGate
from edgewright.fleet.core.sums.slots import (
    FLEET,
    Slot,
    SlotKey,
    cohort_of,
    cohort_of_site,
    control_cohort_of,
    shape_of,
)
from edgewright.fleet.core.sums.windows import Totals
from edgewright.fleet.core.watch import ENOUGH_BLOCKS

from ..conftest import NEW, OLD, Traffic, World
from ..order_rows import order, rollout
from .test_attribution import SHIFTED, UNSURE, seen

GATE = DriftGate()
USUAL = (0.1,) * 10


@pytest.mark.parametrize(
    ("new", "old", "others", "expected"),
    [
        (SHIFTED, SHIFTED, USUAL, ("north",)),
        (SHIFTED, SHIFTED, SHIFTED, ()),  # everywhere: a matter of the board
        (SHIFTED, USUAL, USUAL, ()),  # the release
        (USUAL, SHIFTED, USUAL, ()),
        (USUAL, USUAL, USUAL, ()),
    ],
)
def test_the_table(
    traffic: Callable[[int], Traffic],
    new: Sequence[float],
    old: Sequence[float],
    others: Sequence[float],
    expected: tuple[str, ...],
) -> None:
    draw = traffic(1)
    reference = draw.calibrated()
    sites = [
        SiteTraffic(site="north", treated=draw.totals(800, inputs=new), control=draw.totals(800, inputs=old)),
        *(
            SiteTraffic(site=site, treated=draw.totals(800, inputs=others), control=draw.totals(800, inputs=others))
            for site in ("south", "west")
        ),
    ]
    assert drifted_sites(sites, reference, reference, GATE) == expected


def test_too_little_traffic_of_one_release_says_nothing(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(2)
    reference = draw.calibrated()
    sites = [
        SiteTraffic(site="north", treated=draw.totals(800, inputs=SHIFTED), control=draw.totals(150, inputs=SHIFTED)),
        SiteTraffic(site="south", treated=draw.totals(800), control=draw.totals(800)),
    ]
    assert drifted_sites(sites, reference, reference, GATE) == ()
    assert drifted_sites(sites, reference, None, GATE) == ("north",), "a first release has no other to compare with"


def test_a_site_of_which_little_is_known_does_not_make_a_drift_local(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(7)
    reference = draw.calibrated()
    shifted = {"treated": draw.totals(800, inputs=SHIFTED), "control": draw.totals(800, inputs=SHIFTED)}
    sites = [SiteTraffic(site=site, **shifted) for site in ("north", "south")]
    sparse = SiteTraffic(site="west", treated=draw.totals(20), control=draw.totals(20))
    assert drifted_sites([*sites, sparse], reference, reference, GATE) == ()


def slot(bundle: str, cohort: str, totals: Totals, start_s: int = 1000) -> Slot:
    return Slot(key=SlotKey(cohort, bundle, start_s, 10, shape_of(totals.histograms)), totals=totals)


def test_sites_and_controls_are_gathered_from_their_cohorts(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(3)
    reference = draw.calibrated()
    run = rollout(row={"id": "r1", "bundles": World({}, 1).ledger.rollout.bundles, "wave": 0})
    rows = [order(0, None, target="board", dispatched_s=900.0), order(1, None, target="board", arm="control")]
    usual, shifted = draw.totals(500), draw.totals(500, inputs=SHIFTED)
    slots = [
        slot(NEW, cohort_of("r1", 0), usual),
        slot(OLD, control_cohort_of("r1", 0), usual),
        slot(OLD, control_cohort_of("r1", 0), shifted, start_s=50),  # before anything ran the release
        slot(OLD, FLEET, draw.totals(5000)),
        *(slot(bundle, cohort_of_site("north"), shifted) for bundle in (OLD, NEW)),
        *(slot(bundle, cohort_of_site("south"), usual) for bundle in (OLD, NEW)),
    ]
    known = [KnownBundle(digest=digest, target="board", reference=reference) for digest in (OLD, NEW)]
    (found,) = gather(run, rows, slots, [], known)
    assert (found.control_kind, found.control.rows, found.treated.rows) == ("drawn", 500, 500)
    assert found.drifted_sites == ("north",)
    (status,) = [drift_gate("board", found, GATE, wave_over=False)]
    assert (status.drifted_sites, status.data_drift, status.outcome) == (("north",), False, "pass")
    assert "outputs like its controls" in status.reason


def test_pooled_traffic_without_the_say_tells_and_stops_nothing(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(4)
    bad = seen(draw.calibrated(), draw.totals(400, confidence=UNSURE), draw.totals(800))
    little = seen(draw.calibrated(), draw.totals(10), draw.totals(800))

    def status(evidence: TargetEvidence, has_say: bool) -> GateStatus:
        return drift_gate("board", evidence, GATE, wave_over=True, has_say=has_say)

    assert (status(bad, True).outcome, status(bad, True).action) == ("fail", "ROLLBACK")
    assert (status(little, True).outcome, status(little, True).action) == ("inconclusive", "PAUSE")
    for evidence in (bad, little):
        assert (status(evidence, False).outcome, status(evidence, False).action) == ("pass", None)
    assert "bad build" in status(bad, False).reason


@pytest.mark.parametrize(
    ("devices", "policy", "expected"),
    [
        (2 * ENOUGH_BLOCKS - 1, {}, "rolling_back"),  # too few for the tests against controls
        (2 * ENOUGH_BLOCKS, {}, "running"),
        (2 * ENOUGH_BLOCKS, {"control": {"fractions": [0]}}, "rolling_back"),
        (2 * ENOUGH_BLOCKS, {"controlGate": {"enabled": False}}, "rolling_back"),
    ],
)
def test_pooled_traffic_has_the_say_where_no_blocks_will_do(
    traffic: Callable[[int], Traffic], devices: int, policy: dict[str, object], expected: str
) -> None:
    draw = traffic(6)
    world = World({"waves": [4, "rest"]} | policy, devices)
    world.step(10.0)
    world.evidence = (seen(draw.calibrated(), draw.totals(400, confidence=UNSURE), draw.totals(800)),)
    world.step(11.0)
    assert world.state == expected


def test_each_drifted_site_is_named_once_and_not_the_whole_board(traffic: Callable[[int], Traffic]) -> None:
    """Though its pooled inputs left the reference too."""
    world = World({"waves": ["rest"], "controlGate": {"enabled": False}}, 4)
    draw = traffic(5)
    evidence = msgspec.structs.replace(
        seen(draw.calibrated(), draw.totals(800, inputs=SHIFTED), draw.totals(800, inputs=SHIFTED)),
        drifted_sites=("north", "west"),
    )
    world.step(10.0)
    for now_s in (11.0, 12.0):
        world.evidence = (evidence,)
        world.step(now_s)
    assert [alert.key for alert in world.ledger.alerts] == [f"data-drift/r1/board/{site}" for site in ("north", "west")]
    assert "at site north, on the new and the old release" in world.ledger.alerts[0].message
