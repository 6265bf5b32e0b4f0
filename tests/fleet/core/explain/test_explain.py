"""Decisions computed again from audit entries alone: they agree with what was recorded, and tampering shows."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.explain.explain import NotExplainable, explain
from edgewright.fleet.core.explain.recheck import statements
from edgewright.fleet.core.observations import Observation
from edgewright.fleet.core.rows import Assignment
from edgewright.fleet.trust.audit import AuditEntry, canonical, problems_of

from ..journal import Journal

POLICY: dict[str, Any] = {"waves": [20, "rest"], "horizonSeconds": 100, "driftGate": {"enabled": False}}


def play(world: Journal, phase_of: Callable[[Assignment], str], until_s: int = 3000) -> None:
    for now_s in range(0, until_s, 50):
        world.step(float(now_s))
        for one in world.ordered():
            if one.phase is None:
                world.report(one.device, phase_of(one), float(now_s))
        if world.ledger.rollout.finished_s is not None:
            return


def observe(metric_of: Callable[[bool, random.Random], dict[str, Any]], seed: int = 1) -> Any:
    def observation(one: Assignment) -> Observation:
        draw = random.Random(f"{seed}/{one.device}")
        treated = one.arm == "treated"
        given: dict[str, Any] = {"requests": 100, "rows": 100, "latency_us_sum": int(100 * draw.uniform(900, 1100))}
        return Observation(device=one.device, is_treated=treated, heard=True, **given | metric_of(treated, draw))

    return observation


def less_accurate(treated: bool, draw: random.Random) -> dict[str, Any]:
    return {"accuracy": draw.uniform(0.6, 0.7) if treated else draw.uniform(0.9, 1.0)}


def alike(_treated: bool, draw: random.Random) -> dict[str, Any]:
    shares = [draw.randint(5, 15) for _ in range(10)]
    return {"accuracy": draw.uniform(0.9, 1.0), "outputs": (tuple(shares),), "inputs": (tuple(shares),)}


@pytest.fixture(scope="module")
def good() -> Journal:
    world = Journal(POLICY, 200)
    world.observe = observe(alike)
    play(world, lambda _: "confirmed")
    assert world.state == "completed"
    return world


@pytest.fixture(scope="module")
def failing() -> Journal:
    world = Journal(POLICY, 200, targets=("pi", "jetson"))
    play(world, lambda one: "failed" if one.position % 3 == 0 else "confirmed")
    assert world.state == "rolled_back"
    return world


@pytest.fixture(scope="module")
def inaccurate() -> Journal:
    world = Journal(POLICY | {"waves": [100, "rest"]}, 400)
    world.observe = observe(less_accurate)
    play(world, lambda _: "confirmed")
    assert world.state == "rolled_back"
    return world


def test_a_good_rollout_agrees_at_every_step(good: Journal) -> None:
    found = explain(good.entries)
    assert found.problems == ()
    assert found.agrees
    assert [step.action for step in found.steps] == good.actions()
    assert found.blocks == good.ledger.memory.next_block > 10
    last = found.steps[-1]
    names = {(check.gate, check.target) for check in last.checks}
    assert {("failure", None), ("accuracy", "board"), ("outputs", "board"), ("all", "board")} <= names
    assert all(check.basis == "recomputed" for check in last.checks)


def test_a_stop_for_failed_devices_is_computed_again(failing: Journal) -> None:
    found = explain(failing.entries)
    assert found.agrees, found.problems
    (stop,) = [step for step in found.steps if step.action == "rolling_back"]
    check = stop.checks[0]
    figures = {figure.name: figure.recomputed for figure in check.figures}
    assert check.outcome == "fail"
    assert float(str(figures["e_value"])) >= float(str(figures["e_threshold"]))
    assert figures["e_threshold"] == pytest.approx(1 / (0.05 * found.weights["failure"]))


def test_a_stop_against_the_controls_is_folded_from_the_blocks(inaccurate: Journal) -> None:
    found = explain(inaccurate.entries)
    assert found.agrees, found.problems
    (stop,) = [step for step in found.steps if step.action == "rolling_back"]
    assert stop.checks[0].gate in {"accuracy", "all"}
    assert stop.checks[0].outcome == "fail"
    assert stop.blocks > 0


def test_one_board_that_is_blamed_comes_with_the_proof_over_all() -> None:
    world = Journal(POLICY | {"waves": [60, "rest"]}, 300, targets=("a", "b", "c"))
    play(world, lambda one: "failed" if one.target == "b" and one.position % 2 else "confirmed")
    found = explain(world.entries)
    assert found.agrees, found.problems
    (halt,) = [step for step in found.steps if step.action == "board_halted"]
    assert {check.target for check in halt.checks} >= {"b"}
    assert any(check.outcome == "fail" for check in halt.checks)


def a_little_less_accurate(treated: bool, draw: random.Random) -> dict[str, Any]:
    return {"accuracy": draw.uniform(0.84, 0.86) if treated else draw.uniform(0.89, 0.91)}


@pytest.fixture(scope="module")
def spread() -> Journal:
    """A small loss on all of four boards."""
    world = Journal(POLICY | {"waves": [300, "rest"]}, 600, targets=("a", "b", "c", "d"))
    world.observe = observe(a_little_less_accurate)
    play(world, lambda _: "confirmed")
    assert world.state == "rolled_back"
    return world


def test_a_stop_by_all_boards_together_is_folded_from_their_blocks(spread: Journal) -> None:
    found = explain(spread.entries)
    assert found.agrees, found.problems
    (stop,) = [step for step in found.steps if step.action == "rolling_back"]
    (check,) = stop.checks
    assert (check.target, check.outcome, check.basis) == (None, "fail", "recomputed")
    figures = {figure.name: figure.recomputed for figure in check.figures}
    weight = found.weights["metric over all boards"] * (8 if check.gate == "all" else 1)
    assert figures["e_threshold"] == pytest.approx(1 / (0.05 * weight))
    assert str(figures["without"]) in "abcd"
    assert "board_halted" not in spread.actions(), "no board's own tests had found it"


def test_a_board_that_was_halted_is_left_out_when_the_others_are_computed_again() -> None:
    world = Journal(POLICY | {"waves": [300, "rest"]}, 600, targets=("a", "b", "c", "d"))
    worse, fine = observe(less_accurate), observe(alike)
    world.observe = lambda one: (worse if one.target == "b" else fine)(one)
    play(world, lambda _: "confirmed")
    assert (world.state, [halt.target for halt in world.ledger.rollout.halted]) == ("completed", ["b"])
    found = explain(world.entries)
    assert found.agrees, found.problems
    last = {(check.gate, check.target): check for check in found.steps[-1].checks}[("accuracy", None)]
    assert (last.basis, last.outcome) == ("recomputed", "pass")
    assert {figure.name: figure.recorded for figure in last.figures}["left_out"] == "b"


def test_a_rollout_from_before_boards_were_pooled_is_explained_by_the_weights_of_its_time() -> None:
    world = Journal(POLICY | {"waves": [300, "rest"]}, 600, targets=("a", "b", "c", "d"), gate_design=1)
    del world.entries[0].detail["gate_design"]
    world.observe = observe(a_little_less_accurate)
    play(world, lambda _: "confirmed")
    found = explain(world.entries)
    assert found.agrees, found.problems
    assert found.blocks > 0
    assert found.weights["metric over all boards"] == 0.0
    checks = [check for step in found.steps for check in step.checks if check.target is None]
    assert {check.gate for check in checks} <= {"failure", "all"}


def changed(entries: list[AuditEntry], action: str, change: Callable[[dict[str, Any]], None]) -> list[AuditEntry]:
    """Return the entries with one of them changed; its digest is not looked at here."""
    found = list(entries)
    place = next(place for place, one in enumerate(found) if one.action == f"rollout.{action}")
    detail = copy.deepcopy(found[place].detail)
    change(detail)
    found[place] = msgspec.structs.replace(found[place], detail=detail)
    return found


def raise_e(detail: dict[str, Any]) -> None:
    detail["numbers"]["e_value"] *= 1.001


def leave_out(detail: dict[str, Any]) -> None:
    detail["numbers"]["left_out"] = "a b"


def blame_another(detail: dict[str, Any]) -> None:
    detail["numbers"]["without"] = "nobody"


def raise_the_rest(detail: dict[str, Any]) -> None:
    detail["numbers"]["e_value_without"] *= 1.001


@pytest.mark.parametrize("change", [raise_e, leave_out, blame_another, raise_the_rest])
def test_a_changed_proof_over_all_boards_is_found(spread: Journal, change: Callable[[dict[str, Any]], None]) -> None:
    found = explain(changed(spread.entries, "rolling_back", change))
    assert any("(rolling_back)" in problem for problem in found.problems)


def test_a_wave_of_one_that_failed_and_a_person_who_resumed() -> None:
    world = Journal({**POLICY, "waves": [1, "rest"], "control": {"fractions": [0]}}, 10)
    play(world, lambda _: "failed", until_s=300)
    assert explain(world.entries).agrees
    paused = Journal({**POLICY, "waves": [2, "rest"], "control": {"fractions": [0]}}, 10)
    paused.step(0.0)
    first, second = paused.ordered()
    paused.report(first.device, "failed", 1.0)
    paused.report(second.device, "confirmed", 1.0)
    paused.step(2.0)
    assert paused.state == "paused"
    paused.press("resume", 3.0)
    play(paused, lambda _: "confirmed")
    found = explain(paused.entries)
    assert found.agrees, found.problems
    assert "resumed" in [step.action for step in found.steps]


def test_fixed_thresholds_are_computed_again() -> None:
    criterion = {"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 5, "minNumberOfExecutedThings": 4}
    policy = {**POLICY, "failureGate": {"enabled": False}, "abortConfig": {"criteriaList": [criterion]}}
    world = Journal(policy, 60)
    play(world, lambda one: "failed" if one.position % 4 == 0 else "confirmed")
    found = explain(world.entries)
    assert world.state == "aborted"
    assert found.agrees, found.problems
    assert [check.outcome for step in found.steps for check in step.checks if step.action == "aborted"] == ["fail"]


def move_a_failure(detail: dict[str, Any]) -> None:
    *before, last = detail["numbers"]["failed_at"].split()
    detail["numbers"]["failed_at"] = " ".join([*before, str(int(last) + 1)])


def disorder_failures(detail: dict[str, Any]) -> None:
    first, second, *rest = detail["numbers"]["failed_at"].split()
    detail["numbers"]["failed_at"] = " ".join([second, first, *rest])


def move_the_peak(detail: dict[str, Any]) -> None:
    detail["numbers"]["peak_failures"] += 1


def hide_failures(detail: dict[str, Any]) -> None:
    detail["numbers"]["failures"] = 1


def soften(detail: dict[str, Any]) -> None:
    detail["policy"]["failureGate"]["maxFailurePercentage"] = 50.0


def drop_numbers(detail: dict[str, Any]) -> None:
    del detail["numbers"]["failed_at"]


@pytest.mark.parametrize(
    "change", [raise_e, move_a_failure, disorder_failures, move_the_peak, hide_failures, drop_numbers]
)
def test_a_changed_decision_is_found(failing: Journal, change: Callable[[dict[str, Any]], None]) -> None:
    found = explain(changed(failing.entries, "rolling_back", change))
    assert not found.agrees
    assert any("(rolling_back)" in problem for problem in found.problems)


def test_a_policy_that_was_changed_afterwards_is_found(failing: Journal) -> None:
    found = explain(changed(failing.entries, "created", soften))
    assert any("limit_percentage is recorded as" in problem for problem in found.problems)
    assert any("no reason for it" in problem for problem in found.problems)


def turn_round(detail: dict[str, Any]) -> None:
    values = detail["blocks"][0]["values"]
    values["accuracy"] = [-each for each in values["accuracy"]]


def nonsense(detail: dict[str, Any]) -> None:
    detail["blocks"][0]["values"]["accuracy"] = [7.0]


def empty(detail: dict[str, Any]) -> None:
    detail["blocks"][0]["values"]["accuracy"] = []


def renumber(detail: dict[str, Any]) -> None:
    detail["blocks"][0]["number"] += 1


@pytest.mark.parametrize("change", [turn_round, nonsense, empty, renumber])
def test_changed_evidence_is_found(inaccurate: Journal, change: Callable[[dict[str, Any]], None]) -> None:
    assert not explain(changed(inaccurate.entries, "evidence", change)).agrees


def test_evidence_that_was_taken_away_is_found(inaccurate: Journal) -> None:
    kept = [one for one in inaccurate.entries if one.action != "rollout.evidence"]
    found = explain(kept)
    assert any("no block that was learnt before speaks of it" in problem for problem in found.problems)


def test_a_pass_that_the_numbers_forbid_is_found(failing: Journal) -> None:
    stop = next(one for one in failing.entries if one.action == "rollout.rolling_back")
    numbers = {f"failure: {name}": value for name, value in stop.detail["numbers"].items() if name != "gate"}
    passed = msgspec.structs.replace(
        stop, action="rollout.wave_passed", detail={"wave": 0, "reason": "fine", "numbers": numbers}
    )
    found = explain([one if one is not stop else passed for one in failing.entries])
    assert any("had failed by the recomputed numbers" in problem for problem in found.problems)


def test_without_its_creation_there_is_nothing_to_explain(good: Journal) -> None:
    for entries in (good.entries[1:], []):
        with pytest.raises(NotExplainable, match=r"do not begin with `rollout\.created`"):
            explain(entries)
    broken = changed(good.entries, "created", lambda detail: detail.pop("bundles"))
    with pytest.raises(NotExplainable, match="entry 1 does not say how the rollout was made: 'bundles'"):
        explain(broken)


def test_a_gate_that_is_not_an_e_process_is_only_recorded_and_a_storm_is_counted_again(failing: Journal) -> None:
    def decision(action: str, numbers: dict[str, Any]) -> list[AuditEntry]:
        detail = {"wave": 0, "reason": "", "numbers": numbers}
        entry = msgspec.structs.replace(failing.entries[1], action=f"rollout.{action}", actor="gate", detail=detail)
        return [failing.entries[0], entry]

    drift = explain(decision("paused", {"gate": "drift", "target": "pi", "samples": 5}))
    assert drift.agrees
    assert drift.steps[0].checks[0].basis == "recorded"
    storm = {"gate": "storm", "target": None, "devices": 10, "orders_last_day": 31, "limit_per_device": 3.0}
    assert explain(decision("paused", storm)).agrees
    calm = explain(decision("paused", storm | {"orders_last_day": 29}))
    assert "the recomputed numbers are no reason for it" in calm.problems[0]
    floor = {"gate": "floor", "target": "pi", "security_epoch": 1, "security_floor": 2, "action": "CANCEL"}
    assert explain(decision("board_halted", floor)).agrees
    assert not explain(decision("board_halted", floor | {"security_epoch": 2})).agrees


def test_numbers_are_told_apart_by_gate_and_board() -> None:
    spoken, others = statements({"failure: failures": 1, "failure/a/b: failures": 2, "size": 5})
    assert spoken == {("failure", None): {"failures": 1}, ("failure", "a/b"): {"failures": 2}}
    assert others == {"size": 5}
    assert statements({"gate": "failure", "target": "pi", "x": 1}) == ({("failure", "pi"): {"x": 1}}, {})


JUNK = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
ANY = st.recursive(
    JUNK, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to everything inside a detail."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*path,)] * bool(path) + [leaf for key, each in inside for leaf in leaves(each, (*path, key))]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_written_into_an_entry_is_found_and_breaks_nothing(
    data: st.DataObject, inaccurate: Journal
) -> None:
    entries = list(inaccurate.entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    detail = copy.deepcopy(entries[place].detail)
    path = data.draw(st.sampled_from(leaves(detail)))
    inside = detail
    for key in path[:-1]:
        inside = inside[key]
    junk = data.draw(ANY)
    assume(canonical({"": junk}) != canonical({"": inside[path[-1]]}))
    inside[path[-1]] = junk
    entries[place] = msgspec.structs.replace(entries[place], detail=detail)
    try:
        found = explain(entries, problems_of(entries))
    except NotExplainable:
        return
    assert not found.agrees
