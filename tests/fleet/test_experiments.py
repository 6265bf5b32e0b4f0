"""Experiments through store, devices and API."""

from __future__ import annotations

import io
import random
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have a package that is not pinned here
    from fastapi.testclient import TestClient

from edgewright.fleet import experiment_cli, experiment_tables
from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.core.experiment import METRICS
from edgewright.fleet.experiment_cli import experiment
from edgewright.fleet.experimenting import Experimenting
from edgewright.fleet.faults import ConflictError, NotFoundError
from edgewright.fleet.sim.device import Behaviour, VirtualDevice
from edgewright.fleet.store import experiments, windows
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord
from edgewright.targets.faults import UserFault
from tests.fleet.house import STARTED_S, House

HOUR_S = 3600
DEVICES = 12
PLAN = {"model": "digits", "baseline": "1", "candidate": "2", "observation_s": 600.0}

AT_ONCE = {
    "waves": ["rest"],
    "probationSeconds": 1.0,
    "horizonSeconds": 600.0,
    "driftGate": {"enabled": False},
    "controlGate": {"enabled": False},
}


class Street(House):
    """A house whose devices run release 1, and a release 2 that waits."""

    def settle(self, folder: Path) -> None:
        self.experimenting = Experimenting(self.fleet)
        self.digests = {version: self.release(folder, version) for version in ("1", "2")}
        self.failing = {self.digests["2"]: 0.0}
        self.virtual = [self.enrol(f"dev-{number:02d}", self.behaviour, seed=number) for number in range(DEVICES)]
        self.step(connecting=True)
        self.fleet.create_rollout("digits", "1", AT_ONCE)
        while self.fleet.rollouts()[0].state == "running" and self.clock.now_s < STARTED_S + HOUR_S:
            self.step(seconds=30)
        assert self.fleet.rollouts()[0].state in {"completed", "following"}

    def behaviour(self, bundle: str) -> Behaviour:
        return Behaviour(requests_per_step=4, weights=((1,) * 3,) * 3, failure_rate=self.failing.get(bundle, 0.0))

    def on(self, version: str) -> list[VirtualDevice]:
        return [one for one in self.virtual if one.active and one.active.bundle == self.digests[version]]


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    street = Street(tmp_path / "data")
    street.settle(tmp_path)
    yield street
    street.close()


