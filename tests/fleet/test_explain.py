"""`edgewright fleet explain` on a real store: every decision comes out as recorded, online and from a file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import update

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have a package that is not pinned here
    from fastapi.testclient import TestClient

from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.core.explain.explain import Explanation, NotExplainable
from edgewright.fleet.explain_cli import all_entries, explain
from edgewright.fleet.explaining import explain_file, explain_rollout, read_entries
from edgewright.fleet.faults import FleetError, NotFoundError
from edgewright.fleet.sim.device import Behaviour
from edgewright.fleet.store import audit_log
from edgewright.fleet.store.schema import audit
from edgewright.fleet.trust.audit import AuditEntry, canonical, problems_of
from tests.fleet.house import House
from tests.fleet.test_whole_fleet import POLICY, SERVING, Fleet6

ADMIN = {"Authorization": "Bearer admin-token"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str, str]]:
    """A fleet, a rollout that went well beside its controls, and one that failed on the devices."""
    folder = tmp_path_factory.mktemp("told")
    house = House(folder / "house")
    fleet = Fleet6(house, folder, {"1": SERVING, "2": SERVING, "3": Behaviour(update_ends="failed")})
    yield house, fleet.roll_out("2", POLICY | {"waves": [3, "rest"], "horizonSeconds": 60}), fleet.roll_out("3")
    house.close()


def test_what_the_store_recorded_is_what_comes_out(told: tuple[House, str, str]) -> None:
    house, first, second = told
    for rollout in (first, second):
        found = explain_rollout(house.database, rollout)
        assert found.agrees, found.problems
        assert found.steps
        assert (found.blocks > 0) == (rollout == first)
    assert any(step.action == "rolling_back" for step in found.steps)
    with pytest.raises(NotFoundError):
        explain_rollout(house.database, "r-nobody")


def test_the_api_answers_the_same(told: tuple[House, str, str]) -> None:
    house, _, second = told
    surroundings = Surroundings(mqtt_host="", mqtt_port=1, broker_connected=lambda: True, counts=dict)
    with TestClient(build_app(house.fleet, admin_token="admin-token", surroundings=surroundings)) as api:
        path = f"/v1/rollouts/{second}/explain"
        assert api.get(path).status_code == 401
        answer = api.get(path, headers=ADMIN)
        assert answer.status_code == 200
        assert msgspec.json.decode(answer.content, type=Explanation) == explain_rollout(house.database, second)
        assert api.get("/v1/rollouts/r-nobody/explain", headers=ADMIN).status_code == 404


def log_of(house: House, folder: Path, subject: str | None = None) -> Path:
    """Write what `audit show --all --json` prints."""

    class Client:
        def get(self, _path: str, *, limit: int, subject: str | None, before: int | None) -> Any:
            found = house.fleet.audit(limit=limit, before_seq=before, subject=subject)
            return {"entries": msgspec.to_builtins(found)}

    path = folder / "audit.json"
    path.write_text(json.dumps({"entries": all_entries(Client(), subject)}))  # type: ignore[arg-type]
    return path


def test_a_file_of_entries_is_enough(told: tuple[House, str, str], tmp_path: Path) -> None:
    house, first, second = told
    whole = log_of(house, tmp_path)
    assert explain_file(whole, second) == explain_rollout(house.database, second)
    with pytest.raises(FleetError, match="name one"):
        explain_file(whole, None)
    with pytest.raises(FleetError, match="no entry about rollout:r-x; it has rollouts"):
        explain_file(whole, "r-x")
    own = log_of(house, tmp_path, f"rollout:{first}")
    assert explain_file(own, None).rollout == first
    entries = read_entries(own)
    own.write_bytes(msgspec.json.encode(entries[:-1]))  # newest first: the creation is the last
    with pytest.raises(NotExplainable, match="prints all that is needed"):
        explain_file(own, None)


def test_the_command_shows_the_numbers_and_exits_by_the_verdict(told: tuple[House, str, str], tmp_path: Path) -> None:
    house, _, second = told
    path = log_of(house, tmp_path)
    shown = CliRunner().invoke(explain, [second, "--from", str(path)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    for text in ("rolling_back", "failure", "stops at", "the same (", "recomputed = recorded", "floor 3"):
        assert text in shown.output
    as_json = CliRunner().invoke(explain, [second, "--from", str(path), "--json"])
    assert json.loads(as_json.stdout)["agrees"] is True
    entries = json.loads(path.read_text())["entries"]
    stop = next(one for one in entries if one["action"] == "rollout.rolling_back")
    stop["detail"]["numbers"]["e_value"] = 1e9
    path.write_text(json.dumps(entries))
    shown = CliRunner().invoke(explain, [second, "--from", str(path)], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 1
    assert f"entry {stop['seq']} was changed" in shown.output
    assert "e_value is recorded as 1000000000.0" in shown.output


def test_an_entry_that_was_taken_out_of_a_whole_log_is_missed(told: tuple[House, str, str], tmp_path: Path) -> None:
    house, _, second = told
    path = log_of(house, tmp_path)
    entries = json.loads(path.read_text())["entries"]
    path.write_text(json.dumps([one for one in entries if one["action"] != "rollout.rolling_back"]))
    assert any("is missing" in problem for problem in explain_file(path, second).problems)


def test_an_entry_that_was_changed_in_the_store_is_found(told: tuple[House, str, str]) -> None:
    house, _, second = told
    with house.database.write() as connection:
        last = [one for one in audit_log.about(connection, f"rollout:{second}") if "reason" in one.detail][-1]
        detail = json.dumps({**last.detail, "reason": "all was well"}).encode()
        connection.execute(update(audit).where(audit.c.seq == last.seq).values(detail=detail))
    found = explain_rollout(house.database, second)
    assert not found.agrees
    assert found.problems[0].startswith(f"entry {last.seq} was changed")
    with house.database.write() as connection:
        connection.execute(update(audit).where(audit.c.seq == last.seq).values(detail=canonical(last.detail)))
    assert explain_rollout(house.database, second).agrees


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "does not hold audit entries"),
        (b"[", "does not hold audit entries"),
        (b'{"entries": 5}', "does not hold audit entries"),
        (b'[{"seq": 1}]', "does not hold audit entries"),
        (b"[" * 100_000, "does not hold audit entries"),
        (b"\xff\xfe", "does not hold audit entries"),
        (b"[]", "no rollout at all"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "audit.json"
    path.write_bytes(content)
    with pytest.raises(FleetError, match=complaint):
        explain_file(path, None)


def test_a_file_that_is_not_there_and_a_rollout_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="cannot read"):
        read_entries(tmp_path / "nothing.json")
    asked = CliRunner().invoke(explain, [])
    assert isinstance(asked.exception, FleetError)


def test_neighbours_are_checked_against_each_other(told: tuple[House, str, str]) -> None:
    house = told[0]
    with house.database.read() as connection:
        entries = list(audit_log.every(connection))
    assert problems_of(entries) == []
    assert problems_of(entries[::3]) == []

    def found(*changed: AuditEntry) -> str:
        return "; ".join(problems_of(changed))

    one, two, three = entries[:3]
    assert "comes after" in found(two, one)
    assert "names" in found(one, msgspec.structs.replace(two, seq=3), three) or "was changed" in found(
        one, msgspec.structs.replace(two, seq=3), three
    )
    assert "was changed" in found(one, msgspec.structs.replace(two, actor="somebody"))
