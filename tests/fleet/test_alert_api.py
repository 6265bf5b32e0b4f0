"""Alert rules and alerts over HTTP: what is refused, what is shown, and that a secret is shown once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have a package that is not pinned here
    from fastapi.testclient import TestClient

from click.testing import CliRunner

from edgewright.fleet.alert_cli import alert
from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.service import Fleet
from edgewright.fleet.store.database import Database
from tests.fleet.house import Clock

ADMIN = {"Authorization": "Bearer admin-token"}
RULE: dict[str, Any] = {"name": "inputs", "model": "digits", "metric": "inputs"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    database = Database(tmp_path / "data")
    fleet = Fleet(database, Artifacts(tmp_path / "data" / "artifacts"), now=Clock())
    surroundings = Surroundings(mqtt_host="broker.lan", mqtt_port=1883, broker_connected=lambda: True, counts=dict)
    app = build_app(fleet, admin_token="admin-token", surroundings=surroundings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    database.close()


def test_rules_come_and_go(api: TestClient) -> None:
    made = api.post("/v1/alert-rules", json=RULE | {"webhook": {"url": "https://example.org/x"}}, headers=ADMIN)
    assert made.status_code == 201, made.text
    secret = made.json()["webhook_secret"]
    assert secret.startswith("whsec_")
    listed = api.get("/v1/alert-rules", headers=ADMIN)
    assert [rule["name"] for rule in listed.json()["rules"]] == ["inputs"]
    assert secret not in listed.text
    assert api.get("/v1/alerts", params={"open": "true"}, headers=ADMIN).json() == {"alerts": []}
    assert api.delete("/v1/alert-rules/inputs", headers=ADMIN).status_code == 204
    gone = api.delete("/v1/alert-rules/inputs", headers=ADMIN)
    assert (gone.status_code, "rule list" in gone.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (RULE | {"colour": 1}, 400),
        (RULE | {"webhook": {"url": "file:///etc/passwd"}}, 400),
        (RULE | {"command": {"argv": ["/bin/sh"]}}, 400),
        (RULE | {"onDrift": {"argv": ["x"], "policy": {"waves": []}}}, 400),
        ({}, 400),
        ([RULE], 422),
        ("x", 422),
    ],
)
def test_what_cannot_be_used_is_refused(api: TestClient, body: Any, status: int) -> None:
    answer = api.post("/v1/alert-rules", json=body, headers=ADMIN)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert api.get("/v1/alert-rules", headers=ADMIN).json() == {"rules": []}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rule.yaml", "", "suffix"),
        ("rule.toml", "x =", "not TOML"),
        ("rule.toml", 'name = "a"', "rule.toml"),
        ("rule.json", "[]", "rule.json"),
    ],
)
def test_the_command_names_the_file_that_is_wrong(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    result = CliRunner().invoke(alert, ["rule", "add", str(path), "--url", "http://127.0.0.1:1", "--token", "t"])
    assert result.exit_code != 0
    assert says in str(result.exception)
