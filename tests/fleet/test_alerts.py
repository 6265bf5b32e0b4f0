"""Rules in the store, exact sums by board, site and release, alerts, and hooks that survive restarts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from sqlalchemy import update

from edgewright.fleet import alert_tables
from edgewright.fleet.alerting import Alerting
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.faults import NotFoundError
from edgewright.fleet.hooks import webhook
from edgewright.fleet.hooks.outcome import HookFailed
from edgewright.fleet.hooks.worker import FIRST_PAUSE_S, MOST_ATTEMPTS, PATIENCE_S, POSTPONED_S, HookWorker
from edgewright.fleet.monitoring import MOST_BEHIND, Monitor
from edgewright.fleet.service import Fleet
from edgewright.fleet.store import totals, windows
from edgewright.fleet.store.alerts import Alert
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.enrolment import Enrolling
from edgewright.fleet.store.schema import devices
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord
from edgewright.targets.faults import UserFault
from tests.bundle.samples import DIGEST, pack_sample
from tests.fleet.house import Clock, wait_for

HOUR_S = 3600
SOON_S = 30.0
"""A machine may stand still for a while; whoever waits where nobody should waits for a minute at least."""
FINE, SHIFTED = (10, 40, 40, 10), (60, 20, 10, 10)
RULE: dict[str, Any] = {
    "name": "inputs",
    "model": "digits",
    "metric": "inputs",
    "minSamples": 50,
    "raiseAfter": 2,
    "clearAfter": 2,
}
RULE |= {"raiseAfter": 2, "clearAfter": 2, "graceSeconds": 0}


class Station:
    """A fleet whose devices' records are written straight into the store; `restart` is what a kill -9 leaves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.now_s = float(int(self.clock.now_s) // HOUR_S * HOUR_S)
        self._open()

    def _open(self) -> None:
        self.database = Database(self.directory)
        self.fleet = Fleet(self.database, Artifacts(self.directory / "artifacts"), now=self.clock)
        self.alerting = Alerting(self.fleet)
        self.monitor = Monitor(self.database, clock=self.clock)
        self.hooks = HookWorker(self.fleet, clock=self.clock)

    def restart(self) -> None:
        self.database.close()
        self._open()

    def device(self, name: str, site: str = "") -> None:
        token = self.fleet.add_token(label=name, lifetime_s=3600)
        self.fleet.enrol(token, Enrolling(name=name, target="raspberry-pi-5", target_digest=DIGEST))
        with self.database.write() as connection:
            connection.execute(update(devices).where(devices.c.device == name).values(site=site))

    def release(self, folder: Path, version: str, *, proposed: bool = False) -> str:
        archive, digest = pack_sample(folder, name=f"v{version}", version=version, model_bytes=version.encode())
        upload = self.fleet.artifacts.begin()
        try:
            upload.write(archive.read_bytes())
            self.fleet.accept(upload)
        finally:
            upload.discard()
        if not proposed:
            self.fleet.add_release("digits", version, [digest])
        return digest

    def report(
        self, device: str, bundle: str, counts: tuple[int, ...], *, version: str = "1", seq: int = 1, **more: Any
    ) -> None:
        """A closed window of an hour that ends now."""
        start_s = int(self.clock.now_s) - HOUR_S
        rows = sum(counts)
        record = WindowRecord(
            model="digits",
            version=version,
            bundle=bundle,
            reference="",
            window_start_s=start_s,
            window_s=HOUR_S,
            boot="b",
            incarnation="i",
            seq=seq,
            closed=True,
            requests=rows,
            failures=0,
            rows=rows,
            latency_us_sum=rows,
            latency=(rows, *(0,) * len(LATENCY_EDGES_US)),
            histograms=(counts, (30, 30, 40), (5, 15, 80)),
            **more,
        )
        with self.database.write() as connection:
            windows.put_windows(connection, [(device, record)], now_s=self.clock.now_s)

    def hour(self, *reports: tuple[str, str, tuple[int, ...]]) -> None:
        self.clock.now_s += HOUR_S
        for device, bundle, counts in reports:
            self.report(device, bundle, counts)
        self.monitor.step(self.clock.now_s)

    def alerts(self) -> list[Alert]:
        return [view.alert for view in self.alerting.alerts(limit=100)]

    def actions(self, subject: str | None = None) -> list[str]:
        return [entry.action for entry in self.fleet.audit(limit=500, subject=subject)][::-1]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    station = Station(tmp_path / "data")
    yield station
    station.database.close()


