"""A fleet without sockets, a fleet server as a process, a real broker."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.client import FleetClient, connect
from edgewright.fleet.ingest.downlink import Postbox
from edgewright.fleet.ingest.recorder import Recorder
from edgewright.fleet.reconciler import Reconciler
from edgewright.fleet.service import Fleet
from edgewright.fleet.sim.device import Behaviour, Identity, VirtualDevice
from edgewright.fleet.sim.network import MemoryNetwork
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.enrolment import Enrolling
from examples.demo.processes import free_port
from tests.bundle.samples import DIGEST, pack_sample

STARTED_S = 1_700_000_000.0
TARGET = "raspberry-pi-5"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = STARTED_S

    def __call__(self) -> float:
        return self.now_s


class House:
    """Store, ingest, reconciler and a network in memory, driven step by step; each draw is the same in every run.

    `restart` is what a kill -9 leaves.
    """

    def __init__(self, directory: Path, network: MemoryNetwork | None = None) -> None:
        self.directory = directory
        self.clock = Clock()
        self.network = network or MemoryNetwork()
        self._runs = 0
        self._chance = random.Random(0)
        self._open()

    def _open(self) -> None:
        self._runs += 1
        self.database = Database(self.directory)
        self.fleet = Fleet(
            self.database,
            Artifacts(self.directory / "artifacts"),
            now=self.clock,
            random_bits=self._chance.getrandbits,
        )
        self.postbox = Postbox(self.network, tenant=self.fleet.tenant, incarnation=f"fleet-{self._runs}")
        self.recorder = Recorder(self.database, tenant=self.fleet.tenant)
        self.reconciler = Reconciler(
            self.database, self.postbox, telemetry_revision=lambda: self.recorder.counts["records"]
        )

    def restart(self) -> None:
        """Forget everything that is not on disk."""
        self.database.close()
        self.network.published.clear()
        self._open()

    def close(self) -> None:
        self.database.close()

    def enrol(self, name: str, behaviour_of: Callable[[str], Behaviour], *, seed: int = 0) -> VirtualDevice:
        token = self.fleet.add_token(label=name, lifetime_s=3600)
        enrolled = self.fleet.enrol(token, Enrolling(name=name, target=TARGET, target_digest=DIGEST))
        identity = Identity(
            tenant=enrolled.tenant,
            device=enrolled.device,
            secret=enrolled.secret,
            target=TARGET,
            target_digest=DIGEST,
        )
        device = VirtualDevice(identity, behaviour_of=behaviour_of, seed=seed)
        self.network.join(device)
        return device

    def release(self, folder: Path, version: str, **changes: Any) -> str:
        """Upload a sample bundle of this version, make it a release, return its digest; `changes` as write_sample."""
        weights = f"model {version}".encode()
        archive, digest = pack_sample(folder, name=f"v{version}", version=version, model_bytes=weights, **changes)
        upload = self.fleet.artifacts.begin()
        try:
            upload.write(archive.read_bytes())
            self.fleet.accept(upload)
        finally:
            upload.discard()
        self.fleet.add_release("digits", version, [digest])
        return digest

    def step(self, *, seconds: float = 5.0, connecting: bool = False) -> None:
        """Devices send and are answered, then the reconciler runs once."""
        self.clock.now_s += seconds
        self.network.step(self.recorder, self.postbox, now_s=self.clock.now_s, connecting=connecting)
        self.reconciler.step(self.clock.now_s)
        self.network.deliver(now_s=self.clock.now_s)

    def run(self, until: Callable[[], bool], *, steps: int = 200) -> None:
        for _ in range(steps):
            if until():
                return
            self.step()
        pytest.fail(f"not there after {steps} steps")


class Broker:
    """A Mosquitto process on a free loopback port."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._config = directory / "mosquitto.conf"
        self.port = free_port()
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, what="mosquitto")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class ServerProcess:
    """`edgewright fleet serve` as a process of its own."""

    def __init__(self, data: Path, mqtt_port: int) -> None:
        self.data = data
        self._mqtt_port = mqtt_port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> FleetClient:
        (self.data / "server.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "edgewright.runtime.cli", "fleet", "serve", "--data", str(self.data)]
        command += ["--listen", "127.0.0.1:0", "--mqtt", f"127.0.0.1:{self._mqtt_port}"]
        with (self.data.parent / "server.log").open("a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        wait_for((self.data / "server.json").exists, what="the fleet server")
        client = connect(url=None, data=self.data, token=None)
        wait_for(lambda: self._live(client), what="the API")
        return client

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    def fill_disk(self, *, is_full: bool) -> None:
        """Have each write beyond the first bytes of a file fail in the server, or let it write again."""
        assert self._process is not None
        limit = 4096 if is_full else resource.RLIM_INFINITY
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    @staticmethod
    def _live(client: FleetClient) -> bool:
        return bool(client.get("/v1/live")["live"])


def wait_for(there: Callable[[], bool], *, what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if there():
            return
        time.sleep(0.05)
    pytest.fail(f"{what}: not there after {limit_s:g} s")
