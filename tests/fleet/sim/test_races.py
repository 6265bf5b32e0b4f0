"""What one does between another one's read and its write, with the moment chosen by the test."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Connection

from edgewright.fleet.sim.events import Events
from edgewright.fleet.sim.servers import Killed, Moment, Servers
from edgewright.fleet.sim.starting import BOARDS, MODEL, STARTED_S, enrol, upload
from edgewright.fleet.sim.weather import FAIR, StormyNetwork
from edgewright.fleet.store import desired, enrolment

from .greeting import hello


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    events = Events(STARTED_S)
    network = StormyNetwork(events, weather=FAIR, seed=0)
    made = Servers(tmp_path, network, events, chance=random.Random(0))
    upload(made.fleet)
    enrol(made.fleet, "cam", BOARDS[0], site="hall")
    with made.database.write() as connection:
        enrolment.greet(connection, "cam", hello(), now_s=STARTED_S)
    return made


def epoch_of(servers: Servers) -> int:
    with servers.database.read() as connection:
        order = desired.order_of(connection, "cam")
    assert order is not None
    return order.epoch if order.desired.models else 0


def test_a_floor_that_rises_between_read_and_write_holds_for_what_was_decided_before(servers: Servers) -> None:
    servers.fleet.create_rollout(MODEL, "2", {"waves": ["rest"]})

    def raise_floor(moment: Moment, _connection: Connection | None) -> None:
        if moment == "before":
            servers.database.at = lambda _moment, _connection: None
            servers.fleet.steering.raise_floor(MODEL, 2)

    servers.database.at = raise_floor
    servers.reconcilers[0].step(STARTED_S)
    assert epoch_of(servers) == 0, "version 2 has security epoch 1"


def test_two_reconcilers_give_one_order(servers: Servers) -> None:
    servers.fleet.create_rollout(MODEL, "2", {"waves": ["rest"]})

    def other(moment: Moment, _connection: Connection | None) -> None:
        if moment == "before":
            servers.database.at = lambda _moment, _connection: None
            servers.reconcilers[1].step(STARTED_S)

    servers.database.at = other
    servers.reconcilers[0].step(STARTED_S)
    assert epoch_of(servers) == 1


@pytest.mark.parametrize(("killed_at", "orders"), [("before", 0), ("within", 0), ("after", 1)])
def test_a_server_that_is_killed_around_a_commit_has_all_of_it_or_nothing(
    servers: Servers, killed_at: Moment, orders: int
) -> None:
    servers.fleet.create_rollout(MODEL, "2", {"waves": ["rest"]})

    def kill(moment: Moment, _connection: Connection | None) -> None:
        if moment == killed_at:
            raise Killed

    servers.database.at = kill
    with pytest.raises(Killed):
        servers.reconcilers[0].step(STARTED_S)
    servers.kill()
    servers.start()
    assert epoch_of(servers) == orders
    servers.reconcilers[0].step(STARTED_S)
    assert epoch_of(servers) == 1
