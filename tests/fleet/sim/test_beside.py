"""A rollout that has ended and an experiment that goes on must not order the same devices."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from edgewright.fleet.faults import ConflictError
from edgewright.fleet.sim.events import Events
from edgewright.fleet.sim.servers import Servers
from edgewright.fleet.sim.starting import BOARDS, MODEL, STARTED_S, bundle_of, enrol, upload
from edgewright.fleet.sim.weather import FAIR, StormyNetwork
from edgewright.fleet.store import enrolment
from edgewright.runtime.telemetry.wire import Hello, ModelState

from .greeting import hello

RUNS_1 = ModelState(model=MODEL, version="1", bundle=bundle_of("1", BOARDS[0]), phase="idle", rollback=None)
HELLO = hello(RUNS_1)
RUNS_2 = msgspec.structs.replace(RUNS_1, version="2", bundle=bundle_of("2", BOARDS[0]))


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    """Six devices on version 1."""
    events = Events(STARTED_S)
    made = Servers(tmp_path, StormyNetwork(events, weather=FAIR, seed=0), events, chance=random.Random(0))
    upload(made.fleet)
    for number in range(6):
        enrol(made.fleet, f"dev-{number}", BOARDS[0], site="hall")
        greet(made, f"dev-{number}", HELLO)
    return made


def greet(servers: Servers, device: str, said: Hello) -> None:
    with servers.database.write() as connection:
        enrolment.greet(connection, device, said, now_s=STARTED_S)


def test_a_rollout_that_has_ended_goes_back_only_after_the_experiment(servers: Servers) -> None:
    rollout = servers.fleet.create_rollout(MODEL, "2", {"waves": ["rest"], "control": {"fractions": [0]}})
    servers.reconcilers[0].step(STARTED_S)
    for number in range(6):
        greet(servers, f"dev-{number}", msgspec.structs.replace(HELLO, models=(RUNS_2,)))
    with servers.database.write() as connection:  # all are under way, so nothing is taken back by an abort
        connection.exec_driver_sql(
            "INSERT INTO updates SELECT device, 's', 1, command, model, version, bundle, 'confirmed', '', 0, 'b', 0 "
            "FROM desired"
        )
    servers.fleet.fire(rollout.id, "abort", reason="test")
    made = servers.experimenting.create({"model": MODEL, "baseline": "2", "candidate": "3"})
    with pytest.raises(ConflictError, match=f"experiment {made.experiment.id} of digits goes on"):
        servers.fleet.fire(rollout.id, "rollback", reason="test")
    servers.experimenting.stop(made.experiment.id, reason="test")
    assert servers.fleet.fire(rollout.id, "rollback", reason="test").state == "rolling_back"
