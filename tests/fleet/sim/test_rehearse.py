"""Rehearsals: the real tick over a made-up fleet, and the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from edgewright.fleet import sim_cli
from edgewright.fleet.cli import fleet
from edgewright.fleet.core.policy.policy import Policy, policy_from
from edgewright.fleet.core.rows import ReleaseBundle, Rollout
from edgewright.fleet.sim.detectable import Stage, detectable
from edgewright.fleet.sim.fast import rehearse_once
from edgewright.fleet.sim.fates import Fates
from edgewright.fleet.sim.run import Run
from edgewright.fleet.sim.scenario import SCENARIOS
from edgewright.fleet.sim.trace import TracedBoard, made_up, trace_to_json


def policy(**fields: Any) -> Policy:
    return policy_from({"horizonSeconds": 3600} | fields, where="test")


def run(scenario: str, *, seed: int = 1, boards: dict[str, int] | None = None, **fields: Any) -> Run:
    trace = made_up(boards or {"pi": 300, "jetson": 100}, sites=0)
    return rehearse_once(trace, policy(**fields), SCENARIOS[scenario], seed=seed)


def test_a_good_release_reaches_every_device() -> None:
    found = run("good")
    assert found.state == "completed"
    assert found.ordered == 400
    assert sum(found.waves) == 400
    assert found.bytes_sent == 400 * 4_000_000
    assert found.points[-1].ordered == 400


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert run("bad-build") == run("bad-build")
    assert run("bad-build", seed=2) != run("bad-build")


def test_a_bad_build_is_stopped_and_mostly_by_the_second_wave() -> None:
    found = [run("bad-build", seed=seed) for seed in range(8)]
    assert {one.state for one in found} <= {"rolled_back", "paused"}
    assert {one.stopped_by for one in found} == {"failure"}
    assert sum(one.ordered <= 41 for one in found) >= 6


def test_a_bad_build_on_one_board_stops_that_board_alone() -> None:
    found = run("bad-board", seed=1, waves=["20%", "rest"])
    assert found.halted == ("pi",)
    assert found.state == "completed"
    assert found.exposed < 300
    assert found.ordered - found.exposed == 100, "every jetson"


def test_a_slower_release_is_found_against_its_controls() -> None:
    found = run("slower", boards={"pi": 600}, waves=["30%", "rest"])
    assert (found.state, found.stopped_by) == ("rolled_back", "latency")


def test_drift_of_one_site_stops_nothing() -> None:
    trace = made_up({"pi": 300}, sites=5)
    found = rehearse_once(trace, policy(), SCENARIOS["site-drift"], seed=1)
    assert found.state == "completed"


def test_those_who_are_away_for_weeks_get_no_order_until_they_are_back() -> None:
    found = run("herd", waves=["50%", "rest"])
    assert found.state == "completed"
    assert found.ordered < 300


def test_rates_and_retries_and_approvals_are_the_policys() -> None:
    found = run(
        "good",
        waves=[10, {"add": "rest", "requireApproval": True}],
        control={"fractions": [0]},
        jobExecutionsRolloutConfig={"maximumPerMinute": 10},
        jobExecutionsRetryConfig={"criteriaList": [{"failureType": "ALL", "numberOfRetries": 1}]},
    )
    assert found.state == "completed"
    assert found.hours > 390 / 10 / 60


def test_the_fate_of_a_device_does_not_hang_on_the_rollout() -> None:
    trace = made_up({"pi": 2000}, sites=100)
    fates = Fates(trace, policy(), SCENARIOS["at-limit"], seed=3)
    failing = [fates.of(device.id).fails for device in trace.devices]
    assert failing == [fates.of(device.id).fails for device in trace.devices]
    assert 20 <= sum(failing) <= 62, "2 % of 2,000, within five standard deviations"


def test_failures_cluster_by_site_where_the_scenario_says_so() -> None:
    trace = made_up({"pi": 20_000}, sites=400)
    several = {}
    for name in ("at-limit", "sites"):
        fates = Fates(trace, policy(), SCENARIOS[name], seed=3)
        counts: dict[str, int] = {}
        for device in trace.devices:
            counts[device.site] = counts.get(device.site, 0) + fates.of(device.id).fails
        mean = sum(counts.values()) / 400
        several[name] = sum((count - mean) ** 2 for count in counts.values()) / 400 / mean
    assert several["at-limit"] < 1.4, "binomial: variance over mean is 1 - p"
    assert several["sites"] > 2, "1 + 49 * 0.05 = 3.45"


def test_smaller_faults_are_found_the_more_devices_there_are() -> None:
    rollout = Rollout(
        id="r",
        model="m",
        version="2",
        bundles=(ReleaseBundle(target="pi", digest="d"),),
        policy=policy(),
        seed=0,
        created_s=0,
    )
    stages = [Stage(devices=1, blocks=1), Stage(devices=200, blocks=200), Stage(devices=5000, blocks=500)]
    first, second, third = detectable(rollout, TracedBoard(name="pi"), stages)
    assert first.failure_percentage == pytest.approx(80)
    assert first.accuracy_points is None
    assert second.failure_percentage is not None
    assert third.failure_percentage is not None
    assert 2 < third.failure_percentage < second.failure_percentage < 20
    assert third.accuracy_points is not None
    assert third.slower_percentage is not None
    assert third.slower_percentage > 20, "the limit"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "policy.toml").write_text('waves = [5, "rest"]\n')
    (tmp_path / "trace.json").write_bytes(trace_to_json(made_up({"pi": 60})))
    return str(tmp_path / "policy.toml"), str(tmp_path / "trace.json")


def test_the_command_says_it_as_a_table_as_json_and_as_a_picture(files: tuple[str, str], tmp_path: Path) -> None:
    given = ["rehearse", files[0], "--fleet", files[1], "--runs", "3", "--scenario", "good", "--scenario", "bad-build"]
    table = CliRunner().invoke(fleet, given, env={"COLUMNS": "80"})
    assert table.exit_code == 0, table.output
    columns = "scenario stopped 95 % paused at risk 90 % most failed hours sent by"
    assert columns in [" ".join(line.split()) for line in table.stdout.splitlines()], "whole in 80 columns"
    assert "bad-build" in table.output
    svg = tmp_path / "out.svg"
    told = json.loads(CliRunner().invoke(fleet, [*given, "--json", "--svg", str(svg)]).stdout)
    good, bad = told["outcomes"]
    assert (good["scenario"], good["is_good"], good["runs"]) == ("good", True, 3)
    assert sum(good["states"].values()) == 3
    assert good["stopped"]["percentage"] == 0
    assert bad["stopped"]["runs"] + bad["paused"]["runs"] == 3
    assert [wave["devices"] for wave in told["waves"]][-1] == 60
    assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  (our own file)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--boards", "pi"], "expected BOARD=NUMBER"),
        (["--boards", "pi=0"], "expected 1 to"),
        (["--boards", "pi=9999999"], "expected 1 to"),
        ([], "give a fleet"),
        (["--boards", "pi=1", "--fleet", "x"], "give a fleet"),
        (["--boards", "pi=5", "--runs", "1", "--svg", "/nowhere/x.svg"], "/nowhere is not a folder"),
    ],
)
def test_what_cannot_be_used_is_said(files: tuple[str, str], given: list[str], says: str) -> None:
    found = CliRunner().invoke(fleet, ["rehearse", files[0], *given])
    assert found.exit_code != 0
    assert says in found.output + str(found.exception)


def test_the_help_knows_every_scenario() -> None:
    assert tuple(SCENARIOS) == sim_cli.SCENARIOS
