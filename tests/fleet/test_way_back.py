"""The way back through the real store: to the release that fits the present data, and never below the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgewright.bundle.reference import Reference
from edgewright.fleet.explaining import explain_rollout
from edgewright.fleet.sim.device import Behaviour, VirtualDevice
from edgewright.fleet.trust.audit import AuditEntry
from tests.bundle.samples import sample_reference
from tests.fleet.house import House

WINTER, SUMMER = (70, 20, 5, 5), (5, 5, 20, 70)
POLICY: dict[str, Any] = {
    "waves": ["rest"],
    "horizonSeconds": 300,
    "control": {"fractions": [0]},
    "driftGate": {"enabled": False},
}


def calibrated(inputs: tuple[int, ...]) -> Reference:
    first, *others = sample_reference().histograms
    return msgspec.structs.replace(
        sample_reference(), histograms=(msgspec.structs.replace(first, counts=inputs), *others)
    )


class Seasons:
    """Four devices whose inputs change with the season."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.season: tuple[int, ...] = WINTER
        self.broken: set[str] = set()
        self.devices: list[VirtualDevice] = [house.enrol(f"cam-{n}", self._behaviour, seed=n) for n in range(4)]
        house.step(connecting=True)

    def _behaviour(self, digest: str) -> Behaviour:
        weights = (tuple(map(float, self.season)), (30.0, 30.0, 40.0), (5.0, 15.0, 80.0))
        ends: Any = "failed" if digest in self.broken else "confirmed"
        return Behaviour(requests_per_step=60, weights=weights, update_ends=ends)

    def roll_out(self, version: str, **policy: Any) -> str:
        rollout = self.house.fleet.create_rollout("digits", version, POLICY | policy).id
        self.run_until(rollout, {"completed", "rolled_back"})
        return rollout

    def run_until(self, rollout: str, states: set[str]) -> None:
        self.house.run(lambda: self.house.fleet.rollout(rollout).rollout.state in states)

    def running(self) -> set[str]:
        return {device.active.version for device in self.devices if device.active}

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 60)):
            self.house.step(seconds=60.0)

    def entries(self, rollout: str, action: str) -> list[AuditEntry]:
        found = self.house.fleet.audit(limit=1000, subject=f"rollout:{rollout}")
        return [one for one in found if one.action == f"rollout.{action}"]


def test_when_winter_is_back_a_bad_release_is_followed_by_the_one_of_last_winter(house: House, tmp_path: Path) -> None:
    here = Seasons(house)
    house.release(tmp_path, "1", reference=calibrated(WINTER))
    house.release(tmp_path, "2", reference=calibrated(SUMMER))
    here.broken.add(house.release(tmp_path, "3", reference=calibrated(SUMMER)))
    here.roll_out("1")
    here.season = SUMMER
    here.roll_out("2")
    assert here.running() == {"2"}
    here.season = WINTER
    here.wait(2 * 3600)
    rollout = here.roll_out("3")
    assert house.fleet.rollout(rollout).rollout.state == "rolled_back"
    assert here.running() == {"1"}
    (plan,) = here.entries(rollout, "way_back")
    assert "go to 1 on raspberry-pi-5 and not to 2" in plan.detail["reason"]
    assert (
        plan.detail["numbers"]["misfit raspberry-pi-5 1"] < 0.1 < 1 < plan.detail["numbers"]["misfit raspberry-pi-5 2"]
    )
    assert explain_rollout(house.database, rollout).agrees


def test_whoever_wants_what_ran_before_gets_that(house: House, tmp_path: Path) -> None:
    here = Seasons(house)
    house.release(tmp_path, "1", reference=calibrated(WINTER))
    house.release(tmp_path, "2", reference=calibrated(SUMMER))
    here.broken.add(house.release(tmp_path, "3", reference=calibrated(SUMMER)))
    for version in ("1", "2"):
        here.roll_out(version)
    here.wait(2 * 3600)
    here.roll_out("3", rollback={"target": "PREVIOUS"})
    assert here.running() == {"2"}


def test_below_a_floor_that_rose_nobody_goes_back_and_the_log_names_who_stays(house: House, tmp_path: Path) -> None:
    here = Seasons(house)
    house.release(tmp_path, "1")
    house.release(tmp_path, "2", security_epoch=2)
    here.roll_out("1")
    rollout = here.roll_out("2")
    house.fleet.fire(rollout, "rollback", reason="as a test")
    here.run_until(rollout, {"rolled_back"})
    assert here.running() == {"2"}, "each device has confirmed epoch 2 and would refuse to go below"
    (plan,) = here.entries(rollout, "way_back")
    for device in here.devices:
        assert device.identity.device in plan.detail["reason"]
    assert "1 has security epoch" in plan.detail["reason"]
    assert here.entries(rollout, "rolled_back")[0].detail["numbers"]["below_floor"] == 4
