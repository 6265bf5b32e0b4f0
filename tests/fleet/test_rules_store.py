"""Rules between rollouts, through store and reconciler: beside each other, superseded, one device never in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.commands import carry_out
from edgewright.fleet.core import rollout as core
from edgewright.fleet.core.policy.policy import PolicyError
from edgewright.fleet.core.rows import Command, Rollout
from edgewright.fleet.faults import ConflictError, FleetError
from edgewright.fleet.place import PlaceChange
from edgewright.fleet.sight import Sight
from edgewright.fleet.sim.device import Behaviour
from edgewright.fleet.store import rollouts
from tests.fleet.house import House

PLAIN: dict[str, Any] = {
    "waves": ["rest"],
    "horizonSeconds": 300,
    "driftGate": {"enabled": False},
    "control": {"fractions": [0]},
}
LYON, GRAZ = 'site == "lyon"', 'site == "graz"'


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Four devices, two at each site, and three releases."""
    here = House(tmp_path / "fleet")
    for version in ("1", "2", "3"):
        here.release(tmp_path, version)
    for number in range(4):
        here.enrol(f"cam-{number}", lambda _digest: Behaviour(), seed=number)
        here.fleet.move(f"cam-{number}", PlaceChange(site="lyon" if number < 2 else "graz"))
    here.step(connecting=True)
    yield here
    here.close()


def state(house: House, rollout: Rollout) -> str:
    return house.fleet.rollout(rollout.id).rollout.state


def ordered(house: House, rollout: Rollout) -> list[str]:
    return sorted(one.device for one in house.fleet.rollout(rollout.id).assignments)


def completes(house: House, rollout: Rollout) -> None:
    house.run(lambda: state(house, rollout) == "completed")


def test_rollouts_that_do_not_meet_run_beside_each_other_and_go_back_apart(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"group": LYON})
    house.step()
    second = house.fleet.create_rollout("digits", "2", PLAIN | {"group": GRAZ})
    completes(house, first)
    completes(house, second)
    assert ordered(house, first) == ["cam-0", "cam-1"]
    assert ordered(house, second) == ["cam-2", "cam-3"]
    house.fleet.fire(first.id, "rollback", reason="")  # the later one is none of its devices' business
    assert state(house, first) == "rolling_back"


def test_no_rollout_goes_back_behind_one_that_moved_its_devices_on(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN)
    completes(house, first)
    second = house.fleet.create_rollout("digits", "2", PLAIN | {"group": LYON})
    completes(house, second)
    with pytest.raises(ConflictError, match=f"{second.id}.*to cam-0 among others; roll that one back first"):
        house.fleet.fire(first.id, "rollback", reason="")


def test_one_that_meets_another_is_refused_and_told_how_to_go_on(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"group": LYON})
    with pytest.raises(ConflictError, match=rf'rollout {first.id} of digits 1 is running.*onConflict = "SUPERSEDE"'):
        house.fleet.create_rollout("digits", "2", PLAIN)
    assert len(house.fleet.rollouts()) == 1


def test_one_that_supersedes_takes_the_place(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"waves": [1, "rest"], "soakSeconds": 1000})
    house.run(lambda: len(ordered(house, first)) == 1)
    second = house.fleet.create_rollout("digits", "2", PLAIN | {"onConflict": "SUPERSEDE"})
    assert state(house, first) == "superseded"
    completes(house, second)
    assert len(ordered(house, second)) == 4
    with pytest.raises(ConflictError, match="came after"):
        house.fleet.fire(first.id, "rollback", reason="")


def test_one_that_only_follows_gives_way(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"targetSelection": "CONTINUOUS"})
    house.run(lambda: state(house, first) == "following")
    second = house.fleet.create_rollout("digits", "2", PLAIN)
    assert state(house, first) == "superseded"
    completes(house, second)


def test_a_policy_that_does_not_fit_the_release_is_refused(house: House) -> None:
    with pytest.raises(PolicyError, match="for which the release has no bundle; it has raspberry-pi-5"):
        house.fleet.create_rollout("digits", "1", PLAIN | {"waves": [{"add": 1, "boards": ["jetson"]}, "rest"]})
    with pytest.raises(PolicyError, match="is over already"):
        house.fleet.create_rollout("digits", "1", PLAIN | {"schedulingConfig": {"endTime": "2020-01-01T00:00Z"}})
    assert house.fleet.rollouts() == []


def test_groups_that_come_to_meet_share_no_device(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"group": LYON, "soakSeconds": 1000})
    second = house.fleet.create_rollout("digits", "2", PLAIN | {"group": GRAZ, "soakSeconds": 1000})
    house.run(lambda: len(ordered(house, first)) == 2 and len(ordered(house, second)) == 2)
    for number in range(4):
        house.fleet.move(f"cam-{number}", PlaceChange(site="lyon"))
    for _ in range(5):
        house.step()
    assert ordered(house, first) == ["cam-0", "cam-1"]
    assert ordered(house, second) == ["cam-2", "cam-3"]


def decided(house: House, rollout: Rollout) -> Sequence[Command]:
    """Return what a server that has just started would do about a rollout."""
    sight = Sight(telemetry_revision=lambda: 0)
    with house.database.read() as connection:
        sight.roster.refresh(connection, rollouts.unfinished(connection), now_s=house.clock.now_s)
        return core.look(sight.see(connection, rollout, now_s=house.clock.now_s)).commands


def test_two_servers_that_decide_at_once_do_not_give_one_device_to_two_rollouts(house: House) -> None:
    first = house.fleet.create_rollout("digits", "1", PLAIN | {"group": LYON})
    second = house.fleet.create_rollout("digits", "2", PLAIN | {"group": GRAZ})
    of_first = decided(house, first)
    house.fleet.move("cam-0", PlaceChange(site="graz"))
    of_second = decided(house, second)
    with house.database.write() as connection:
        carry_out(connection, first, of_first, now_s=house.clock.now_s)
    with (
        pytest.raises(rollouts.StaleRolloutError, match="another rollout took cam-0"),
        house.database.write() as connection,
    ):
        carry_out(connection, second, of_second, now_s=house.clock.now_s)
    assert ordered(house, first) == ["cam-0", "cam-1"]
    assert ordered(house, second) == []
    house.run(lambda: len(ordered(house, second)) == 2)
    assert ordered(house, second) == ["cam-2", "cam-3"]


def test_a_zone_that_nobody_knows_is_refused_when_it_is_set(house: House) -> None:
    for zone in ("Mars/Olympus", "localtime", "", "America"):
        with pytest.raises(FleetError, match="time zone"):
            house.fleet.move("cam-0", PlaceChange(time_zone=zone))
    house.fleet.move("cam-0", PlaceChange(time_zone="Europe/Paris"))
