"""Every promise can be broken: a history in which each one is broken by hand, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import BoardHalt, Rollout
from edgewright.fleet.sim.behaviour import Behaviour, Installed
from edgewright.fleet.sim.device import Identity, VirtualDevice
from edgewright.fleet.sim.events import Events
from edgewright.fleet.sim.history import History
from edgewright.fleet.sim.log import look_at_the_log
from edgewright.fleet.sim.promises import BrokenPromiseError, Orders
from edgewright.fleet.sim.servers import Servers
from edgewright.fleet.sim.starting import BOARDS, MODEL, STARTED_S, enrol, upload
from edgewright.fleet.sim.weather import FAIR, StormyNetwork
from edgewright.fleet.store import audit_log, enrolment, floors, rollouts

from .greeting import hello

HELLO = hello()
Forge = Callable[[Connection], object]


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    """Two devices of one site that were just ordered to version 2."""
    events = Events(STARTED_S)
    made = Servers(tmp_path, StormyNetwork(events, weather=FAIR, seed=0), events, chance=random.Random(0))
    upload(made.fleet)
    for name in ("one", "two"):
        enrol(made.fleet, name, BOARDS[0], site="hall")
        with made.database.write() as connection:
            enrolment.greet(connection, name, HELLO, now_s=STARTED_S)
    made.fleet.create_rollout(MODEL, "2", {"waves": ["rest"]})
    made.reconcilers[0].step(STARTED_S)
    return made


def rewritten(connection: Connection, **changed: Any) -> Rollout:
    """Have the stored rollout always have been another one."""
    [rollout] = rollouts.every(connection)
    after = msgspec.structs.replace(rollout, **changed)
    connection.exec_driver_sql("UPDATE rollouts SET row = ?, state = ?", (msgspec.json.encode(after), after.state))
    return after


def with_policy(**policy: Any) -> Forge:
    return lambda connection: rewritten(connection, policy=policy_from(policy, where="test"))


def stop(connection: Connection) -> None:
    floors.put_stop(connection, floors.Stop(reason="fire", by="admin", at_s=STARTED_S))


def pause(connection: Connection) -> None:
    rewritten(connection, state="paused")


def halt(connection: Connection) -> None:
    rewritten(connection, halted=(BoardHalt(target=BOARDS[0], action="PAUSE", reason="", at_s=STARTED_S),))


def try_again(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE assignments SET attempt = 2")


def experiment(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO experiments VALUES ('x', ?, 'running', 0, x'', x'')", (MODEL,))
    connection.exec_driver_sql("INSERT INTO experiment_units VALUES ('x', 'one', x'')")


def take_back(connection: Connection) -> None:
    """Have one device report on its order, and be ordered back all the same."""
    connection.exec_driver_sql(
        "INSERT INTO updates SELECT device, 's', 1, command, model, version, bundle, 'trial', '', 0, 'b', 0 "
        "FROM desired WHERE device = 'one'"
    )
    connection.exec_driver_sql("UPDATE desired SET command = 'x.back', rollback = 1 WHERE device = 'one'")


WINDOW = {"startTime": "*/20 * * * *", "durationInMinutes": 10}


def test_nothing_is_found_where_nothing_is_broken(servers: Servers) -> None:
    with servers.database.read() as connection:
        Orders().look(connection)
    assert look_at_the_log(servers) > 0


@pytest.mark.parametrize(
    ("forge", "finding"),
    [
        (stop, "while the fleet is stopped"),
        (pause, "by a paused rollout"),
        (halt, "which is halted"),
        (with_policy(waves=[{"add": "rest", "requireApproval": True}]), "nobody approved of"),
        (try_again, "is attempt 2 of 1"),
        (with_policy(jobExecutionsRolloutConfig={"maximumPerMinute": 1}), "gave 2 orders in a minute, at most 1"),
        (with_policy(schedulingConfig={"maintenanceWindows": [WINDOW]}), "outside the maintenance windows"),
        (with_policy(blastRadius={"maxDevicesPerSite": 1}), "2 devices of hall are unproven, at most 1"),
        (experiment, "is in rollout r-.* and in experiment x"),
        (take_back, "takes one back, but r-.* is running"),
    ],
)
def test_an_order_that_must_not_be_is_found(servers: Servers, forge: Forge, finding: str) -> None:
    with servers.database.write() as connection:
        forge(connection)
    orders = Orders()
    with servers.database.read() as connection, pytest.raises(BrokenPromiseError, match=finding):
        orders.look(connection)


def test_the_zone_of_a_device_says_when_its_windows_are_open(servers: Servers) -> None:
    orders = Orders()
    with servers.database.write() as connection:
        with_policy(schedulingConfig={"maintenanceWindows": [WINDOW]})(connection)
        connection.exec_driver_sql("UPDATE devices SET time_zone = 'Asia/Kolkata'")
        orders.look(connection)


@pytest.mark.parametrize(("named", "finding"), [(2, "names 2 controls; there are 1"), (1, "one was left a control")])
def test_a_control_that_stays_behind_is_found(servers: Servers, named: int, finding: str) -> None:
    orders = Orders()
    with servers.database.read() as connection:
        orders.look(connection)
    with servers.database.write() as connection:
        connection.exec_driver_sql("UPDATE assignments SET arm = 'control' WHERE device = 'one'")
        after = rewritten(connection, state="completed", revision=99, finished_s=STARTED_S)
        connection.exec_driver_sql("UPDATE rollouts SET revision = 99")
        audit_log.append(
            connection,
            now_s=STARTED_S,
            actor="fleet",
            action="rollout.completed",
            subject=f"rollout:{after.id}",
            detail={"numbers": {"controls": named}},
        )
    with servers.database.read() as connection, pytest.raises(BrokenPromiseError, match=finding):
        orders.look(connection)


FIELDS = (
    "requests",
    "failures",
    "crashes",
    "energy_uj_sum",
    "energy_requests",
    "shadow_rows",
    "shadow_disagreements",
    "labelled [0]",
    "labelled_correct [0]",
    "histogram 0 [1]",
)


def test_a_count_that_is_one_too_high_is_found(servers: Servers) -> None:
    behaviour = Behaviour(
        requests_per_step=50,
        weights=((1.0, 2.0, 1.0), (3.0, 1.0)),
        failure_rate=0.5,
        energy_uj=7,
        shadow_rows=4,
        label_rate=0.5,
    )
    enrolled = enrol(servers.fleet, "three", BOARDS[0], site="hall")
    device = VirtualDevice(
        Identity(
            tenant=enrolled.tenant, device="three", secret=enrolled.secret, target=BOARDS[0], target_digest="sha256:0"
        ),
        behaviour_of=lambda _bundle: behaviour,
        seed=1,
    )
    bundle = "sha256:" + "1" * 64
    device.model, device.active = MODEL, Installed(version="1", bundle=bundle)
    device.step(STARTED_S)
    device.restart()
    servers.record(device.connect())
    history = History({"three": device})
    with servers.database.read() as connection:
        history.look_at_counts(connection, exact=True)
        for field in FIELDS:
            device.meter.counted[bundle][field] -= 1
            with pytest.raises(BrokenPromiseError) as broken:
                history.look_at_counts(connection, exact=False)
            assert f" {field}, the devices" in str(broken.value)
            device.meter.counted[bundle][field] += 1


def test_a_hook_that_is_said_to_be_told_is_found_where_it_was_not(servers: Servers) -> None:
    with servers.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO hook_calls (call, rule, alert, kind, event, body, attempts, due_s, created_s, ended_s, "
            "is_done, reason) VALUES ('c', 'r', 'a', 'command', 'raised', x'', 1, 0, 0, 1, 1, '')"
        )
    with pytest.raises(BrokenPromiseError, match="the log has"):
        look_at_the_log(servers)
    with servers.database.write() as connection:
        audit_log.append(
            connection, now_s=0, actor="fleet", action="hook.delivered", subject="alert:a", detail={"call": "c"}
        )
    with pytest.raises(BrokenPromiseError, match="nobody was told"):
        look_at_the_log(servers)


def test_an_order_below_the_floor_is_found(servers: Servers) -> None:
    with servers.database.write() as connection:
        floors.raise_to(connection, MODEL, 2, now_s=STARTED_S)
    with servers.database.read() as connection, pytest.raises(BrokenPromiseError, match="epoch 1, the floor is 2"):
        History({}).look(connection)


@pytest.mark.parametrize(
    ("forged", "finding"),
    [
        ("UPDATE rollouts SET revision = revision + 2", "went from 1 to 3"),
        ("UPDATE rollouts SET revision = revision - 1", "fell from 1 to 0"),
        ("UPDATE rollouts SET revision = revision + 1, state = 'rolled_back'", "from running to rolled_back: not in"),
        ("UPDATE rollouts SET state = 'paused'", "changed its state, not its revision"),
        ("UPDATE assignments SET position = 7", "2 devices stand at position 7"),
        ("UPDATE desired SET bundle = (SELECT max(digest) FROM bundles WHERE version = '3')", "named sha256:"),
        ("UPDATE devices SET desired_epoch = desired_epoch - 1", "epoch of one fell from 1 to 0"),
        ("DELETE FROM desired WHERE device = 'one'", "orders of one changed under epoch 1"),
    ],
)
def test_a_history_that_goes_wrong_is_found(servers: Servers, forged: str, finding: str) -> None:
    history = History({})
    with servers.database.read() as connection:
        history.look(connection)
    with servers.database.write() as connection:
        connection.exec_driver_sql(forged)
    with servers.database.read() as connection, pytest.raises(BrokenPromiseError, match=finding):
        history.look(connection)
