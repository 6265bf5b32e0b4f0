"""The database: who may open it, what a transaction promises, enrolment, the audit chain."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from edgewright.fleet.faults import ConflictError, FleetError, FleetUnavailable, NotFoundError, UnauthorizedError
from edgewright.fleet.store import audit_log, desired
from edgewright.fleet.store.database import Database, read_meta, write_meta
from edgewright.fleet.store.enrolment import Enrolling
from edgewright.fleet.trust import audit, credentials
from tests.bundle.samples import DIGEST, pack_sample
from tests.fleet.house import House

BOARD = Enrolling(name="cam", target="raspberry-pi-5", target_digest=DIGEST)


def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    first = Database(tmp_path)
    with pytest.raises(FleetUnavailable, match="in use by another"):
        Database(tmp_path)
    first.close()
    Database(tmp_path).close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleet.sqlite").write_bytes(b"these are not the rows you are looking for" * 50)
    with pytest.raises(FleetError, match="not a fleet database"):
        Database(tmp_path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.write() as connection:
        write_meta(connection, "schema_version", "99")
    database.close()
    with pytest.raises(FleetError, match="schema version 99"):
        Database(tmp_path)


def test_a_data_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(FleetUnavailable, match="--data"):
        Database(tmp_path / "data")


def test_a_transaction_that_raises_leaves_nothing(house: House) -> None:
    def fail() -> None:
        with house.database.write() as connection:
            write_meta(connection, "key", "value")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with house.database.read() as connection:
        assert read_meta(connection, "key") is None


def test_writers_take_turns(house: House) -> None:
    def add() -> None:
        for _ in range(20):
            with house.database.write() as connection:
                write_meta(connection, "count", str(int(read_meta(connection, "count") or 0) + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with house.database.read() as connection:
        assert read_meta(connection, "count") == "80"


def test_a_token_enrols_one_device_once(house: House) -> None:
    token = house.fleet.add_token(label="", lifetime_s=60)
    enrolled = house.fleet.enrol(token, BOARD)
    assert (enrolled.device, len(enrolled.secret)) == ("cam", credentials.SECRET_BYTES)
    with pytest.raises(UnauthorizedError, match="used up by device cam"):
        house.fleet.enrol(token, BOARD)
    with pytest.raises(UnauthorizedError, match="no such"):
        house.fleet.enrol("ewt_guess", BOARD)
    assert [device.device for device in house.fleet.devices()] == ["cam"]


def test_a_token_expires(house: House) -> None:
    token = house.fleet.add_token(label="", lifetime_s=60)
    house.clock.now_s += 60
    with pytest.raises(UnauthorizedError, match="expired"):
        house.fleet.enrol(token, BOARD)


def test_a_taken_name_does_not_use_the_token_up(house: House) -> None:
    house.fleet.enrol(house.fleet.add_token(label="", lifetime_s=60), BOARD)
    token = house.fleet.add_token(label="", lifetime_s=60)
    with pytest.raises(ConflictError, match="enrolled already"):
        house.fleet.enrol(token, BOARD)
    other = Enrolling(name=None, target="raspberry-pi-5", target_digest=DIGEST)
    assert house.fleet.enrol(token, other).device.startswith("d-")


def test_neither_tokens_nor_the_admin_token_stand_in_the_database(house: House) -> None:
    token = house.fleet.add_token(label="camera", lifetime_s=60)
    house.database.close()
    content = b"".join(path.read_bytes() for path in house.directory.glob("fleet.sqlite*"))
    assert b"camera" in content
    assert token.encode() not in content
    house._open()


def test_epochs_only_grow_also_across_a_restart(house: House) -> None:
    house.fleet.enrol(house.fleet.add_token(label="", lifetime_s=60), BOARD)
    seen: list[int] = []
    for number in range(6):
        order = desired.Assignment(
            device="cam",
            model="digits",
            version=str(number),
            bundle=DIGEST,
            command=f"c-{number}",
            probation_s=1.0,
            rollback=False,
            rollout=None,
        )
        with house.database.write() as connection:
            if number % 3 == 2:
                desired.withdraw(connection, ["cam"], "digits")
            else:
                desired.assign(connection, [order], now_s=1.0)
        with house.database.read() as connection:
            found = desired.order_of(connection, "cam")
        assert found is not None
        seen.append(found.epoch)
        house.restart()
    assert seen == [1, 2, 3, 4, 5, 6]


def test_releases_never_change(house: House, tmp_path: Path) -> None:
    digest = house.release(tmp_path, "1")
    assert house.fleet.add_release("digits", "1", [digest]).bundles == {"raspberry-pi-5": digest}
    _, other = pack_sample(tmp_path, name="other", version="1", model_bytes=b"other weights")
    with pytest.raises(NotFoundError, match="upload it first"):
        house.fleet.add_release("digits", "1", [other])
    with pytest.raises(FleetError, match="one model version"):
        house.fleet.add_release("digits", "2", [digest])


def _tamper(house: House, statement: str) -> audit.AuditVerdict:
    for label in ("a", "b", "c"):
        house.fleet.add_token(label=label, lifetime_s=60)
    assert house.fleet.verify_audit().intact
    with sqlite3.connect(house.directory / "fleet.sqlite") as connection:
        connection.execute(statement)
    connection.close()
    return house.fleet.verify_audit()


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE audit SET detail = \'{"label":"z","lifetime_s":60}\' WHERE seq = 2',
        "UPDATE audit SET detail = 'not json' WHERE seq = 2",
        "UPDATE audit SET at_s = at_s + 1 WHERE seq = 2",
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "UPDATE audit SET digest = 'sha256:00' WHERE seq = 2",
        "UPDATE audit SET previous = 'sha256:00' WHERE seq = 2",
    ],
)
def test_tampering_with_the_audit_log_is_seen(house: House, statement: str) -> None:
    verdict = _tamper(house, statement)
    assert not verdict.intact
    assert verdict.entries == 1
    assert "2" in verdict.problem


def test_a_cut_off_end_is_seen_with_a_noted_head(house: House) -> None:
    for label in ("a", "b", "c"):
        house.fleet.add_token(label=label, lifetime_s=60)
    head = house.fleet.verify_audit().head
    assert house.fleet.verify_audit(head=head).intact
    with sqlite3.connect(house.directory / "fleet.sqlite") as connection:
        connection.execute("DELETE FROM audit WHERE seq = 3")
    connection.close()
    assert house.fleet.verify_audit().intact, "the chain alone cannot see it"
    assert not house.fleet.verify_audit(head=head).intact


def test_the_log_goes_on_after_a_restart(house: House) -> None:
    house.fleet.add_token(label="a", lifetime_s=60)
    house.restart()
    house.fleet.add_token(label="b", lifetime_s=60)
    assert house.fleet.verify_audit() == audit.AuditVerdict(
        intact=True, entries=2, head=house.fleet.verify_audit().head, problem=""
    )
    with house.database.read() as connection:
        assert [entry.seq for entry in audit_log.every(connection)] == [1, 2]
