"""The picture in memory is at all times what a fresh read gives."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, select

from edgewright.fleet.commands import carry_out
from edgewright.fleet.core.outcomes import ENDING_PHASES
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import (
    Assign,
    Assignment,
    Command,
    Graduate,
    ReleaseBundle,
    Retry,
    RollBack,
    Rollout,
    Withdraw,
)
from edgewright.fleet.faults import NotFoundError
from edgewright.fleet.place import Place
from edgewright.fleet.store import desired, enrolment, order_rows, releases, rollouts, telemetry
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.enrolment import Enrolling
from edgewright.fleet.store.roster import DAY_S, Roster
from edgewright.fleet.store.schema import assignments
from edgewright.runtime.telemetry.records import UpdatePhase, UpdateRecord
from edgewright.runtime.telemetry.wire import Heartbeat, ModelState

START_S = 1_700_000_000.0
TARGET = "board"
PHASES: tuple[UpdatePhase, ...] = ("fetching", "installing", "confirmed", "failed")


class History:
    """Things that happen to a fleet, drawn from a seed."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.now_s = START_S
        self.names: list[str] = []
        self.seq = 0
        with database.write() as connection:
            for number in (1, 2):
                self._bundle(connection, f"sha256:{number}", number)
            self.rollouts = [self._rollout(connection, "a"), self._rollout(connection, "b")]
        for _ in range(4):
            self.enrol()

    def _bundle(self, connection: Connection, digest: str, epoch: int) -> None:
        releases.put_bundle(
            connection,
            releases.StoredBundle(
                digest=digest,
                model="m",
                version=digest,
                target=TARGET,
                target_digest="d",
                security_epoch=epoch,
                size_bytes=1,
                manifest=b"",
                reference_digest="",
                reference=b"",
                uploaded_s=self.now_s,
            ),
        )

    def _rollout(self, connection: Connection, name: str) -> Rollout:
        made = Rollout(
            id=name,
            model="m",
            version="2",
            bundles=(ReleaseBundle(target=TARGET, digest="sha256:2"),),
            policy=policy_from({}, where="test"),
            seed=1,
            created_s=self.now_s,
        )
        rollouts.add(connection, made)
        return made

    def step(self) -> None:
        self.now_s += self.random.choice((1.0, 60.0, DAY_S / 3))
        acts = (self.enrol, self.remove, self.beat, self.move, self.upload, self.order, self.order, self.report)
        self.random.choice((*acts, self.report, self.change))()

    def enrol(self) -> None:
        name = self.random.choice([f"dev-{number}" for number in range(8)])
        with self.database.write() as connection:
            if enrolment.secret_of(connection, name) is None:
                enrolment.add_token(connection, f"{name}{self.now_s}", label="", now_s=self.now_s, lifetime_s=9.0)
                board = Enrolling(name=name, target=TARGET, target_digest="d")
                enrolment.enrol(connection, f"{name}{self.now_s}", board, secret=b"s", now_s=self.now_s)
                self.names = sorted({*self.names, name})

    def remove(self) -> None:
        with self.database.write() as connection, contextlib.suppress(NotFoundError):
            enrolment.remove(connection, self.random.choice(self.names), now_s=self.now_s)

    def beat(self) -> None:
        runs = self.random.choice(("sha256:1", "sha256:2", "sha256:3"))
        state = ModelState(model=self.random.choice("mn"), version="v", bundle=runs, phase="idle", rollback=None)
        beat = Heartbeat(uptime_s=1, spool_bytes=0, spool_backlog=0, server_running=True, models=(state,))
        with self.database.write() as connection:
            enrolment.beat(connection, self.random.choice(self.names), beat, now_s=self.now_s)

    def move(self) -> None:
        with self.database.write() as connection, contextlib.suppress(NotFoundError):
            place = Place(site=self.random.choice("xy"), labels={"line": self.random.choice("12")})
            enrolment.move(connection, self.random.choice(self.names), place)

    def upload(self) -> None:
        with self.database.write() as connection:
            self._bundle(connection, "sha256:3", 3)

    def order(self) -> None:
        rollout = self.random.choice(self.rollouts)
        with self.database.write() as connection:
            taken = {one.device for each in self.rollouts for one in rollouts.assignments_of(connection, each.id)}
            free = [name for name in self.names if name not in taken]
            if free:
                chosen = self.random.choice(free)
                carry_out(connection, rollout, [self._assign(rollout, chosen, len(taken))], now_s=self.now_s)

    def _assign(self, rollout: Rollout, device: str, position: int) -> Assign:
        is_control = self.random.random() < 0.3
        given = Assignment(
            device=device,
            target=TARGET,
            wave=0,
            position=position,
            version="2",
            bundle="sha256:2",
            previous_version="1",
            previous_bundle=self.random.choice(("sha256:1", "sha256:3", None)),
            command=f"{rollout.id}.{device}",
            dispatched_s=self.now_s,
            arm="control" if is_control else "treated",
            block=position // 2,
            drawn_s=self.now_s,
        )
        return Assign(assignment=given)

    def change(self) -> None:
        rollout = self.random.choice(self.rollouts)
        with self.database.write() as connection:
            given = rollouts.assignments_of(connection, rollout.id)
            if given:
                carry_out(connection, rollout, [self._change(given, self.random.choice(given))], now_s=self.now_s)

    def _change(self, given: list[Assignment], one: Assignment) -> Command:
        if one.arm == "control":
            last = max(each.position for each in given)
            return Graduate(
                assignment=msgspec.structs.replace(
                    one, arm="graduated", wave=3, position=last + 1, dispatched_s=self.now_s
                )
            )
        if one.rollback_command is not None or self.random.random() < 0.3:
            return Withdraw(device=one.device, at_s=self.now_s)
        if self.random.random() < 0.5:
            attempt = one.attempt + 1
            return Retry(device=one.device, command=f"{one.command}.{attempt}", attempt=attempt, at_s=self.now_s)
        back = f"{one.command}.back"
        return RollBack(device=one.device, command=back, version="1", bundle="sha256:1", at_s=self.now_s)

    def report(self) -> None:
        with self.database.write() as connection:
            given = rollouts.assignments_of(connection, self.random.choice(self.rollouts).id)
            if not given:
                return
            one = self.random.choice(given)
            self.seq += 1
            record = UpdateRecord(
                command=self.random.choice((one.command, one.rollback_command or one.command, "somebody's")),
                model="m",
                version="2",
                bundle="sha256:2",
                phase=self.random.choice(PHASES),
                reason="",
                at_s=self.now_s,
                boot="b",
            )
            device = self.random.choice((one.device, one.device, self.names[0]))
            event = telemetry.StoredUpdate(device=device, spool="s", seq=self.seq, received_s=self.now_s, record=record)
            telemetry.put_updates(connection, [event])


