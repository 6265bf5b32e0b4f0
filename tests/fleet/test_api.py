"""The HTTP API: who may call what, ranges, errors, and that all of it is documented."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have a package that is not pinned here
    from fastapi.testclient import TestClient

from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.api.auth import COOKIE
from edgewright.fleet.api.body_limit import MAX_BODY_BYTES
from edgewright.fleet.trust.credentials import device_bearer
from tests.bundle.samples import DIGEST, pack_sample
from tests.fleet.house import House

ADMIN = {"Authorization": "Bearer admin-token"}
BOARD = {"target": "raspberry-pi-5", "target_digest": DIGEST}


@pytest.fixture
def api(house: House) -> Iterator[TestClient]:
    surroundings = Surroundings(
        mqtt_host="broker.lan", mqtt_port=1883, broker_connected=lambda: True, counts=lambda: {"records": 3}
    )
    app = build_app(house.fleet, admin_token="admin-token", surroundings=surroundings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def enrol(api: TestClient, name: str = "cam") -> dict[str, str]:
    """Enrol a device and return the headers that it sends."""
    token = api.post("/v1/tokens", json={}, headers=ADMIN).json()["token"]
    given = api.post("/v1/enroll", json={"token": token, "name": name, **BOARD})
    assert given.status_code == 201, given.text
    return {"Authorization": f"Bearer {device_bearer(name, bytes.fromhex(given.json()['secret']))}"}


def upload(api: TestClient, folder: Path, version: str = "1") -> tuple[str, bytes]:
    archive, digest = pack_sample(folder, name=f"bundle-{version}", version=version)
    content = archive.read_bytes()
    answer = api.post("/v1/artifacts", content=content, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    assert answer.json()["digest"] == digest
    return digest, content


def test_every_route_but_three_needs_the_admin(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    open_routes = {("post", "/v1/enroll"), ("get", "/v1/live")}
    checked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            if (method, path) in open_routes:
                continue
            url = path.format_map(defaultdict(lambda: "x", device="cam", rollout="r-1", event="pause", digest="0" * 64))
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=admin-token"}):
                answer = api.request(method, url, headers=headers)
                assert answer.status_code == 401, f"{method} {path} with {headers}"
                assert set(answer.json()) == {"error"}
            checked += 1
    assert checked >= 14


def test_the_document_describes_answers_and_errors(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    assert document["info"]["title"] == "Edgewright fleet"
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["description"], f"{method} {path} says nothing of itself"
    answer = document["paths"]["/v1/rollouts/{rollout}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"]["$ref"].removeprefix("#/components/schemas/") in schemas
    assert "HTTPBearer" in document["components"]["securitySchemes"]


def test_the_document_says_what_any_route_may_refuse(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    routes = [route for path in paths.values() for route in path.values()]
    assert all({"400", "408", "413", "422"} <= set(route["responses"]) for route in routes if "requestBody" in route)
    assert "404" in paths["/v1/devices/{device}"]["delete"]["responses"]
    assert "401" in paths["/v1/artifacts/{digest}"]["get"]["responses"]
    answer = api.post("/v1/stop", content=b"\xff", headers=ADMIN | {"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_the_login_link_gives_a_cookie_that_is_not_the_token(api: TestClient) -> None:
    answer = api.get("/", params={"token": "admin-token"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "admin-token" not in cookie
    assert api.get("/v1/devices").status_code == 200, "the client keeps the cookie"
    api.cookies.clear()
    assert api.get("/", params={"token": "wrong"}).status_code in {401, 404}
    assert api.get("/v1/devices").status_code == 401


def test_enrolment(api: TestClient) -> None:
    token = api.post("/v1/tokens", json={"label": "x", "lifetime_s": 60}, headers=ADMIN).json()["token"]
    body = {"token": token, "name": "cam-1", "software": "edgewright 0.1", "arch": "aarch64", **BOARD}
    given = api.post("/v1/enroll", json=body).json()
    assert given["mqtt"] == {"host": "broker.lan", "port": 1883}
    assert len(bytes.fromhex(given["secret"])) == 32
    again = api.post("/v1/enroll", json=body)
    assert again.status_code == 401
    assert "used up" in again.json()["error"]
    devices = api.get("/v1/devices", headers=ADMIN).json()["devices"]
    assert [device["device"] for device in devices] == ["cam-1"]
    assert "secret" not in devices[0]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/tokens", {"lifetime_s": "60"}, "lifetime_s"),
        ("/v1/tokens", {"lifetime_s": 10**9}, "lifetime_s"),
        ("/v1/tokens", {"colour": "red"}, "colour"),
        ("/v1/enroll", {"token": "t", "name": "a/b", **BOARD}, "name"),
        ("/v1/enroll", {"token": "t", "name": "a.b", **BOARD}, "name"),
        ("/v1/enroll", {"token": "t", "target": "x", "target_digest": "md5:0"}, "target_digest"),
        ("/v1/releases", {"model": "m", "version": "1", "bundles": []}, "bundles"),
        ("/v1/releases", {"model": "m", "version": "1", "bundles": ["../../etc/passwd"]}, "bundles"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(api: TestClient, path: str, body: object, says: str) -> None:
    answer = api.post(path, json=body, headers=ADMIN)
    assert answer.status_code == 422
    assert says in answer.json()["error"]


BROKEN = b'"\\ud800"'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rollouts", b'{"model": "m", "version": "1", "policy": {"group": %s}}' % BROKEN),
        ("/v1/alert-rules", b'{"name": "a", "model": %s, "metric": "inputs"}' % BROKEN),
        ("/v1/alert-rules", b'{"name": "a", "model": "m", "metric": %s}' % BROKEN),
        ("/v1/experiments", b'{"model": %s, "baseline": "1", "candidate": "2"}' % BROKEN),
    ],
)
def test_half_a_character_is_no_bug_of_ours(api: TestClient, path: str, body: bytes) -> None:
    answer = api.post(path, content=body, headers=ADMIN | {"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "half of a character" in answer.json()["error"]


def test_a_number_that_no_entry_can_have_is_refused(api: TestClient) -> None:
    assert api.get(f"/v1/audit?before={2**63 - 1}", headers=ADMIN).status_code == 200
    assert api.get(f"/v1/audit?before={2**63}", headers=ADMIN).status_code == 422


def test_a_large_body_is_refused_before_it_is_parsed(api: TestClient) -> None:
    answer = api.post("/v1/enroll", content=b"[" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]


def test_a_broken_bundle_is_refused_and_leaves_no_file(api: TestClient, house: House, tmp_path: Path) -> None:
    archive, _ = pack_sample(tmp_path)
    content = archive.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for bad in (b"", b"not a bundle", content[:half], flipped):
        answer = api.post("/v1/artifacts", content=bad, headers=ADMIN)
        assert answer.status_code == 400, answer.text
    assert list((house.directory / "artifacts").iterdir()) == []


def test_an_upload_needs_the_admin_and_a_device_may_only_read(api: TestClient, tmp_path: Path) -> None:
    device = enrol(api)
    assert api.post("/v1/artifacts", content=b"x", headers=device).status_code == 401
    digest, content = upload(api, tmp_path)
    path = f"/v1/artifacts/{digest.removeprefix('sha256:')}"
    assert api.get(path, headers=device).content == content
    assert api.get(path).status_code == 401
    forged = {"Authorization": "Bearer cam." + "0" * 64}
    assert api.get(path, headers=forged).status_code == 401


def test_ranges(api: TestClient, tmp_path: Path) -> None:
    device = enrol(api)
    digest, content = upload(api, tmp_path)
    path = f"/v1/artifacts/{digest.removeprefix('sha256:')}"
    whole = api.get(path, headers=device)
    tag = whole.headers["etag"]
    assert tag == f'"{digest.removeprefix("sha256:")}"'
    assert whole.headers["accept-ranges"] == "bytes"

    part = api.get(path, headers=device | {"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"

    rest = api.get(path, headers=device | {"Range": "bytes=1000-", "If-Range": tag})
    assert (rest.status_code, rest.content) == (206, content[1000:])

    stale = api.get(path, headers=device | {"Range": "bytes=1000-", "If-Range": '"another"'})
    assert (stale.status_code, stale.content) == (200, content)

    past = api.get(path, headers=device | {"Range": f"bytes={len(content)}-"})
    assert past.status_code == 416
    assert past.headers["content-range"].endswith(f"*/{len(content)}")


@pytest.mark.parametrize("name", ["0" * 64, "..%2Fadmin.token", "admin.token", "0" * 63])
def test_what_is_no_artifact_is_not_found(api: TestClient, name: str) -> None:
    answer = api.get(f"/v1/artifacts/{name}", headers=ADMIN)
    assert answer.status_code == 404
    assert set(answer.json()) <= {"error"}


def test_release_and_rollout(api: TestClient, tmp_path: Path) -> None:
    digest, _ = upload(api, tmp_path)
    body = {"model": "digits", "version": "1", "bundles": [digest]}
    assert api.post("/v1/releases", json=body, headers=ADMIN).json()["bundles"] == {"raspberry-pi-5": digest}
    assert len(api.get("/v1/releases", headers=ADMIN).json()["releases"]) == 1

    bad = api.post("/v1/rollouts", json={"model": "digits", "version": "1", "policy": {"wave": [1]}}, headers=ADMIN)
    assert bad.status_code == 400
    assert "waves" in bad.json()["error"], "it says which key was meant"
    missing = api.post("/v1/rollouts", json={"model": "digits", "version": "9"}, headers=ADMIN)
    assert missing.status_code == 404

    made = api.post("/v1/rollouts", json={"model": "digits", "version": "1"}, headers=ADMIN).json()
    path = f"/v1/rollouts/{made['id']}"
    assert api.get(path, headers=ADMIN).json()["rollout"]["state"] == "running"
    assert api.post(f"{path}/pause", json={"reason": "lunch"}, headers=ADMIN).json()["state"] == "paused"
    again = api.post(f"{path}/pause", json={"reason": "lunch"}, headers=ADMIN)
    assert again.status_code == 409
    assert "resume" in again.json()["error"], "it says what is possible"
    assert api.post(f"{path}/explode", json={"reason": ""}, headers=ADMIN).status_code == 422
    assert api.post(f"{path}/abort", json={"reason": "enough"}, headers=ADMIN).json()["state"] == "aborted"
    entries = api.get("/v1/audit", params={"subject": f"rollout:{made['id']}"}, headers=ADMIN).json()["entries"]
    assert [entry["action"] for entry in entries] == ["rollout.aborted", "rollout.paused", "rollout.created"]
    assert entries[1]["actor"] == "admin"
    assert entries[1]["detail"]["reason"] == "lunch"
    assert api.get("/v1/audit/verify", headers=ADMIN).json()["intact"]


def test_where_a_device_stands(api: TestClient) -> None:
    place = {"site": "hall-2", "time_zone": "Europe/Berlin", "labels": {"line": "3", "spare": "yes"}}
    token = api.post("/v1/tokens", json=place, headers=ADMIN).json()["token"]
    assert api.post("/v1/enroll", json={"token": token, "name": "cam", **BOARD}).status_code == 201
    found = api.get("/v1/devices/cam", headers=ADMIN).json()
    assert {key: found[key] for key in place} == place, "the device takes over what its token says"

    change = {"site": "hall-3", "labels": {"spare": None, "row": "b"}}
    moved = api.patch("/v1/devices/cam", json=change, headers=ADMIN).json()
    assert (moved["site"], moved["time_zone"], moved["labels"]) == (
        "hall-3",
        "Europe/Berlin",
        {"line": "3", "row": "b"},
    )
    entry = api.get("/v1/audit", params={"subject": "device:cam"}, headers=ADMIN).json()["entries"][0]
    assert entry["action"] == "device.set"
    assert entry["detail"]["before"] == place

    wrong = api.patch("/v1/devices/cam", json={"time_zone": "Middle/Earth"}, headers=ADMIN)
    assert wrong.status_code == 400
    assert "IANA" in wrong.json()["error"]
    for odd in ({"time_zone": "../etc"}, {"time_zone": "Europe"}, {"site": "a\u0000b"}):
        assert api.patch("/v1/devices/cam", json=odd, headers=ADMIN).status_code == 400
    assert api.patch("/v1/devices/cam", json={"labels": {"a b": "c"}}, headers=ADMIN).status_code == 422
    assert api.patch("/v1/devices/nobody", json={}, headers=ADMIN).status_code == 404
    assert api.get("/v1/devices/cam", headers=ADMIN).json()["site"] == "hall-3"


def test_an_emergency_stop_and_a_floor(api: TestClient, tmp_path: Path) -> None:
    digest, _ = upload(api, tmp_path)
    api.post("/v1/releases", json={"model": "digits", "version": "1", "bundles": [digest]}, headers=ADMIN)
    made = api.post("/v1/rollouts", json={"model": "digits", "version": "1"}, headers=ADMIN).json()
    path = f"/v1/rollouts/{made['id']}"
    assert api.get("/v1/stop", headers=ADMIN).json() == {"stop": None, "rollouts": []}
    assert api.post("/v1/stop", json={}, headers=ADMIN).status_code == 422, "a stop has a reason"
    stopped = api.post("/v1/stop", json={"reason": "smoke"}, headers=ADMIN).json()
    assert stopped["rollouts"] == [made["id"]]
    assert api.get("/v1/stop", headers=ADMIN).json()["stop"]["reason"] == "smoke"
    assert api.get(path, headers=ADMIN).json()["rollout"]["state"] == "paused"
    assert api.post("/v1/stop", json={"reason": "more smoke"}, headers=ADMIN).status_code == 409
    resumed = api.post(f"{path}/resume", json={"reason": ""}, headers=ADMIN)
    assert resumed.status_code == 409
    assert "edgewright fleet lift" in resumed.json()["error"]
    assert api.post("/v1/rollouts", json={"model": "digits", "version": "1"}, headers=ADMIN).status_code == 409
    assert api.post("/v1/lift", headers=ADMIN).json()["stop"] is None
    assert api.post("/v1/lift", headers=ADMIN).status_code == 409
    assert api.post(f"{path}/resume", json={"reason": ""}, headers=ADMIN).json()["state"] == "running"
    api.post(f"{path}/abort", json={"reason": ""}, headers=ADMIN)

    assert api.get("/v1/floors/digits", headers=ADMIN).json() == {"model": "digits", "security_epoch": 0}
    assert api.post("/v1/floors/digits", json={"security_epoch": 5}, headers=ADMIN).json()["security_epoch"] == 5
    assert api.post("/v1/floors/digits", json={"security_epoch": 4}, headers=ADMIN).status_code == 409
    assert api.post("/v1/floors/nobody", json={"security_epoch": 4}, headers=ADMIN).status_code == 404
    assert api.post("/v1/floors/digits", json={"security_epoch": -1}, headers=ADMIN).status_code == 422
    below = api.post("/v1/rollouts", json={"model": "digits", "version": "1"}, headers=ADMIN)
    assert below.status_code == 409
    assert "below the floor 5" in below.json()["error"]
    assert api.get(path, headers=ADMIN).json()["rollout"]["security_floor"] == 5, "also rollouts that were there"
    actions = [one["action"] for one in api.get("/v1/audit", headers=ADMIN).json()["entries"]]
    assert actions.count("floor.raised") == actions.count("fleet.stopped") == actions.count("fleet.lifted") == 1


def test_a_board_that_a_release_does_not_have(api: TestClient, tmp_path: Path) -> None:
    digest, _ = upload(api, tmp_path)
    api.post("/v1/releases", json={"model": "digits", "version": "1", "bundles": [digest]}, headers=ADMIN)
    made = api.post("/v1/rollouts", json={"model": "digits", "version": "1"}, headers=ADMIN).json()
    boards = f"/v1/rollouts/{made['id']}/boards"
    missing = api.post(f"{boards}/toaster/rollback", json={"reason": ""}, headers=ADMIN)
    assert missing.status_code == 404
    assert "raspberry-pi-5" in missing.json()["error"]
    halted = api.post(f"{boards}/raspberry-pi-5/rollback", json={"reason": "hot"}, headers=ADMIN).json()["halted"]
    assert [(one["target"], one["action"], one["reason"]) for one in halted] == [("raspberry-pi-5", "ROLLBACK", "hot")]
    again = api.post(f"{boards}/raspberry-pi-5/rollback", json={"reason": ""}, headers=ADMIN)
    assert again.status_code == 409
    api.post(f"/v1/rollouts/{made['id']}/abort", json={"reason": ""}, headers=ADMIN)
    assert api.post(f"{boards}/raspberry-pi-5/rollback", json={"reason": ""}, headers=ADMIN).status_code == 409


def test_status_and_drift(api: TestClient) -> None:
    assert api.get("/v1/status", headers=ADMIN).json()["broker_connected"]
    assert api.get("/v1/drift", headers=ADMIN).json()["bundles"] == []
    assert api.get("/v1/live").json() == {"live": True}
    assert api.get("/v1/nothing", headers=ADMIN).json() == {"error": "Not Found"}
