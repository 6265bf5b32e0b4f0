"""A device with two models and a fallback route: its processes are killed, stopped and crashed, and who is served.

`fragile` crashes on one input; `steady` does not. The route `ear` asks `fragile`, and `steady` where that one cannot.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.demo.processes import command_line, descendants
from tests.runtime.agent.daemon_process import DaemonProcess
from tests.runtime.native_bundle import needs_gcc
from tests.runtime.server.crashing_bundle import CRASH, crashing_bundle, steady_bundle

pytestmark = needs_gcc

SOON_S = 30.0
"""Promised are 2 s on a quiet machine; tests run on busy ones."""
OPEN_S = 0.4
"""So long nobody asks a model that crashed; whoever comes later, as the machine stood still, may be answered."""
ORDINARY = 0.5
WORKER = 'isolation = "worker"\n'
CONFIG = """
[models.fragile]
{isolation}
[models.fragile.breaker]
open_s = 0.4
"""
ROUTES = '[routes.ear]\nkind = "fallback"\nchain = ["fragile", "steady"]\n'


@dataclass
class Answer:
    """One answer; status 0 where the connection ended without one."""

    status: int
    parameters: dict[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def by(self) -> str:
        """The model that a route has asked."""
        return self.parameters.get("edgewright_model", "")


@dataclass
class Serving:
    """A device that serves `fragile` and `steady`, and a client."""

    daemon: DaemonProcess
    folder: Path
    address: tuple[str, int]

    def ask(self, name: str, value: float = ORDINARY) -> Answer:
        body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [value] * 64}]}
        connection = http.client.HTTPConnection(*self.address, timeout=2 * SOON_S)
        try:
            connection.request("POST", f"/v2/models/{name}/infer", json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return Answer(0)
        finally:
            connection.close()
        return Answer(answer.status, json.loads(content).get("parameters", {}), content.decode())

    def until_answered(self, name: str) -> float:
        """Ask with new requests until one is answered; returns the seconds that took."""
        began_s = time.monotonic()
        while (answer := self.ask(name)).status != 200:
            assert time.monotonic() - began_s < 2 * SOON_S, (answer, self.daemon.status())
            time.sleep(0.01)
        return time.monotonic() - began_s

    def install_fragile(self, version: str) -> None:
        crashing_bundle(self.folder / f"fragile-{version}", version=version)
        self.daemon.install(self.folder / f"fragile-{version}.bundle")

    def server(self) -> int:
        """Its process id."""
        return int(self.daemon.status()["server"]["pid"])

    def worker(self) -> int:
        """The process id of the worker of `fragile`."""
        (found,) = [
            pid for pid in descendants(self.server()) if "edgewright.runtime.server.worker" in command_line(pid)
        ]
        return found


@contextmanager
def serving(folder: Path, isolation: str) -> Iterator[Serving]:
    daemon = DaemonProcess(folder / "state", probation_s=0.1, more=CONFIG.format(isolation=isolation))
    (folder / "state/routes.toml").write_text(ROUTES)
    try:
        host, _, port = daemon.start()["listen"].rpartition(":")
        found = Serving(daemon, folder, (host, int(port)))
        steady_bundle(folder / "steady")
        daemon.install(folder / "steady.bundle")
        found.install_fragile("1")
        assert found.ask("ear").by == "fragile"
        yield found
    finally:
        daemon.end()
    assert daemon.leftovers() == []


@pytest.fixture
def isolated(tmp_path: Path) -> Iterator[Serving]:
    """`fragile` has a worker process of its own."""
    with serving(tmp_path, WORKER) as found:
        yield found


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Serving]:
    """Both models are in the server process."""
    with serving(tmp_path, "") as found:
        yield found


@contextmanager
def asked_all_the_time(ask: Callable[[], Answer]) -> Iterator[list[Answer]]:
    """Every answer that somebody gets who asks without a pause."""
    answers: list[Answer] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            answers.append(ask())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_everything_answers_soon_after_the_server_was_killed_or_stopped(
    isolated: Serving, number: signal.Signals
) -> None:
    """Its worker goes with it, and nobody is blamed."""
    before = isolated.server(), isolated.worker()
    os.kill(before[0], number)
    for name in ("steady", "ear", "fragile"):
        assert isolated.until_answered(name) < SOON_S
    assert not {isolated.server(), isolated.worker()} & set(before)
    status = isolated.daemon.status()
    assert [model["blamed"] for model in status["models"]] == [[], []]
    assert status["server"]["crashes"] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_stopped_costs_nobody_else_a_request(
    isolated: Serving, number: signal.Signals
) -> None:
    server, worker = isolated.server(), isolated.worker()
    with (
        asked_all_the_time(lambda: isolated.ask("steady")) as steady,
        asked_all_the_time(lambda: isolated.ask("ear")) as ear,
    ):
        os.kill(worker, number)
        assert isolated.until_answered("fragile") < SOON_S
    assert {answer.status for answer in steady} == {200}
    assert {answer.status for answer in ear} == {200}, "the route has a fallback"
    assert isolated.worker() != worker
    assert isolated.server() == server
    assert isolated.ask("ear").by == "fragile"
    assert [model["blamed"] for model in isolated.daemon.status()["models"]] == [[], []], "it came from outside"


def test_an_input_that_crashes_a_worker_opens_the_breaker_and_the_fallback_serves(isolated: Serving) -> None:
    isolated.install_fragile("2")
    server = isolated.server()
    with asked_all_the_time(lambda: isolated.ask("steady")) as steady:
        for _ in range(3):
            isolated.until_answered("fragile")
            began_s = time.monotonic()
            deadly = isolated.ask("ear", CRASH)
            assert (deadly.status, deadly.by) == (200, "steady"), "even this one is answered"
            refused = isolated.ask("fragile")
            assert refused.status == 503 or time.monotonic() > began_s + OPEN_S, refused
            by = isolated.ask("ear").by
            assert by == "steady" or time.monotonic() > began_s + OPEN_S
            assert isolated.until_answered("fragile") < SOON_S
    assert {answer.status for answer in steady} == {200}, "the other model loses no request"
    pauses_s = re.findall(r"SIGSEGV; next start in ([\d.]+) s", (isolated.daemon.state / "server.log").read_text())
    assert pauses_s[:2] == ["0.1", "0.2"], "restarts back off"
    fragile = isolated.daemon.wait_for(lambda _: isolated.daemon.model("fragile")["version"] == "1")
    blamed = {model["model"]: model["blamed"] for model in fragile["models"]}
    assert [(each["version"], each["crashes"]) for each in blamed["fragile"]] == [("2", 3)]
    assert (blamed["steady"], isolated.server()) == ([], server)


def test_an_input_that_crashes_the_server_keeps_only_its_model_away(shared: Serving) -> None:
    shared.install_fragile("2")
    pauses_s = []
    for crashes in (1, 2, 3):
        assert shared.ask("fragile", CRASH).status == 0
        assert shared.until_answered("steady") < SOON_S
        if crashes < 3:  # nobody has asked for `fragile` since
            breaker = shared.daemon.model("fragile")["breaker"]
            assert breaker["state"] in ("open", "half_open")
            assert "SIGSEGV" in breaker["reason"]
        assert shared.until_answered("ear") < SOON_S
        pauses_s.append(shared.until_answered("fragile"))
    fragile = shared.daemon.model("fragile")
    assert fragile["version"] == "1"
    assert "crashed 3 times" in fragile["last_outcome"]["reason"]
    assert shared.daemon.model("steady")["blamed"] == []
    assert shared.ask("ear").by == "fragile"
