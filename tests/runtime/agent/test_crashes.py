"""A model that crashes the server, a server that is killed, stopped, or whose engine hangs: with real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess
from tests.runtime.native_bundle import needs_gcc
from tests.runtime.server.crashing_bundle import CRASH, SLEEP, crashing_bundle

CONFIG = """
[models.fragile]
execution_timeout_ms = 200.0
[models.fragile.breaker]
open_s = 0.3
"""
WORKER = """[models.fragile]
isolation = "worker"
"""
PATIENCE_S = 60.0


@pytest.fixture
def daemon(tmp_path: Path, make_bundle: MakeBundle) -> Iterator[DaemonProcess]:
    """A device that serves `digits`."""
    process = DaemonProcess(tmp_path / "state", more=CONFIG)
    try:
        process.start()
        process.install(make_bundle("1").archive)
        yield process
    finally:
        process.end()


def install_fragile(daemon: DaemonProcess, directory: Path, version: str) -> None:
    crashing_bundle(directory / f"fragile-{version}", version=version)
    daemon.install(directory / f"fragile-{version}.bundle")


def ask(daemon: DaemonProcess, value: float, model: str = "fragile") -> int:
    """Return the status of one request; 0 where the connection ended without one."""
    host, _, port = daemon.status()["listen"].rpartition(":")
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [value] * 64}]}
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def wait_until_fragile_answers(daemon: DaemonProcess) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while ask(daemon, 0.5) != 200:
        assert time.monotonic() < until_s, daemon.status()
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_server_that_is_killed_or_stopped_is_replaced_and_nobody_is_blamed(
    daemon: DaemonProcess, number: signal.Signals
) -> None:
    os.kill(daemon.status()["server"]["pid"], number)
    assert len(daemon.infer(PATIENCE_S)) == 10
    status = daemon.wait_for(lambda status: bool(status["server"]["crashes"] == 1))
    assert [model["blamed"] for model in status["models"]] == [[]]


@needs_gcc
def test_model_that_crashes_waits_and_goes_back_to_the_last_known_good_version(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    install_fragile(daemon, tmp_path, "1")
    install_fragile(daemon, tmp_path, "2")
    for crashes in (1, 2, 3):
        wait_until_fragile_answers(daemon)
        assert ask(daemon, CRASH) == 0
        assert len(daemon.infer(PATIENCE_S)) == 10, "the other model is served at once"
        daemon.wait_for(lambda status, crashes=crashes: status["server"]["crashes"] == crashes)  # type: ignore[misc]
        if crashes == 1:
            breaker = daemon.model("fragile")["breaker"]
            assert breaker["state"] in ("open", "half_open")
            assert "SIGSEGV" in breaker["reason"]
    wait_until_fragile_answers(daemon)
    fragile = daemon.model("fragile")
    assert fragile["version"] == "1"
    assert "crashed 3 times" in fragile["last_outcome"]["reason"]
    assert [(each["version"], each["crashes"]) for each in fragile["blamed"]] == [("2", 3)]
    assert daemon.model("digits")["blamed"] == []
    assert daemon.stop() == 0


@needs_gcc
def test_model_without_another_version_stays_out_and_a_new_install_forgives(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    install_fragile(daemon, tmp_path, "1")
    for _ in range(3):
        wait_until_fragile_answers(daemon)
        assert ask(daemon, CRASH) == 0
    state = daemon.wait_for(lambda status: "out" in str([model["breaker"] for model in status["models"]]))
    assert state["server"]["running"] or len(daemon.infer(PATIENCE_S)) == 10
    assert daemon.stop() == 0
    daemon.start()
    assert ask(daemon, 0.5) == 503
    assert len(daemon.infer(PATIENCE_S)) == 10
    daemon.install(tmp_path / "fragile-1.bundle")
    wait_until_fragile_answers(daemon)


@needs_gcc
def test_worker_that_crashes_takes_nobody_along_and_goes_back_too(tmp_path: Path, make_bundle: MakeBundle) -> None:
    daemon = DaemonProcess(tmp_path / "state", more=CONFIG.replace("[models.fragile]", WORKER, 1))
    try:
        daemon.start()
        daemon.install(make_bundle("1").archive)
        install_fragile(daemon, tmp_path, "1")
        install_fragile(daemon, tmp_path, "2")
        pid = daemon.status()["server"]["pid"]
        for _ in range(3):
            wait_until_fragile_answers(daemon)
            assert ask(daemon, CRASH) in (500, 503)
            assert ask(daemon, 0.5, model="digits") == 200, "no other model loses a request"
        daemon.wait_for(lambda _: daemon.model("fragile")["version"] == "1")
        wait_until_fragile_answers(daemon)
        assert [(each["version"], each["crashes"]) for each in daemon.model("fragile")["blamed"]] == [("2", 3)]
        status = daemon.status()
        assert (status["server"]["pid"], status["server"]["crashes"]) == (pid, 0)
    finally:
        daemon.end()


@needs_gcc
def test_engine_that_hangs_is_ended_and_blamed(daemon: DaemonProcess, tmp_path: Path) -> None:
    install_fragile(daemon, tmp_path, "1")
    asking = threading.Thread(target=ask, args=(daemon, SLEEP))
    asking.start()
    status = daemon.wait_for(lambda status: bool(status["server"]["crashes"]))
    asking.join()
    assert [model["model"] for model in status["models"] if model["blamed"]] == ["fragile"]
    assert len(daemon.infer(PATIENCE_S)) == 10
