"""What the devices of a block did, from their windows to what the gates have learnt."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgewright.bundle.reference import Histogram, Reference, Source
from edgewright.fleet.core.gates.evidence import KnownBundle
from edgewright.fleet.core.gates.labels import labelled_accuracy
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import Arm, Assignment, ReleaseBundle, Rollout
from edgewright.fleet.observing import blocks_of
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.windows import put_windows
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord
from tests.fleet.house import House
from tests.fleet.test_whole_fleet import SERVING, Fleet6

START_S = 1_700_000_040
OLD, NEW = "sha256:old", "sha256:new"


def histogram(name: str, role: str, bins: int, statistic: str = "mean", step: float = 1.0) -> Histogram:
    return Histogram(
        name=name,
        role=role,  # type: ignore[arg-type]
        kind="numeric",
        edges=tuple(step * edge for edge in range(1, bins)),
        counts=(10,) * bins,
        source=Source(tensor="x", statistic=statistic),  # type: ignore[arg-type]
    )


def reference(*, step: float = 1.0) -> Reference:
    return Reference(
        histograms=(
            histogram("x", "input", 3),
            histogram("z", "input", 3, step=step),
            histogram("confidence", "output", 2, "confidence"),
        ),
        confidence_table=(0.5, 1.0),
    )


BUNDLES = [
    KnownBundle(digest=OLD, target="board", reference=reference()),
    KnownBundle(digest=NEW, target="board", reference=reference(step=2.0)),
]
ROLLOUT = Rollout(
    id="r",
    model="m",
    version="2",
    bundles=(ReleaseBundle(target="board", digest=NEW),),
    policy=policy_from({"control": {"observationSeconds": 600}}, where="test"),
    seed=1,
    created_s=0.0,
)


def member(device: str, arm: Arm) -> Assignment:
    return Assignment(
        device=device,
        target="board",
        wave=0,
        position=0,
        version="2",
        bundle=NEW,
        previous_version="1",
        previous_bundle=OLD,
        command=device,
        dispatched_s=START_S,
        drawn_s=START_S,
        arm=arm,
        block=0,
    )


def window(minute: int, bundle: str, requests: int = 10, *, crashes: int = 0) -> WindowRecord:
    return WindowRecord(
        model="m",
        version="1" if bundle == OLD else "2",
        bundle=bundle,
        reference="r",
        window_start_s=START_S + 60 * minute,
        window_s=60,
        boot="b",
        incarnation="i",
        seq=1,
        closed=True,
        requests=requests,
        failures=1,
        rows=requests,
        latency_us_sum=100 * requests,
        latency=(0,) * (len(LATENCY_EDGES_US) + 1),
        histograms=((requests, 0, 0), (0, requests, 0), (requests // 2, requests - requests // 2)),
        crashes=crashes,
        labelled=(2, 2),
        labelled_correct=(1, 1),
    )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


def test_both_arms_are_compared_over_the_time_in_which_the_release_ran(database: Database) -> None:
    found = [("treated", window(0, OLD, 1000)), ("treated", window(2, NEW)), ("treated", window(3, NEW, crashes=1))]
    found += [("control", window(minute, OLD, 20)) for minute in (-1, 0, 1, 2, 3, 10)]
    with database.write() as connection:
        put_windows(connection, found, now_s=START_S)
    due = [(0, [member("control", "graduated"), member("treated", "treated")])]
    with database.read() as connection:
        (block,) = blocks_of(connection, ROLLOUT, due, BUNDLES, last_seen_s=lambda _: None)
    control, treated = block.observations
    assert (control.is_treated, treated.is_treated) == (False, True)
    assert (treated.requests, control.requests) == (20, 40), "minutes 2 and 3; minute 10 is over the time"
    assert (treated.failures, treated.latency_us_sum, treated.crashes) == (2, 2000, 1)
    assert treated.inputs == ((20, 0, 0),), "`z` is counted on other edges by the other bundle"
    assert treated.outputs == ((10, 10),)
    assert treated.accuracy == 0.75
    assert treated.labelled_accuracy == pytest.approx(0.75 + 0.5 - 0.75)
    assert not treated.heard, "its last sign of life was in the first half of ten minutes"
    database.close()


def test_controls_are_looked_at_until_an_order_that_was_given_again_was_observed(database: Database) -> None:
    again = msgspec.structs.replace(member("treated", "treated"), drawn_s=None, dispatched_s=START_S + 900, attempt=2)
    found = [("treated", window(16, NEW)), ("control", window(16, OLD)), ("control", window(20, OLD))]
    with database.write() as connection:
        put_windows(connection, found, now_s=START_S)
    with database.read() as connection:
        due = [(0, [member("control", "control"), again])]
        (block,) = blocks_of(connection, ROLLOUT, due, BUNDLES, last_seen_s=lambda _: None)
    assert [one.requests for one in block.observations] == [20, 10]
    database.close()


def test_a_device_that_says_nothing_is_there_with_nothing(database: Database) -> None:
    due = [(4, [member("a", "control"), member("b", "treated")])]
    with database.read() as connection:
        (block,) = blocks_of(connection, ROLLOUT, due, BUNDLES, last_seen_s={"a": START_S + 599.0}.get)
    assert block.number == 4
    assert [(one.heard, one.requests, one.accuracy) for one in block.observations] == [
        (True, 0, None),
        (False, 0, None),
    ]
    database.close()


def test_labels_correct_what_the_confidences_promise() -> None:
    rows = ((0, 0, 0), (0, 0, 0), (50, 50))
    assert labelled_accuracy(reference(), rows, (0, 0), (0, 0)) is None
    assert labelled_accuracy(reference(), rows, (10, 10), (5, 10)) == pytest.approx(0.75), "they were right"
    assert labelled_accuracy(reference(), rows, (10, 10), (0, 0)) == 0.0, "they were wrong about everything"
    assert labelled_accuracy(reference(), rows, (10, 10), (11, 10)) is None, "a device that lies"
    assert labelled_accuracy(Reference(histograms=(), confidence_table=None), (), (4,), (3,)) == 0.75


def test_what_the_gates_learn_is_stored_with_the_rollout_and_in_the_log(house: House, tmp_path: Path) -> None:
    fleet = Fleet6(house, tmp_path, {"1": SERVING, "2": SERVING})
    rollout = fleet.roll_out("2", {"waves": [2, "rest"], "horizonSeconds": 300, "driftGate": {"enabled": False}})
    view = house.fleet.rollout(rollout)
    assert view.next_block > 0
    entries = [
        entry
        for entry in house.fleet.audit(limit=200, subject=f"rollout:{rollout}")
        if entry.action == "rollout.evidence"
    ]
    learnt = [block for entry in reversed(entries) for block in entry.detail["blocks"]]
    assert [block["number"] for block in learnt] == list(range(view.next_block)), "each once, in order, without a gap"
    assert {"errors", "latency", "outputs", "silence"} <= set(learnt[0]["values"])
    house.restart()
    assert house.fleet.rollout(rollout).next_block == view.next_block
