"""What a hostile page, client, device or disk tries."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have a package that is not pinned here
    from fastapi.testclient import TestClient

from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.api.body_limit import BodyLimit
from edgewright.fleet.api.impatience import ImpatientProtocol
from edgewright.fleet.api.origins import Origins
from edgewright.fleet.artifacts import MAX_ARTIFACT_BYTES
from edgewright.fleet.console.routes import build_router
from edgewright.fleet.sim.device import Behaviour
from edgewright.fleet.trust.credentials import device_bearer
from tests.fleet.house import House, wait_for

ADMIN = {"Authorization": "Bearer admin-token"}
OPEN = {("POST", "/v1/enroll"), ("GET", "/v1/live"), ("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
"""Enrolment has its one-time token; the other two say nothing about this fleet."""


def app_of(house: House, origins: Origins | None = None) -> FastAPI:
    surroundings = Surroundings(
        mqtt_host="h", mqtt_port=1, broker_connected=lambda: True, counts=dict, origins=origins or Origins()
    )
    console = build_router(house.fleet, broker_connected=lambda: True)
    return build_app(house.fleet, admin_token="admin-token", surroundings=surroundings, extra_routers=[console])


def client_of(app: FastAPI, base_url: str = "http://127.0.0.1:8600") -> TestClient:
    return TestClient(app, base_url=base_url, raise_server_exceptions=False)


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path that the app serves, also those that its document leaves out."""
    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner:
            waiting += inner
        elif getattr(route, "methods", None):
            yield from ((method, route.path) for method in route.methods)


def test_every_route_that_is_not_named_open_needs_a_credential(house: House) -> None:
    app = app_of(house)
    client = client_of(app)
    found = set(routes_of(app))
    assert len(found) >= 20
    assert found >= OPEN, "the list of open routes names no route that is gone"
    for method, path in sorted(found - OPEN):
        url = re.sub(r"\{\w+\}", "some", path)
        answer = client.request(method, url, headers={"HX-Request": "true"})
        assert answer.status_code == 401, f"{method} {path}"


def test_the_walk_over_the_routes_would_see_an_open_one(house: House) -> None:
    app = app_of(house)
    app.router.routes.append(APIRoute("/v1/leak", lambda: {"secret": 1}, methods=["GET"]))
    assert ("GET", "/v1/leak") in set(routes_of(app)) - OPEN
    assert client_of(app).get("/v1/leak").status_code == 200


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, None),
        ("POST", {"origin": "http://127.0.0.1:8600"}, None),
        ("POST", {"origin": "HTTP://127.0.0.1:8600"}, None),
        ("POST", {"origin": "https://fleet.example"}, None),
        ("POST", {"origin": "http://127.0.0.1:9999"}, 403),  # another port is the same site, so the cookie comes along
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "http://127.0.0.1:8600.evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "http://[broken"}, 403),
        ("DELETE", {"origin": "http://evil.example"}, 403),
        ("POST", {"sec-fetch-site": "same-site"}, 403),
        ("POST", {"sec-fetch-site": "cross-site"}, 403),
        ("POST", {"sec-fetch-site": "same-origin"}, None),
        ("GET", {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, None),
        ("GET", {"host": "evil.example:8600"}, 421),
        ("GET", {"host": "localhost:1"}, None),
        ("GET", {"host": "[::1]:8600"}, None),
        ("GET", {"host": "fleet.example"}, None),
        ("GET", {"host": ""}, 421),
        ("GET", {"host": "[broken"}, 421),
    ],
)
def test_what_may_come_from_where(method: str, headers: dict[str, str], status: int | None) -> None:
    origins = Origins(names=("fleet.example",), loopback=True)
    refusal = origins.refusal(method, Headers({"host": "127.0.0.1:8600"} | headers))
    assert (refusal[0] if refusal else None) == status


def test_a_server_for_the_network_does_not_know_all_its_names() -> None:
    assert Origins().refusal("GET", Headers({"host": "10.0.0.7:8600"})) is None
    refusal = Origins().refusal("POST", Headers({"host": "10.0.0.7", "origin": "http://evil.example"}))
    assert refusal is not None


def test_a_button_pressed_by_another_page_does_nothing(house: House) -> None:
    client = client_of(app_of(house, Origins(loopback=True)))
    client.get("/", params={"token": "admin-token"})
    url = "/console/rollouts/r-1/pause"
    foreign = client.post(url, headers={"HX-Request": "true", "Origin": "http://127.0.0.1:9999"})
    assert foreign.status_code == 403
    own = client.post(url, headers={"HX-Request": "true", "Origin": "http://127.0.0.1:8600"})
    assert (own.status_code, own.json()["error"][:10]) == (404, "no rollout")
    api = client.post("/v1/tokens", json={}, headers={"Origin": "http://127.0.0.1:9999"})
    assert api.status_code == 403
    rebound = client_of(app_of(house, Origins(loopback=True)), "http://evil.example:8600").get("/v1/live")
    assert rebound.status_code == 421


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2fheaders.py", "%2fetc%2fpasswd", "console.css%00", "login.py"])
def test_the_console_serves_its_own_files_only(house: House, name: str) -> None:
    answer = client_of(app_of(house)).get(f"/console/static/{name}", headers=ADMIN)
    assert answer.status_code in {401, 404}
    assert "import" not in answer.text


