"""Restarts that somebody ordered, servers that hang, servers that die again and again: with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.runtime.agent.sockets import connect_unix
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess

READY_REQUEST = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "state", probation_s=60.0, more="ping_interval_s = 0.2\nping_deadline_s = 1.0\n")
    yield process
    process.end()


def test_clean_restarts_in_probation_do_not_roll_back_and_kills_do(
    daemon: DaemonProcess, make_bundle: MakeBundle
) -> None:
    daemon.start()
    daemon.install(make_bundle("1").archive, wait="probation")
    for _ in range(4):
        assert daemon.stop() == 0
        daemon.start()
        state = daemon.wait_for(lambda status: bool(status["models"]))["models"][0]
        assert (state["version"], state["phase"]) == ("1", "probation")
    for _ in range(3):
        daemon.kill()
        daemon.start()
    outcome = daemon.model()["last_outcome"]
    assert outcome["phase"] == "rolled_back"
    assert "died 3 times" in outcome["reason"]


def test_server_that_hangs_is_replaced_and_its_backlog_is_answered(
    daemon: DaemonProcess, make_bundle: MakeBundle
) -> None:
    daemon.start()
    daemon.install(make_bundle("1").archive, wait="probation")
    os.kill(daemon.status()["server"]["pid"], signal.SIGSTOP)
    time.sleep(0.1)
    with connect_unix(daemon.state / "server.sock", 20.0) as waiting:
        waiting.sendall(READY_REQUEST)
        answer = b""
        while chunk := waiting.recv(65536):
            answer += chunk
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))

    def replaced(status: dict[str, Any]) -> bool:
        return bool(status["server"]["crashes"] == 1 and status["server"]["running"])

    assert daemon.wait_for(replaced)["models"][0]["version"] == "1"
    assert len(daemon.infer()) == 10


@pytest.mark.slow
def test_crash_loop_ends_at_the_last_known_good_bundle_with_growing_pauses(
    tmp_path: Path, make_bundle: MakeBundle
) -> None:
    daemon = DaemonProcess(tmp_path / "looping", probation_s=0.2)
    try:
        daemon.start()
        daemon.install(make_bundle("1").archive)
        daemon.install(make_bundle("2", seed=2).archive)
        begun_s = time.monotonic()
        for crashes in range(1, 6):
            status = daemon.wait_for(lambda status: bool(status["server"]["running"]))
            os.kill(status["server"]["pid"], signal.SIGKILL)
            daemon.wait_for(lambda status, crashes=crashes: status["server"]["crashes"] == crashes)  # type: ignore[misc]
        state = daemon.wait_for(lambda status: status["models"][0]["version"] == "1")["models"][0]
        assert "crash loop" in state["last_outcome"]["reason"]
        assert time.monotonic() - begun_s > 0.1 + 0.2 + 0.4 + 0.8
        assert len(daemon.infer()) == 10
    finally:
        daemon.end()