@contextlib.contextmanager
def fresh() -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory))
        try:
            yield database
        finally:
            database.close()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most_singly", [5000, 0])
def test_it_is_what_a_fresh_read_gives(seed: int, most_singly: int) -> None:
    with fresh() as database:
        history = History(database, seed)
        kept = Roster(most_singly=most_singly)
        for _ in range(60):
            for _ in range(history.random.choice((0, 1, 1, 3))):
                history.step()
            new = Roster()
            open_ones = history.rollouts[: history.random.choice((1, 2, 2))]
            with database.read() as connection:
                for roster in (kept, new):
                    roster.refresh(connection, open_ones, now_s=history.now_s)
                for one in open_ones:
                    assert kept.devices_for(one) == new.devices_for(one)
                    assert list(kept.assignments_of(one.id)) == rollouts.assignments_of(connection, one.id)
                unseen = {device: kept.unseen_epoch(device) for device in history.names}
                assert {one: epoch for one, epoch in unseen.items() if epoch is not None} == desired.unseen(connection)


def test_nothing_new_gives_the_same_objects() -> None:
    with fresh() as database:
        history = History(database, 1)
        for _ in range(20):
            history.step()
        roster = Roster()
        with database.read() as connection:
            roster.refresh(connection, history.rollouts, now_s=history.now_s)
            before, revision = roster.assignments_of("a"), roster.revision
            assert roster.refresh(connection, history.rollouts, now_s=history.now_s) == set()
        assert roster.assignments_of("a") is before
        assert roster.revision == revision


@pytest.mark.parametrize("seed", range(4))
def test_assignments_are_the_rows_with_their_events_in_the_order_of_the_spool(seed: int) -> None:
    with fresh() as database:
        history = History(database, seed)
        for _ in range(150):
            history.step()
        with database.read() as connection:
            for rollout in history.rollouts:
                found = rollouts.assignments_of(connection, rollout.id)
                assert found == _plainly(connection, rollout.id)
                names = history.random.sample([one.device for one in found], len(found) // 2)
                chosen = order_rows.some(connection, rollout.id, names, releases.epochs(connection))
                key = attrgetter("device")
                assert sorted(chosen, key=key) == sorted((one for one in found if one.device in names), key=key)


def _plainly(connection: Connection, rollout: str) -> list[Assignment]:
    """One assignment after the other, each with the events of its commands."""
    epoch_of = releases.epochs(connection)
    query = select(assignments).where(assignments.c.rollout == rollout).order_by(assignments.c.position)
    made = []
    for row in connection.execute(query):
        columns = {name: value for name, value in row._asdict().items() if name not in {"rollout", "changed"}}
        own, back = _events(connection, row.device, row.command), _events(connection, row.device, row.rollback_command)
        telling, telling_back = _telling(own), _telling(back)
        made.append(
            Assignment(
                **columns,
                previous_known=row.previous_bundle is None or row.previous_bundle in epoch_of,
                previous_epoch=epoch_of.get(row.previous_bundle, 0),
                phase=telling.record.phase if telling else None,
                phase_reason=telling.record.reason if telling else "",
                started_s=min((event.received_s for event in own), default=None),
                ended_s=telling.received_s if telling and telling.record.phase in ENDING_PHASES else None,
                rollback_phase=telling_back.record.phase if telling_back else None,
            )
        )
    return made


def _events(connection: Connection, device: str, command: str | None) -> list[telemetry.StoredUpdate]:
    found = telemetry.updates_of(connection, [command]) if command is not None else []
    return [event for event in found if event.device == device]


def _telling(events: list[telemetry.StoredUpdate]) -> telemetry.StoredUpdate | None:
    ending = (event for event in events if event.record.phase in ENDING_PHASES)
    return next(ending, events[-1] if events else None)
