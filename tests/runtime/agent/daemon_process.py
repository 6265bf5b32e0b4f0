"""A real daemon in a test: started, asked, killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.runtime.agent.client import ask
from edgewright.runtime.storage import LocalStorage
from edgewright.runtime.telemetry.records import WindowRecord
from edgewright.runtime.telemetry.spool import Spool
from edgewright.targets.faults import Fault

CONFIG = """
listen = "127.0.0.1:0"
window_s = 1
report_interval_s = 0.3
heartbeat_s = 0.3
probation_s = {probation_s}
"""

IMAGE = np.full((1, 64), 0.5, dtype=np.float32)


class DaemonProcess:
    """`edgewright device run` on a state directory."""

    def __init__(self, state: Path, *, probation_s: float = 0.5, more: str = "") -> None:
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        (state / "device.toml").write_text(CONFIG.format(probation_s=probation_s) + more)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start it, and return its status once it is ready."""
        with (self.state / "stdout.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edgewright.runtime.cli", "device", "run", "--state-dir", str(self.state)],
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if key != "RUNTIME_DIRECTORY"},
            )
        return self.wait_for(lambda status: bool(status["ready"]))

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """Kill the agent as a power-hungry kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def status(self) -> dict[str, Any]:
        return dict(list(ask(self.state, op="status"))[-1]["result"])

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0) -> dict[str, Any]:
        """Ask for the status until it is as wanted."""
        until_s = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < until_s:
            try:
                status = self.status()
                if condition(status):
                    return status
                last = status
            except Fault as fault:
                last = fault
            time.sleep(0.03)
        raise AssertionError(f"waited {timeout_s} s in vain; last: {last}\n{(self.state / 'stdout.log').read_text()}")

    def install(self, archive: Path, wait: str = "confirmed") -> dict[str, Any]:
        result = dict(list(ask(self.state, op="install", path=str(archive), wait=wait))[-1]["result"])
        # The answer comes in the middle of a turn of the agent's loop, which still writes; this one comes after it.
        self.status()
        return result

    def model(self, name: str = "digits") -> dict[str, Any]:
        return next(dict(model) for model in self.status()["models"] if model["model"] == name)

    def infer(self, timeout_s: float = 60.0) -> list[float]:
        """Return the scores of one request; waits through a restart of the server."""
        host, _, port = self.status()["listen"].rpartition(":")
        body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": IMAGE.ravel().tolist()}]}
        until_s = time.monotonic() + timeout_s
        while True:
            connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
            try:
                connection.request("POST", "/v2/models/digits/infer", json.dumps(body))
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200:
                    return list(json.loads(content)["outputs"][0]["data"])
                problem = f"{answer.status} {content!r}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            finally:
                connection.close()
            assert time.monotonic() < until_s, problem
            time.sleep(0.02)

    def leftovers(self) -> list[str]:
        """Command lines of processes of this state directory that stay; the kernel ends those whose parent is gone."""
        until_s = time.monotonic() + 20
        while (found := self._running()) and time.monotonic() < until_s:
            time.sleep(0.05)
        return found

    def _running(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (
                    entry.name.isdigit()
                    and (line := (entry / "cmdline").read_bytes())
                    and str(self.state).encode() in line
                ):
                    found.append(line.replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def requests_in(state: Path) -> int:
    """Return the requests that the spool of a stopped daemon has counted."""
    spool = Spool.open(LocalStorage(), state / "spool", new_identity="x", now_s=0.0)
    latest: dict[tuple[str, int, str], WindowRecord] = {}
    for _, record in spool.read(1, max_bytes=10**8, max_records=10**6):
        if isinstance(record, WindowRecord):
            key = (record.incarnation, record.window_start_s, record.bundle)
            if key not in latest or latest[key].seq < record.seq:
                latest[key] = record
    return sum(record.requests for record in latest.values())
