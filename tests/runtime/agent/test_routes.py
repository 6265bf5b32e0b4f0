"""Routes and the replacement of the server, with a real device: kept, handed on, and no accepted request lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.agent.sockets import connect_unix
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess

ROUTES = """[routes.smart]
kind = "split"
[[routes.smart.arms]]
model = "digits"
version = "1"
"""
BODY = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]})


@pytest.fixture
def daemon(tmp_path: Path, make_bundle: MakeBundle) -> Iterator[DaemonProcess]:
    """A device on digits 2, which can go back to digits 1."""
    process = DaemonProcess(tmp_path / "state", probation_s=0.1)
    try:
        process.start()
        process.install(make_bundle("1").archive)
        process.install(make_bundle("2", seed=2).archive)
        yield process
    finally:
        process.end()


def device(daemon: DaemonProcess, *arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.runtime.cli", "device", *map(str, arguments)]
    command += ["--state-dir", str(daemon.state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, input=said)


def ask(daemon: DaemonProcess, name: str, path: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Return status and content of one inference over the Unix socket."""
    connection = http.client.HTTPConnection("x")
    connection.sock = connect_unix(path or daemon.state / "server.sock", 60.0)
    try:
        connection.request("POST", f"/v2/models/{name}/infer", BODY)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for_answer(daemon: DaemonProcess, name: str) -> dict[str, Any]:
    until_s = time.monotonic() + 60
    while (answer := ask(daemon, name))[0] != 200:
        assert time.monotonic() < until_s, answer
        time.sleep(0.02)
    return answer[1]


def test_routes_are_applied_kept_over_restarts_and_cleared(daemon: DaemonProcess, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES)
    assert device(daemon, "routes", "apply", file).stdout == "Routes: smart.\n"
    assert wait_for_answer(daemon, "smart")["model_version"] == "1", "the rollback slot is loaded beside"
    assert ask(daemon, "digits")[1]["model_version"] == "2"
    assert device(daemon, "routes", "show").stdout == ROUTES
    early = ROUTES.replace('version = "1"', 'version = "7"') + '[[routes.smart.arms]]\nmodel = "other"\n'
    applied = device(daemon, "routes", "apply", "-", said=early)
    assert (applied.returncode, applied.stdout) == (0, "Routes: smart.\n")
    assert "Not installed" in applied.stderr
    assert "digits@7, other." in applied.stderr
    assert device(daemon, "routes", "apply", file).stderr == ""
    assert json.loads(device(daemon, "routes", "show", "--json").stdout)["routes"]["smart"]["kind"] == "split"
    assert "routes   smart" in device(daemon, "status").stdout

    refused = device(daemon, "routes", "apply", "-", said="[routes.smart]\nkind = 'magic'")
    assert (refused.returncode, "smart" in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)
    assert device(daemon, "routes", "apply", tmp_path / "missing").returncode == 2
    assert (daemon.state / "routes.toml").read_text() == ROUTES

    os.kill(daemon.status()["server"]["pid"], signal.SIGKILL)
    assert wait_for_answer(daemon, "smart")["model_version"] == "1"
    assert daemon.stop() == 0
    daemon.start()
    assert wait_for_answer(daemon, "smart")["model_version"] == "1"

    assert device(daemon, "routes", "clear", "--json").stdout == '{"routes": [], "not_installed": []}\n'
    assert not (daemon.state / "routes.toml").exists()
    assert ask(daemon, "smart")[0] == 404
    assert ask(daemon, "digits")[0] == 200


def test_damaged_routes_are_a_problem_and_models_are_served(daemon: DaemonProcess) -> None:
    assert daemon.stop() == 0
    (daemon.state / "routes.toml").write_bytes(b"\xff[routes")
    status = daemon.start()
    assert any("routes.toml" in problem for problem in status["problems"])
    assert ask(daemon, "digits")[0] == 200


class Client:
    """Asks without a pause on kept connections; what is wrong is written down."""

    def __init__(self, daemon: DaemonProcess) -> None:
        host, _, port = daemon.status()["listen"].rpartition(":")
        self._address = (host, int(port))
        self._stop = threading.Event()
        self.answered = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            fresh = connection is None
            connection = connection or http.client.HTTPConnection(*self._address, timeout=20)
            try:
                connection.request("POST", "/v2/models/digits/infer", BODY)
                answer = connection.getresponse()
                answer.read()
            except (TimeoutError, http.client.RemoteDisconnected, ConnectionError) as error:
                # A kept connection may be closed between two requests: HTTP has clients repeat those on a new one.
                if fresh:
                    self.wrong.append(repr(error))
                connection.close()
                connection = None
                continue
            self.answered += 1
            if answer.status != 200:
                self.wrong.append(str(answer.status))
            if answer.will_close or self.answered % 5 == 0:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def test_server_is_replaced_under_load_without_losing_a_request(daemon: DaemonProcess) -> None:
    clients = [Client(daemon) for _ in range(3)]
    try:
        pids = [daemon.status()["server"]["pid"]]
        for _ in range(2):
            done = device(daemon, "restart-server", "--json")
            assert done.returncode == 0, done.stderr
            pids.append(json.loads(done.stdout)["pid"])
        until_s = time.monotonic() + 60
        while any(client.answered <= 20 for client in clients) and time.monotonic() < until_s:
            time.sleep(0.05)
    finally:
        for client in clients:
            client.end()
    assert [client.wrong for client in clients] == [[], [], []]
    assert all(client.answered > 20 for client in clients)
    assert len(set(pids)) == 3
    status = daemon.status()
    assert (status["server"]["pid"], status["server"]["crashes"]) == (pids[-1], 0)
    assert daemon.stop() == 0
    assert daemon.leftovers() == []
    assert [path.name for path in (daemon.state / "run").iterdir()] == ["server.lock"]
