"""The page in a real browser: scripts run under the strict policy, and the live feed connects."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.console.order_table import ON_A_PAGE
from edgewright.fleet.console.routes import build_router
from edgewright.fleet.sim.device import Behaviour
from tests.fleet.console.chromium import CHROMIUM, tab
from tests.fleet.house import House, wait_for

TOKEN = "t" * 32


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started, what="the server")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_lives_under_its_own_policy(house: House, tmp_path: Path) -> None:
    house.enrol("cam-1", lambda _: Behaviour(), seed=1)
    house.step(connecting=True)
    app = build_app(
        house.fleet,
        admin_token=TOKEN,
        surroundings=Surroundings(mqtt_host="h", mqtt_port=1, broker_connected=lambda: True, counts=dict),
        extra_routers=[build_router(house.fleet, broker_connected=lambda: True)],
    )
    asked: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope.get("path", ""))
        await app(scope, receive, send)

    with served(watched) as url:
        seen = open_page(f"{url}/?token={TOKEN}", tmp_path / "profile")
    assert re.search(r"<time [^>]*title=", seen.stdout), "the script of the page ran"
    assert "cam-1" in seen.stdout
    assert "/console/events" in asked, "htmx connected the live feed"
    assert [line for line in seen.stderr.splitlines() if ":CONSOLE" in line] == [], "nothing was refused"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_devices_of_a_rollout_are_paged_and_filtered(house: House, tmp_path: Path) -> None:
    for number in range(60):
        house.enrol(f"cam-{number:02d}", lambda _: Behaviour(), seed=number)
    house.step(connecting=True)
    house.release(tmp_path / "bundles", "1")
    house.fleet.create_rollout("digits", "1", {"waves": ["rest"]})
    house.run(lambda: len(house.fleet.rollout(house.fleet.rollouts()[0].id).assignments) >= 60)
    app = build_app(
        house.fleet,
        admin_token=TOKEN,
        surroundings=Surroundings(mqtt_host="h", mqtt_port=1, broker_connected=lambda: True, counts=dict),
        extra_routers=[build_router(house.fleet, broker_connected=lambda: True)],
    )
    names = "[...document.querySelectorAll('#order-panel tbody strong')].map(one => one.textContent)"
    with served(app) as url, tab(tmp_path / "profile") as page:
        page.open(f"{url}/?token={TOKEN}")
        page.until(f"{names}.length == {ON_A_PAGE}")
        page.value("document.querySelector('tr.more button').click()")
        page.until(f"{names}.length == 60")
        assert page.value(f"new Set({names}).size") == 60
        page.value("document.querySelector('[name=site]').value = 'nowhere'")
        page.value("document.querySelector('[name=site]').dispatchEvent(new Event('change', {bubbles: true}))")
        page.until("document.querySelector('#order-panel').textContent.includes('No device of this rollout fits')")
        page.until("document.querySelector('#link').textContent == 'live'")
        for dark, width in ((False, 1280), (True, 1280), (False, 390), (True, 390)):
            page.size(width, 900, dark=dark)
            assert page.value("document.documentElement.scrollWidth <= window.innerWidth"), (width, dark)


def open_page(url: str, profile: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={profile}", "--timeout=5000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