def test_an_archive_that_is_too_large_is_refused_by_its_announced_size(house: House) -> None:
    headers = ADMIN | {"Content-Length": str(MAX_ARTIFACT_BYTES + 1)}
    answer = client_of(app_of(house)).post("/v1/artifacts", content=b"x", headers=headers)
    assert answer.status_code == 413
    assert list((house.directory / "artifacts").iterdir()) == []


def test_a_disk_that_fills_up_during_an_upload_leaves_nothing(house: House) -> None:
    client = client_of(app_of(house))
    with files_no_larger_than(2 * 1024 * 1024):  # what the kernel says differs from a full disk by the errno only
        answer = client.post("/v1/artifacts", content=bytes(4 * 1024 * 1024), headers=ADMIN)
    assert answer.status_code == 503
    assert "cannot store the archive" in answer.json()["error"]
    assert list((house.directory / "artifacts").iterdir()) == []
    assert client.get("/v1/devices", headers=ADMIN).status_code == 200


@contextlib.contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Hasty(ImpatientProtocol):
    """For a test that has no quarter of a minute."""

    head_timeout_s = 0.3


@pytest.fixture
def hasty_port() -> Iterator[int]:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        limited = BodyLimit(app, timeout_s=0.3)
        config = uvicorn.Config(limited, http=Hasty, lifespan="off", log_config=None, ws="none", timeout_keep_alive=60)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started, what="uvicorn")
        yield int(listener.getsockname()[1])
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("head", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_ends_the_connection(hasty_port: int, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty_port), timeout=60) as slow:
        slow.sendall(head)
        assert slow.recv(100) == b""


def in_time(port: int, talk: Callable[[socket.socket], bytes]) -> bytes:
    """What the server said in the end to a client that sent its heads in time: some try is one that nothing held up."""
    for _ in range(20):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            return talk(client)
    raise AssertionError("a head that comes at once is not waited for")


def test_a_second_request_has_to_hurry_as_well(hasty_port: int) -> None:
    def talk(slow: socket.socket) -> bytes:
        for pause_s in (0.0, 0.5):  # between requests, the server's own limit holds
            time.sleep(pause_s)
            slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            if b"204" not in slow.recv(1000):
                raise ConnectionResetError
        slow.sendall(b"GET / HT")
        return slow.recv(100)

    assert in_time(hasty_port, talk) == b""


def test_a_body_that_does_not_come_is_given_up(hasty_port: int) -> None:
    def talk(slow: socket.socket) -> bytes:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
        if not (answer := slow.recv(1000)):
            raise ConnectionResetError
        return answer

    assert b" 408 " in in_time(hasty_port, talk)


def test_a_removed_device_is_out_at_once_and_its_name_is_free(house: House) -> None:
    client = client_of(app_of(house))
    device = house.enrol("cam", lambda _: Behaviour())
    house.step(connecting=True)
    bearer = {"Authorization": f"Bearer {device_bearer('cam', device.identity.secret)}"}
    assert client.get(f"/v1/artifacts/{'0' * 64}", headers=bearer).status_code == 404
    assert client.delete("/v1/devices/cam", headers=ADMIN).status_code == 204
    assert client.get(f"/v1/artifacts/{'0' * 64}", headers=bearer).status_code == 401
    assert client.get("/v1/devices/cam", headers=ADMIN).status_code == 404
    assert client.get("/v1/devices", headers=ADMIN).json()["devices"] == []
    refused = house.recorder.counts["refused messages"]
    house.step()
    assert house.recorder.counts["refused messages"] > refused, "its messages count no more"
    assert client.delete("/v1/devices/cam", headers=ADMIN).status_code == 404
    assert client.get("/v1/audit", headers=ADMIN).json()["entries"][0]["action"] == "device.removed"
    with house.database.read() as connection:
        epoch = connection.exec_driver_sql("SELECT desired_epoch FROM devices").scalar_one()

    again = house.enrol("cam", lambda _: Behaviour())
    assert again.identity.secret != device.identity.secret
    assert client.get(f"/v1/artifacts/{'0' * 64}", headers=bearer).status_code == 401
    assert house.fleet.device("cam").desired_epoch >= epoch > 0, "an old order cannot be taken for a new one"
