"""The console: one page, live, safe against what devices and bundles call themselves, and behind the login."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from edgewright.bundle.reference import Histogram, Source
from edgewright.fleet.api.app import Surroundings, build_app
from edgewright.fleet.console.feed import SECTIONS, Feed, changes, event
from edgewright.fleet.console.pictures import HEIGHT, MOST_BARS, draw
from edgewright.fleet.console.routes import STATIC, _stream, build_router
from edgewright.fleet.sim.device import Behaviour
from edgewright.fleet.store.enrolment import Enrolling
from tests.bundle.samples import DIGEST
from tests.fleet.house import House

TOKEN = "t" * 32
PRESSED = {"HX-Request": "true"}
WEIGHTS = ((0.1, 0.4, 0.4, 0.1), (0.3, 0.3, 0.4), (0.05, 0.15, 0.8))
POLICY = {"waves": [1, "rest"], "driftGate": {"minSamples": 50, "onInconclusive": "CONTINUE"}, "horizonSeconds": 200}


class Browser:
    """Asks the app itself, without a socket, and keeps its cookies."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._cookies = httpx.Cookies()

    def get(self, path: str, **params: str) -> httpx.Response:
        return asyncio.run(self._ask("GET", path, params=params))

    def post(self, path: str, **headers: str) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, headers=headers))

    async def _ask(
        self, method: str, path: str, *, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://fleet", cookies=self._cookies) as client:
            answer = await client.request(method, path, params=params or None, headers=headers)
            self._cookies = client.cookies
            return answer


def client_of(house: House, *, broker: bool = True, login: bool = True) -> Browser:
    app = build_app(
        house.fleet,
        admin_token=TOKEN,
        surroundings=Surroundings(mqtt_host="h", mqtt_port=1, broker_connected=lambda: broker, counts=dict),
        extra_routers=[build_router(house.fleet, broker_connected=lambda: broker)],
    )
    client = Browser(app)
    if login:
        assert client.get("/", token=TOKEN).status_code == 303
    return client


def running(house: House, folder: Path) -> None:
    """Two devices with traffic on release 1, whose rollout has ended."""
    for seed, name in enumerate(("cam-1", "cam-2")):
        house.enrol(name, lambda _: Behaviour(requests_per_step=40, weights=WEIGHTS), seed=seed)
    house.release(folder, "1")
    house.fleet.create_rollout("digits", "1", POLICY)
    house.step(connecting=True)
    house.run(lambda: house.fleet.rollouts()[0].state == "completed")
    for _ in range(5):
        house.step()


def test_empty_states_teach_the_next_command(house: House) -> None:
    page = client_of(house, broker=False).get("/").text
    for words in (
        "edgewright fleet device token",
        "edgewright fleet release add",
        "edgewright fleet rollout create",
        "No traffic in the last 15 minutes",
        "devices keep their records until it is back",
    ):
        assert words in page


def test_the_page_shows_devices_rollout_drift_release_and_audit(house: House, tmp_path: Path) -> None:
    running(house, tmp_path / "bundles")
    page = client_of(house).get("/").text
    for words in ("cam-1", "2 / 2", "digits 1", "completed", "2 devices on 1, 0 failed", "rollout.completed"):
        assert words in page
    assert page.count('class="feature ') == 3
    assert page.count('class="dot good"') == 2
    assert "estimated from confidence" in page


def test_only_who_is_logged_in_sees_it(house: House) -> None:
    client = client_of(house, login=False)
    for path in ("/", "/console/events", "/console/static/console.js"):
        assert client.get(path).status_code == 401
    assert client.post("/console/rollouts/r-1/pause", **PRESSED).status_code == 401


def test_a_browser_without_a_login_is_told_how_to_get_in(house: House) -> None:
    client = client_of(house, login=False)
    for answer in (client.get("/"), client.get("/", token="wrong")):
        assert answer.status_code == 401
        assert "admin.token" in answer.text
        assert answer.headers["content-type"].startswith("text/html")


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(house: House, tmp_path: Path) -> None:
    running(house, tmp_path / "bundles")
    answer = client_of(house).get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script(?![^>]*\ssrc=)", answer.text) == []
    assert re.findall(r"\s(?:style|on\w+)=", answer.text) == []
    assert re.findall(r"(?:src|href)=\"(?!/console/|#)", answer.text) == []


def test_every_file_that_the_page_names_is_there_with_its_type(house: House) -> None:
    client = client_of(house)
    named = set(re.findall(r"/console/static/([\w.-]+)", client.get("/").text))
    assert {"console.css", "console.js", "htmx.min.js", "htmx-ext-sse.min.js", "icon.svg"} <= named
    for name in named:
        answer = client.get(f"/console/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    for vendored in ("htmx", "htmx-ext-sse"):
        assert "Zero" in (STATIC / f"LICENSE-{vendored}.txt").read_text()


@pytest.mark.parametrize("name", ["nope.js", "..%2froutes.py", "%2e%2e", "routes.py", "%00.js"])
def test_other_files_are_not_served(house: House, name: str) -> None:
    assert client_of(house).get(f"/console/static/{name}").status_code == 404


def test_names_from_outside_are_text_never_markup(house: House) -> None:
    evil = '<img src=x onerror="alert(1)">'
    token = house.fleet.add_token(label=evil, lifetime_s=60)
    house.fleet.enrol(token, Enrolling(name=None, target=evil, target_digest=DIGEST))
    page = client_of(house).get("/").text
    assert evil not in page
    assert "&lt;img src=x" in page


def test_a_button_acts_and_needs_the_header(house: House, tmp_path: Path) -> None:
    house.enrol("cam-1", lambda _: Behaviour(), seed=1)
    house.release(tmp_path / "bundles", "1")
    rollout = house.fleet.create_rollout("digits", "1", POLICY)
    client = client_of(house)
    path = f"/console/rollouts/{rollout.id}"
    assert client.post(f"{path}/pause").status_code == 404
    assert house.fleet.rollout(rollout.id).rollout.state == "running"
    assert client.post(f"{path}/pause", **PRESSED).status_code == 204
    assert house.fleet.rollout(rollout.id).rollout.state == "paused"
    again = client.post(f"{path}/pause", **PRESSED)
    assert again.status_code == 409
    assert "possible now: resume, abort, rollback" in again.json()["error"]
    assert client.post(f"{path}/returned", **PRESSED).status_code == 404


def test_the_feed_sends_everything_first_and_then_only_changes(house: House) -> None:
    now = [0.0]
    feed = Feed(house.fleet, broker_connected=lambda: True, monotonic=lambda: now[0])
    first = feed.sections()
    assert [name for name in SECTIONS if f"event: {name}\n" in changes({}, first)] == list(SECTIONS)
    now[0] = 5.0
    assert changes(first, feed.sections()) == ""
    house.fleet.add_token(label="x", lifetime_s=60)
    now[0] = 5.5
    assert changes(first, feed.sections()) == "", "rendered at most once a second"
    now[0] = 10.0
    assert changes(first, feed.sections()).startswith("event: audit\n")


def test_an_event_keeps_its_lines() -> None:
    assert event("tiles", "<b>\n\n</b>\n") == "event: tiles\ndata: <b>\ndata: \ndata: </b>\n\n"


def test_the_stream_ends_when_the_viewer_leaves(house: House) -> None:
    feed = Feed(house.fleet, broker_connected=lambda: True)
    viewers: set[object] = set()
    left = iter([False, False, True])

    async def is_gone() -> bool:
        return next(left)

    async def watch() -> list[str]:
        return [text async for text in _stream(feed, is_gone, viewers, period_s=0.0)]

    sent = asyncio.run(watch())
    assert len(sent) == 1
    assert sent[0].count("event: ") == len(SECTIONS)
    assert viewers == set()


@pytest.mark.parametrize("bins", [1, 2, 10, 33, 1000])
@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_picture_stays_in_its_frame(bins: int, kind: str) -> None:
    make: Callable[[dict[str, object]], Histogram] = lambda fields: msgspec.convert(fields, Histogram)  # noqa: E731
    histogram = make(
        {
            "name": "x",
            "role": "input",
            "kind": kind,
            "edges": tuple(range(bins - 1)) if kind == "numeric" else (),
            "counts": tuple(range(bins)),
            "source": Source(tensor="x", statistic="mean"),
        }
    )
    for live in (tuple(range(bins, 0, -1)), (0,) * bins):
        picture = draw(histogram, live)
        assert 1 <= len(picture.bars) <= MOST_BARS
        assert all(0 <= bar.live_y <= HEIGHT and 0 <= bar.reference_y <= HEIGHT for bar in picture.bars)
        assert sum(bar.width for bar in picture.bars) == pytest.approx(240, abs=1)
        assert all("live" in bar.title for bar in picture.bars)


def test_a_bin_of_one_value_is_labelled_with_it() -> None:
    edges = (0.0, math.nextafter(0.0, math.inf))
    histogram = Histogram(
        name="min",
        role="input",
        kind="numeric",
        edges=edges,
        counts=(0, 9, 1),
        source=Source(statistic="min", tensor="x"),
    )
    labels = [bar.title.split(":")[0] for bar in draw(histogram, (1, 2, 3)).bars]
    assert labels == ["< 0", "0", "> 0"]