def test_an_alert_is_raised_once_survives_a_restart_and_is_cleared(station: Station, tmp_path: Path) -> None:
    station.device("cam")
    bundle = station.release(tmp_path, "1")
    station.alerting.add_rule(RULE)
    station.hour(("cam", bundle, FINE))
    station.hour(("cam", bundle, SHIFTED))
    station.restart()
    assert station.alerts() == []
    station.hour(("cam", bundle, SHIFTED))
    (alert,) = station.alerts()
    assert (alert.board, alert.site, alert.release) == ("raspberry-pi-5", "", "1")
    assert alert.cleared_s is None
    assert "x[0]" in alert.message
    assert station.monitor.step(station.clock.now_s) == 0, "no window is judged twice"
    station.hour(("cam", bundle, FINE))
    station.restart()
    station.hour(("cam", bundle, FINE))
    (alert,) = station.alerts()
    assert alert.cleared_s == station.clock.now_s
    assert station.actions(f"alert:{alert.alert}") == ["alert.raised", "alert.cleared"]
    assert station.fleet.verify_audit().intact


def test_sites_are_told_apart_and_their_sums_are_exact(station: Station, tmp_path: Path) -> None:
    for name, site in (("a1", "north"), ("a2", "north"), ("b1", "south"), ("c1", "")):
        station.device(name, site)
    bundle = station.release(tmp_path, "1")
    station.alerting.add_rule(RULE | {"by": ["site"]})
    for _ in range(2):
        station.hour(("a1", bundle, FINE), ("a2", bundle, FINE), ("b1", bundle, SHIFTED), ("c1", bundle, SHIFTED))
    assert [(alert.site, alert.board, alert.release) for alert in station.alerts()] == [("south", "", "")]
    since_s = station.clock.now_s - 2 * HOUR_S
    until_s = station.clock.now_s
    with station.database.read() as connection:
        sites = totals.site_slots_of(connection, [bundle], since_s=since_s, until_s=until_s)
        fleet = totals.slots_of(connection, [bundle], since_s=since_s, until_s=until_s)
    assert sum(slot.totals.rows for slot in fleet) == 2 * 4 * 100
    assert {slot.key.cohort: slot.totals.rows for slot in sites} == {"site:north": 200, "site:south": 100}
    station.report("a1", bundle, SHIFTED, seq=2)  # a later record of the same key
    station.report("a1", bundle, SHIFTED, seq=2)
    with station.database.read() as connection:
        (north,) = [
            slot.totals.histograms[0]
            for slot in totals.site_slots_of(connection, [bundle], since_s=since_s + HOUR_S, until_s=until_s)
            if slot.key.cohort == "site:north"
        ]
    assert north == tuple(a + b for a, b in zip(FINE, SHIFTED, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_site_sums_are_exact_whatever_comes_twice_late_or_out_of_order(
    station: Station, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    site_of = {f"cam-{number}": chance.choice(["", "north", "south"]) for number in range(5)}
    for name, site in site_of.items():
        station.device(name, site)
    bundle = station.release(tmp_path, "1")
    sent = [
        (device, hour, seq, tuple(chance.randrange(50 * seq) for _ in range(4)))
        for device in site_of
        for hour in range(3)
        for seq in range(1, 4)
    ]
    expected: dict[str, list[int]] = {}
    for device, _, seq, counts in sent:
        if seq == 3 and site_of[device]:
            before = expected.setdefault(f"site:{site_of[device]}", [0, 0, 0, 0])
            expected[f"site:{site_of[device]}"] = [a + b for a, b in zip(before, counts, strict=True)]
    arrivals = sent * 2
    chance.shuffle(arrivals)
    begin_s = station.clock.now_s
    for device, hour, seq, counts in arrivals:
        station.clock.now_s = begin_s + (hour + 1) * HOUR_S
        station.report(device, bundle, counts, seq=seq)
        if chance.random() < 0.02:
            station.restart()
            with station.database.write() as connection:
                totals.join_hours(connection, before_s=begin_s + HOUR_S)
    with station.database.read() as connection:
        slots = totals.site_slots_of(connection, [bundle], since_s=0, until_s=begin_s + 10 * HOUR_S)
    found: dict[str, list[int]] = {}
    for slot in slots:
        before = found.setdefault(slot.key.cohort, [0, 0, 0, 0])
        found[slot.key.cohort] = [a + b for a, b in zip(before, slot.totals.histograms[0], strict=True)]
    assert found == expected


def test_a_device_that_moves_is_counted_where_its_series_began(station: Station, tmp_path: Path) -> None:
    station.device("a", "north")
    bundle = station.release(tmp_path, "1")
    station.clock.now_s += HOUR_S
    station.report("a", bundle, FINE)
    with station.database.write() as connection:
        connection.execute(update(devices).values(site="south"))
    station.report("a", bundle, SHIFTED, seq=2)
    with station.database.read() as connection:
        slots = totals.site_slots_of(connection, [bundle], since_s=0, until_s=station.clock.now_s)
    assert {slot.key.cohort: slot.totals.histograms[0] for slot in slots} == {"site:north": SHIFTED}


def test_releases_on_the_same_bins_are_added_and_told_apart_on_demand(station: Station, tmp_path: Path) -> None:
    station.device("a")
    station.device("b")
    one, two = station.release(tmp_path, "1"), station.release(tmp_path, "2")
    station.alerting.add_rule(RULE | {"name": "apart"})
    station.alerting.add_rule(RULE | {"name": "together", "by": [], "minSamples": 200})
    for _ in range(2):
        station.hour(("a", one, SHIFTED), ("b", two, FINE))
    found = {(alert.rule, alert.release) for alert in station.alerts()}
    assert found == {("apart", "1"), ("together", "")}


def test_after_a_long_time_without_a_server_old_windows_are_passed_over(station: Station, tmp_path: Path) -> None:
    station.device("cam")
    bundle = station.release(tmp_path, "1")
    station.alerting.add_rule(RULE)
    station.clock.now_s += 100_000 * HOUR_S
    assert station.monitor.step(station.clock.now_s) == MOST_BEHIND
    station.hour(("cam", bundle, SHIFTED))
    station.hour(("cam", bundle, SHIFTED))
    assert len(station.alerts()) == 1


def test_a_group_without_traffic_is_forgotten_with_its_alert(station: Station, tmp_path: Path) -> None:
    station.device("cam")
    one, two = station.release(tmp_path, "1"), station.release(tmp_path, "2")
    station.alerting.add_rule(RULE)
    for _ in range(2):
        station.hour(("cam", one, SHIFTED))
    station.clock.now_s += 6 * 24 * HOUR_S
    station.hour(("cam", two, FINE))
    (alert,) = station.alerts()
    assert alert.cleared_s is None
    station.clock.now_s += 3 * 24 * HOUR_S
    station.hour(("cam", two, FINE))
    (alert,) = station.alerts()
    assert alert.cleared_s is not None
    assert "no traffic" in station.fleet.audit(limit=1)[0].detail["message"]


def test_rules_are_added_replaced_and_removed(station: Station, tmp_path: Path) -> None:
    station.device("cam")
    bundle = station.release(tmp_path, "1")
    made = station.alerting.add_rule(RULE | {"webhook": {"url": "https://example.org/hook"}})
    assert made.webhook_secret is not None
    station.hour(("cam", bundle, SHIFTED))
    station.alerting.add_rule(RULE)
    station.hour(("cam", bundle, SHIFTED))
    assert station.alerts() == [], "a replaced rule begins anew"
    station.hour(("cam", bundle, SHIFTED))
    station.alerting.remove_rule("inputs")
    (alert,) = station.alerts()
    assert alert.cleared_s is not None
    assert station.alerting.rules() == []
    with pytest.raises(NotFoundError, match="rule list"):
        station.alerting.remove_rule("inputs")
    actions = [action for action in station.actions() if action.startswith("alert.rule")]
    assert actions == ["alert.rule_added", "alert.rule_replaced", "alert.rule_removed"]
    secrets = [entry for entry in station.fleet.audit(limit=100) if made.webhook_secret[6:] in str(entry)]
    assert secrets == []


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook": {"url": "ftp://x/"}},
        {"webhook": {"url": "https://u:p@x/"}},
        {"webhook": {"url": "http:///x"}},
        {"webhook": {"url": "http://x:99999/"}},
        {"webhook": {"url": "http://x/a b"}},
        {"webhook": {"url": "http://x/\r\nEvil: 1"}},
        {"webhook": {"url": "file:///etc/passwd"}},
        {"onDrift": {"argv": ["x"], "policy": {"waves": ["half"]}}},
        {"onDrift": {"argv": ["x"], "policy": {"colour": 1}}},
        {"metric": "beauty"},
    ],
)
def test_what_cannot_be_used_is_refused_before_it_is_stored(station: Station, changes: dict[str, Any]) -> None:
    with pytest.raises(UserFault):
        station.alerting.add_rule(RULE | changes)
    assert station.alerting.rules() == []


class Receiver:
    """A webhook receiver on loopback; answers with the statuses that it is given, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.set()
                outer.answers.wait(120)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815  (its name in the base class)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
                del format, args

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def raise_alert(station: Station, folder: Path, **hooks: Any) -> str | None:
    """Add a rule with hooks, have it raised, and return the secret of its webhook."""
    station.device("cam")
    bundle = station.release(folder, "1")
    made = station.alerting.add_rule(RULE | {"raiseAfter": 1} | hooks)
    station.hour(("cam", bundle, SHIFTED))
    assert len(station.alerts()) == 1
    return made.webhook_secret


def test_a_webhook_is_signed_and_called_once(station: Station, tmp_path: Path, receiver: Receiver) -> None:
    secret = raise_alert(station, tmp_path, webhook={"url": receiver.url})
    assert secret is not None
    assert station.hooks.step(station.clock())
    assert not station.hooks.step(station.clock())
    ((headers, body),) = receiver.got
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), text, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    told = json.loads(body)
    assert told["type"] == "alert.raised"
    assert told["id"] == headers["webhook-id"]
    assert (told["board"], told["release"], told["rule"]) == ("raspberry-pi-5", "1", "inputs")
    assert station.actions()[-1] == "hook.delivered"
    view = {"alerts": msgspec.to_builtins(station.alerting.alerts(limit=10))}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(
        alert_tables.alerts(view), alert_tables.rules({"rules": msgspec.to_builtins(station.alerting.rules())})
    )
    shown = console.export_text()
    assert "webhook raised done: 204" in shown
    assert "inputs by board, release" in shown


def test_a_failed_call_is_made_again_with_the_same_id_after_a_growing_pause_and_a_restart(
    station: Station, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302]
    raise_alert(station, tmp_path, webhook={"url": receiver.url})
    assert station.hooks.step(station.clock())
    assert not station.hooks.step(station.clock()), "not at once"
    station.restart()
    station.clock.now_s += FIRST_PAUSE_S
    assert station.hooks.step(station.clock())
    assert not station.hooks.step(station.clock() + FIRST_PAUSE_S), "the pause has grown"
    station.clock.now_s += 2 * FIRST_PAUSE_S
    assert station.hooks.step(station.clock())
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3, "a redirection is not followed: it is a failure"
    ((call,),) = [view.calls for view in station.alerting.alerts(limit=10)]
    assert (call.is_done, call.attempts) == (True, 3)


def test_attempts_are_bounded_and_a_removed_rule_calls_nobody(
    station: Station, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.statuses = [500] * 100
    raise_alert(station, tmp_path, webhook={"url": receiver.url})
    tries = 0
    while station.hooks.step(station.clock()):
        tries += 1
        station.clock.now_s += 4000
    assert tries == MOST_ATTEMPTS["webhook"] == len(receiver.got)
    assert station.actions()[-1] == "hook.failed"
    bundle = station.release(tmp_path / "again", "1")
    station.alerting.add_rule(RULE | {"raiseAfter": 1, "webhook": {"url": receiver.url}})
    station.clock.now_s = float(int(station.clock.now_s) // HOUR_S * HOUR_S)
    station.hour(("cam", bundle, SHIFTED))
    station.alerting.remove_rule("inputs")
    assert not station.hooks.step(station.clock() + 10**6)


def test_a_receiver_that_never_answers_is_left_in_time(receiver: Receiver) -> None:
    receiver.answers.clear()
    begin = time.monotonic()
    with pytest.raises(HookFailed):
        webhook.post(receiver.url, b"{}", {}, timeout_s=0.3)
    with pytest.raises(HookFailed):
        webhook.post("http://127.0.0.1:1/", b"{}", {}, timeout_s=0.3)
    assert time.monotonic() - begin < SOON_S


def program(station: Station, name: str, text: str) -> None:
    path = station.directory / "hooks" / name
    path.write_text(text)
    path.chmod(0o755)


def call_of(station: Station) -> Any:
    ((call,),) = [view.calls for view in station.alerting.alerts(limit=10)]
    return call


def test_a_command_gets_the_alert_on_standard_input_and_no_shell(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_FLEET_TOKEN", "secret")
    program(station, "note", '#!/bin/sh\ncat >"$1"\nenv\n')
    raise_alert(station, tmp_path, command={"argv": ["note", str(tmp_path / "got; rm -rf x")]})
    assert station.hooks.step(station.clock())
    assert json.loads((tmp_path / "got; rm -rf x").read_text())["type"] == "alert.raised"
    assert call_of(station).is_done
    assert "secret" not in call_of(station).reason


@pytest.mark.parametrize(
    ("text", "limit_s", "says"),
    [
        ("#!/bin/sh\necho why; exit 3\n", 60, "ended with 3; it printed: why"),
        ("#!/bin/sh\nsleep 600 & sleep 600\n", 0.5, "still running after"),
        (None, 60, "put the program there"),
    ],
)
def test_a_command_that_fails_hangs_or_is_not_there(
    station: Station, tmp_path: Path, text: str | None, limit_s: float, says: str
) -> None:
    if text is not None:
        program(station, "job", text)
    raise_alert(station, tmp_path, command={"argv": ["job"], "timeoutSeconds": limit_s})
    begin = time.monotonic()
    assert station.hooks.step(station.clock())
    assert time.monotonic() - begin < SOON_S
    assert says in call_of(station).reason
    assert not call_of(station).is_done
    assert call_of(station).ended_s is None, "it will be tried again"


def test_stopping_ends_a_program_and_the_call_is_made_again_later(station: Station, tmp_path: Path) -> None:
    program(station, "job", f"#!/bin/sh\necho >'{tmp_path / 'began'}'\nsleep 600\n")
    raise_alert(station, tmp_path, command={"argv": ["job"]})
    station.hooks.start()
    wait_for((tmp_path / "began").exists, what="the program")
    begin = time.monotonic()
    with station.database.write():
        assert time.monotonic() - begin < SOON_S, "while the program runs, everyone else may write"
    station.hooks.stop()
    assert time.monotonic() - begin < SOON_S
    assert (call_of(station).ended_s, call_of(station).attempts) == (None, 0)
    program(station, "job", "#!/bin/sh\ntrue\n")
    station.restart()
    assert station.hooks.step(station.clock())
    assert call_of(station).is_done


def test_on_drift_proposes_what_the_program_leaves_and_a_person_says_yes(station: Station, tmp_path: Path) -> None:
    better, _ = pack_sample(tmp_path, name="better", version="2", model_bytes=b"better")
    program(
        station,
        "retrain",
        "#!/usr/bin/env python3\nimport json, shutil, sys\n"
        f"shutil.copy({str(better)!r}, json.load(sys.stdin)['out'] + '/pi.bundle')\n",
    )
    raise_alert(station, tmp_path, onDrift={"argv": ["retrain"], "policy": {"waves": [2, "rest"]}})
    assert station.hooks.step(station.clock())
    assert call_of(station).is_done, call_of(station)
    (rollout,) = station.fleet.rollouts()
    assert (rollout.model, rollout.version) == ("digits", "2")
    first = rollout.policy.waves[0]
    assert (first.add, first.require_approval) == (2, True)  # type: ignore[union-attr]
    assert [release.version for release in station.fleet.releases()] == ["2", "1"]
    assert "alert.proposed" in station.actions()
    assert list((station.directory / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#!/bin/sh\ntrue\n", "left 0 bundles"),
        ("#!/bin/sh\necho junk >out/x.bundle\n", "x.bundle|bundle|archive"),
        ("#!/bin/sh\nln -s /etc/passwd out/x.bundle\n", "not a file"),
    ],
)
def test_what_cannot_be_a_release_is_not_proposed(station: Station, tmp_path: Path, text: str, says: str) -> None:

    program(station, "retrain", text)
    raise_alert(station, tmp_path, onDrift={"argv": ["retrain"]})
    for _ in range(MOST_ATTEMPTS["on_drift"]):
        assert station.hooks.step(station.clock())
        station.clock.now_s += 4000
    assert not station.hooks.step(station.clock())
    assert re.search(says, call_of(station).reason)
    assert call_of(station).ended_s is not None
    assert station.fleet.rollouts() == []


def test_one_retraining_at_a_time(station: Station, tmp_path: Path) -> None:
    for name in ("a", "b"):
        station.device(name)
    one, two = station.release(tmp_path, "1"), station.release(tmp_path, "2")
    station.alerting.add_rule(RULE | {"raiseAfter": 1, "onDrift": {"argv": ["x"]}})
    station.hour(("a", one, SHIFTED), ("b", two, SHIFTED))
    calls = [call for view in station.alerting.alerts(limit=10) for call in view.calls]
    assert len(station.alerts()) == 2
    assert [call.kind for call in calls] == ["on_drift"]


def test_a_proposal_waits_for_the_rollout_that_is_under_way_and_is_dropped_with_its_alert(
    station: Station, tmp_path: Path
) -> None:
    raise_alert(station, tmp_path, onDrift={"argv": ["not-there"]}, clearAfter=1)
    rollout = station.fleet.create_rollout("digits", "1", {})
    for _ in range(10):
        assert station.hooks.step(station.clock())
        assert not station.hooks.step(station.clock() + POSTPONED_S - 1)
        station.clock.now_s += POSTPONED_S
    assert (call_of(station).attempts, call_of(station).ended_s) == (0, None)
    assert rollout.id in call_of(station).reason
    station.fleet.fire(rollout.id, "abort", reason="")
    assert station.hooks.step(station.clock())
    assert call_of(station).attempts == 1, "now it was tried"
    bundle = station.fleet.releases()[0].bundles["raspberry-pi-5"]
    station.clock.now_s = float(int(station.clock.now_s) // HOUR_S * HOUR_S)
    station.hour(("cam", bundle, FINE))
    assert station.hooks.step(station.clock())
    assert (call_of(station).reason, call_of(station).is_done) == ("the alert is over", False)
    assert not station.hooks.step(station.clock() + 10**6)


def test_a_server_that_stops_does_not_wait_for_a_receiver_that_hangs(
    station: Station, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answers.clear()
    raise_alert(station, tmp_path, webhook={"url": receiver.url, "timeoutSeconds": 60})
    station.hooks.start()
    wait_for(receiver.asked.is_set, what="the call")
    begin = time.monotonic()
    station.hooks.stop()
    assert time.monotonic() - begin < SOON_S + PATIENCE_S
    receiver.answers.set()
    wait_for(lambda: not any(thread.name == "hooks-webhook" for thread in threading.enumerate()), what="its end")
    assert call_of(station).ended_s is None, "what it hears now is not written down: the call is made again"
