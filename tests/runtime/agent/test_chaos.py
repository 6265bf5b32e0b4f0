"""Kill the agent or the server at random moments of updates under traffic: no answered request is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright.runtime.agent.sockets import connect_unix
from edgewright.targets.faults import Fault
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess, requests_in

KILLS = 8
BODY = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]})
REQUEST = (
    "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


class Traffic:
    """A client that asks all the time, and counts what it asked and what was answered."""

    def __init__(self, path: Path) -> None:
        self.attempted = self.acknowledged = 0
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            try:
                self._ask()
            except OSError:
                time.sleep(0.01)  # the server restarts

    def _ask(self) -> None:
        with connect_unix(self._path, 5.0) as connection:
            self.attempted += 1
            connection.sendall(REQUEST)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        self.acknowledged += answer.startswith(b"HTTP/1.1 200")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "state", probation_s=0.3)
    yield process
    process.end()


def install_and_forget(daemon: DaemonProcess, archive: Path) -> threading.Thread:
    def install() -> None:
        try:
            daemon.install(archive)
        except Fault:
            return  # the daemon was killed while it worked

    thread = threading.Thread(target=install)
    thread.start()
    return thread


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    chances = random.Random(20)
    archives = [make_bundle("1").archive, make_bundle("2", seed=2).archive]
    daemon.start()
    daemon.install(archives[0])
    traffic = Traffic(daemon.state / "server.sock")
    try:
        for number in range(1, KILLS + 1):
            installing = install_and_forget(daemon, archives[number % 2])
            time.sleep(chances.random())
            if number % 2:
                daemon.kill()
                daemon.start()
            else:
                os.kill(daemon.status()["server"]["pid"], signal.SIGKILL)
            installing.join()
            daemon.wait_for(lambda status: bool(status["ready"] and status["models"][0]["phase"] == "idle"))
    finally:
        traffic.stop()
    assert daemon.stop() == 0
    assert daemon.leftovers() == []
    assert traffic.acknowledged > 50
    assert traffic.acknowledged <= requests_in(daemon.state) <= traffic.attempted
    assert [path.name for path in (daemon.state / "run").iterdir()] == ["server.lock"]