def test_half_of_the_devices_get_the_candidate_and_go_back_at_the_end(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    assert made.devices == (6, 6)
    street.run(lambda: len(street.on("2")) == 6)
    street.step(seconds=700)
    street.step()
    shown = street.experimenting.status(made.experiment.id)
    assert shown.result.primary.blocks == 6
    assert shown.result.sample_ratio.candidate == 6
    assert not shown.result.sample_ratio.mismatch
    assert street.experimenting.stop(made.experiment.id, reason="enough").experiment.state == "stopped"
    street.run(lambda: len(street.on("1")) == DEVICES)
    with pytest.raises(ConflictError, match="has ended"):
        street.experimenting.stop(made.experiment.id, reason="again")
    actions = [entry.action for entry in street.fleet.audit(limit=10)]
    assert actions[:2] == ["experiment.stopped", "experiment.created"]


def test_what_was_learnt_survives_a_kill_and_is_learnt_once(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    street.run(lambda: len(street.on("2")) == 6)
    street.step(seconds=700)
    street.step()
    before = street.experimenting.status(made.experiment.id)
    street.restart()
    street.experimenting = Experimenting(street.fleet)
    assert street.experimenting.status(made.experiment.id) == before


def test_a_rollout_and_an_experiment_of_one_model_exclude_each_other(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    with pytest.raises(ConflictError, match="experiment"):
        street.fleet.create_rollout("digits", "2", {})
    with pytest.raises(ConflictError, match="goes on"):
        street.experimenting.create(PLAN)
    with pytest.raises(ConflictError, match="--force"):
        street.experimenting.promote(made.experiment.id, policy={})
    ended = street.experimenting.promote(made.experiment.id, policy=AT_ONCE, force=True)
    assert ended.experiment.state == "promoted"
    assert ended.experiment.rollout == street.fleet.rollouts()[0].id
    street.run(lambda: len(street.on("2")) == DEVICES, steps=400)
    with pytest.raises(ConflictError, match="rollout"):
        street.experimenting.create(PLAN | {"baseline": "2", "candidate": "1"})


def test_a_promotion_that_makes_no_rollout_leaves_the_experiment_as_it_was(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    with pytest.raises(UserFault, match="nonsense"):
        street.experimenting.promote(made.experiment.id, policy={"nonsense": 1}, force=True)
    assert street.experimenting.status(made.experiment.id).experiment.state == "running"


def test_the_same_bits_draw_the_same_experiment(tmp_path: Path) -> None:
    """Chance comes from the fleet, so that a life can be replayed."""
    ways = []
    for number in range(2):
        folder = tmp_path / str(number)
        street = Street(folder / "data")
        street.settle(folder)
        made = street.experimenting.create(PLAN)
        with street.database.read() as connection:
            units = experiments.units_of(connection, made.experiment.id)
        ways.append((made.experiment.id, made.experiment.seed, [(one.device, one.arm) for one in units]))
        street.close()
    assert ways[0] == ways[1]


def test_two_promotions_at_once_make_one_rollout(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    refusals = []

    def promote() -> None:
        try:
            street.experimenting.promote(made.experiment.id, policy=AT_ONCE, force=True)
        except ConflictError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 3
    (experiment,) = [view.experiment for view in street.experimenting.every()]
    assert experiment.state == "promoted"
    assert experiment.rollout == street.fleet.rollouts()[0].id
    assert len(street.fleet.rollouts()) == 2, "that of release 1, and one of release 2"
    assert [one.action for one in street.fleet.audit(limit=50)].count("experiment.promoted") == 1


def test_devices_that_join_later_are_left_alone(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    street.run(lambda: len(street.on("2")) == 6)
    late = street.enrol("late", street.behaviour, seed=99)
    street.step(connecting=True)
    street.step(seconds=700)
    street.step()
    shown = street.experimenting.status(made.experiment.id)
    assert shown.devices == (6, 6)
    assert sum((shown.result.sample_ratio.candidate, shown.result.sample_ratio.baseline)) == 12
    assert late.active is None
    street.experimenting.promote(made.experiment.id, policy=AT_ONCE, force=True)
    street.run(lambda: late.active is not None and late.active.bundle == street.digests["2"], steps=400)


def test_windows_that_come_late_are_counted_once_or_left_out(street: Street) -> None:
    """Whoever looks in between changes nothing: a window enters by its time, or not at all."""
    made = street.experimenting.create(PLAN | {"unit": "requests"})
    begun_s = street.clock.now_s
    split(street, hours=4, failing=0.0, share=0.5)
    seen = street.experimenting.status(made.experiment.id).result.sample_ratio
    now_s, street.clock.now_s = street.clock.now_s, begun_s + 2 * HOUR_S
    late = [(f"dev-{number:02d}", window(street, version, 1000, 0)) for number in (5, 6) for version in ("1", "2")]
    street.clock.now_s = now_s
    with street.database.write() as connection:
        windows.put_windows(connection, late, now_s=now_s)
    assert street.experimenting.status(made.experiment.id).result.sample_ratio == seen
    split(street, hours=1, failing=0.0, share=0.5)
    after = street.experimenting.status(made.experiment.id).result.sample_ratio
    assert 0 < sum((after.candidate, after.baseline)) - sum((seen.candidate, seen.baseline)) <= 2 * 3 * 200


def test_an_emergency_stop_keeps_devices_that_have_not_heard_on_the_baseline(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    assert len(street.on("1")) == DEVICES
    street.fleet.steering.stop(reason="smoke")
    (stopped,) = [one for one in street.fleet.audit(limit=5) if one.action == "fleet.stopped"]
    assert len(stopped.detail["kept_on_baseline"]) == 6
    for _ in range(30):
        street.step(seconds=10)
    assert len(street.on("1")) == DEVICES
    assert street.experimenting.status(made.experiment.id).experiment.state == "running"
    street.experimenting.stop(made.experiment.id, reason="")


def test_an_emergency_stop_leaves_devices_that_run_the_candidate_where_they_are(street: Street) -> None:
    made = street.experimenting.create(PLAN)
    street.run(lambda: len(street.on("2")) == 6)
    street.fleet.steering.stop(reason="smoke")
    for _ in range(10):
        street.step(seconds=10)
    assert len(street.on("2")) == 6
    street.experimenting.stop(made.experiment.id, reason="over")
    street.run(lambda: len(street.on("1")) == DEVICES)


def test_nothing_begins_while_the_fleet_is_stopped_or_below_the_floor(street: Street) -> None:
    street.fleet.steering.stop(reason="fire")
    with pytest.raises(ConflictError, match="stopped"):
        street.experimenting.create(PLAN)
    street.fleet.steering.lift()
    street.fleet.steering.raise_floor("digits", 3)
    with pytest.raises(ConflictError, match="floor"):
        street.experimenting.create(PLAN)


def test_a_guardrail_that_fails_stops_the_experiment_by_itself(street: Street) -> None:
    """On requests, as one device then makes many blocks."""
    made = street.experimenting.create(
        {
            "model": "digits",
            "baseline": "1",
            "candidate": "2",
            "unit": "requests",
            "primary": "latency",
            "guardrails": [{"metric": "errors"}],
        }
    )
    split(street, hours=40, failing=0.9, share=0.5)
    street.experimenting.step()
    ended = street.experimenting.status(made.experiment.id)
    assert ended.experiment.state == "stopped"
    assert "errors" in ended.experiment.reason
    assert ended.route_change == {"kind": "split", "arms": [{"model": "digits", "version": "1", "weight": 100}]}


def test_requests_that_a_route_splits_are_compared_window_by_window(street: Street) -> None:
    made = street.experimenting.create(PLAN | {"unit": "requests", "primary": "errors", "share": 0.2})
    split(street, hours=30, failing=0.0, share=0.2)
    shown = street.experimenting.status(made.experiment.id)
    assert made.devices == (0, 0)
    assert shown.result.primary.blocks > 50
    assert shown.result.finding == "better"
    assert not shown.result.sample_ratio.mismatch
    promoted = street.experimenting.promote(made.experiment.id, policy={})
    assert promoted.route_change == {"kind": "split", "arms": [{"model": "digits", "version": "2", "weight": 100}]}


def test_a_split_that_is_not_the_planned_one_is_seen(street: Street) -> None:
    made = street.experimenting.create(PLAN | {"unit": "requests", "share": 0.5})
    split(street, hours=10, failing=0.0, share=0.2)
    assert street.experimenting.status(made.experiment.id).result.finding == "sample_ratio_mismatch"


def split(street: Street, *, hours: int, failing: float, share: float) -> None:
    """Three devices that deal their requests out; release 1 fails one in three."""
    chosen = random.Random(1)
    for _ in range(hours):
        street.clock.now_s += HOUR_S
        found = []
        for number in range(3):
            requests = sum(chosen.random() < share for _ in range(200))
            for version, count, rate in (("2", requests, failing), ("1", 200 - requests, 0.3)):
                failures = sum(chosen.random() < rate for _ in range(count))
                found.append((f"dev-{number:02d}", window(street, version, count, failures)))
        with street.database.write() as connection:
            windows.put_windows(connection, found, now_s=street.clock.now_s)
    street.clock.now_s += 2 * HOUR_S


def window(street: Street, version: str, requests: int, failures: int) -> WindowRecord:
    return WindowRecord(
        model="digits",
        version=version,
        bundle=street.digests[version],
        reference="",
        window_start_s=int(street.clock.now_s) - HOUR_S,
        window_s=HOUR_S,
        boot="b",
        incarnation=f"i{version}",
        seq=1,
        closed=True,
        requests=requests,
        failures=failures,
        rows=0,
        latency_us_sum=1000 * requests,
        latency=(requests, *(0,) * len(LATENCY_EDGES_US)),
        histograms=(),
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "digits"}, "baseline"),
    (PLAN | {"surprise": 1}, "surprise"),
    (PLAN | {"share": 2.0}, "share"),
    (PLAN | {"primary": "inputs"}, "cannot be compared"),
    (PLAN | {"where": "board =="}, "expected a text"),
    (PLAN | {"where": 'board == "no such board"'}, "0 devices"),
    (PLAN | {"candidate": "9"}, "no release"),
]


def test_a_plan_that_cannot_be_used_is_refused_in_words(street: Street) -> None:
    for plan, fault in REFUSED:
        with pytest.raises(UserFault, match=fault):
            street.experimenting.create(plan)
    assert not street.experimenting.every()


def test_the_api_has_it_all(street: Street) -> None:
    surroundings = Surroundings(mqtt_host="b", mqtt_port=1883, broker_connected=lambda: True, counts=dict)
    app = build_app(street.fleet, admin_token="t", surroundings=surroundings)
    with TestClient(app, raise_server_exceptions=False, headers={"Authorization": "Bearer t"}) as api:
        made = api.post("/v1/experiments", json=PLAN)
        assert made.status_code == 201, made.text
        one = made.json()["experiment"]["id"]
        assert api.get("/v1/experiments").json()["experiments"][0]["experiment"]["id"] == one
        assert api.get(f"/v1/experiments/{one}").json()["result"]["finding"] == "undecided"
        assert api.post(f"/v1/experiments/{one}/promote", json={}).status_code == 409
        assert api.post(f"/v1/experiments/{one}/stop", json={"reason": "x"}).json()["experiment"]["state"] == "stopped"
        assert api.get("/v1/experiments/x-none").status_code == 404
        assert api.post("/v1/experiments", json={"model": 1}).status_code == 400
        assert api.post("/v1/experiments", json=[]).status_code in {400, 422}


def test_people_see_metrics_sample_ratio_and_finding(street: Street) -> None:
    made = street.experimenting.create(PLAN | {"unit": "requests", "guardrails": [{"metric": "latency"}]})
    empty = shown(experiment_tables.experiment(msgspec.to_builtins(made)))
    assert "undecided" in empty
    split(street, hours=20, failing=0.0, share=0.5)
    ended = msgspec.to_builtins(street.experimenting.promote(made.experiment.id, policy={}))
    text = shown(experiment_tables.experiment(ended))
    for part in ("errors (primary)", "latency", "better", "planned share 50.0%", "rollout: r-", '"version": "2"'):
        assert part in text
    listed = [msgspec.to_builtins(one) for one in street.experimenting.every()]
    assert "promoted" in shown(experiment_tables.experiments({"experiments": listed}))
    assert "create" in shown(experiment_tables.experiments({"experiments": []}))


def shown(table: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "says"), [("latency=much", "latency=10"), ("speed", "there are errors"), ("latency=nan", "from 0 to 100")]
)
def test_the_commands_refuse_what_is_no_guardrail(given: str, says: str) -> None:
    found = CliRunner().invoke(experiment, ["create", "m", "1", "2", "--guardrail", given])
    assert found.exit_code == 2
    assert says in found.output


def test_no_such_experiment(street: Street) -> None:
    with pytest.raises(NotFoundError, match="experiment status"):
        street.experimenting.stop("x-1", reason="")


def test_the_help_knows_every_metric() -> None:
    assert experiment_cli.METRICS == METRICS
