"""The server as a process, with a real Mosquitto: killed, restarted, stopped; and the commands that talk to it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgewright.fleet.cli import fleet
from edgewright.fleet.client import FleetClient
from edgewright.fleet.sim.device import Behaviour, Identity, VirtualDevice
from edgewright.runtime.telemetry import wire
from edgewright.targets.faults import EnvironmentFault, Fault
from tests.bundle.samples import DIGEST, pack_sample
from tests.fleet.house import Broker, ServerProcess, wait_for

WEIGHTS = ((10.0, 40.0, 40.0, 10.0), (30.0, 30.0, 40.0), (5.0, 15.0, 80.0))
SERVING = Behaviour(requests_per_step=20, weights=WEIGHTS)


class OnlineDevice:
    """A virtual device on a real broker: paho in its own thread, a step every 50 ms."""

    def __init__(self, client: FleetClient, name: str, mqtt_port: int) -> None:
        token = client.post("/v1/tokens", {})["token"]
        board = {"target": "raspberry-pi-5", "target_digest": DIGEST}
        given = client.post("/v1/enroll", {"token": token, "name": name, **board})
        identity = Identity(tenant=given["tenant"], device=name, secret=bytes.fromhex(given["secret"]), **board)
        self.virtual = VirtualDevice(identity, behaviour_of=lambda _: SERVING, seed=7)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._mqtt.reconnect_delay_set(1, 1)
        self._mqtt.on_connect = self._connected
        self._mqtt.on_message = self._received
        self._mqtt.connect_async("127.0.0.1", mqtt_port)
        self._mqtt.loop_start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _connected(self, client: Any, *_: Any) -> None:
        client.subscribe(wire.topic(self.virtual.identity.tenant, self.virtual.identity.device, "down", "+"), qos=1)
        with self._lock:
            self._publish(self.virtual.connect())

    def _received(self, _client: Any, _data: Any, message: Any) -> None:
        with self._lock:
            self.virtual.receive(message.payload, now_s=time.time())

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            with self._lock:
                sent = self.virtual.step(time.time())
                if self._mqtt.is_connected():
                    self._publish(sent)

    def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        for topic, payload in messages:
            self._mqtt.publish(topic, payload, qos=1)

    def fall_silent(self) -> int:
        """Serve no more requests, but go on reporting; returns how many there were."""
        with self._lock:
            self.virtual._behaviour_of = lambda _: Behaviour()
            return self.virtual.requests

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._mqtt.disconnect()
        self._mqtt.loop_stop()


@pytest.fixture
def online(server: ServerProcess, broker: Broker) -> Iterator[tuple[FleetClient, OnlineDevice]]:
    client = server.start()
    device = OnlineDevice(client, "cam-1", broker.port)
    yield client, device
    device.stop()


def release(client: FleetClient, folder: Path, version: str) -> None:
    archive, digest = pack_sample(folder, name=f"v{version}", version=version)
    assert client.upload(archive)["digest"] == digest
    client.post("/v1/releases", {"model": "digits", "version": version, "bundles": [digest]})


def counted(client: FleetClient) -> int:
    return sum(int(bundle["requests"]) for bundle in client.get("/v1/drift")["bundles"])


def test_kills_of_server_and_broker_lose_nothing(
    online: tuple[FleetClient, OnlineDevice], server: ServerProcess, broker: Broker, tmp_path: Path
) -> None:
    client, device = online
    release(client, tmp_path, "1")
    wait_for(lambda: client.get("/v1/devices/cam-1")["last_seen_s"] is not None, what="the device's hello")
    policy = {"waves": ["rest"], "driftGate": {"enabled": False}, "probationSeconds": 0}
    rollout = client.post("/v1/rollouts", {"model": "digits", "version": "1", "policy": policy})["id"]

    server.kill()
    client = server.start()
    wait_for(lambda: counted(client) > 0, what="traffic on the new release")
    broker.stop()
    time.sleep(0.5)
    server.kill()
    broker.start()
    client = server.start()

    wait_for(
        lambda: bool(client.get(f"/v1/rollouts/{rollout}")["rollout"]["state"] == "completed"), what="the rollout's end"
    )
    attempted = device.fall_silent()
    wait_for(lambda: counted(client) == attempted, what="the last record")
    time.sleep(0.3)
    assert counted(client) == attempted
    assert client.get("/v1/audit/verify")["intact"]
    assert client.get("/v1/status")["broker_connected"]


def test_sigterm_ends_it_cleanly(server: ServerProcess) -> None:
    client = server.start()
    assert client.get("/v1/live")["live"]
    assert server.terminate() == 0
    assert not (server.data / "server.json").exists()
    log = (server.data.parent / "server.log").read_text()
    assert "Traceback" not in log
    assert re.search(r"console: http://127\.0\.0\.1:\d+/\?token=\S+", log)


def test_the_login_link_opens_the_console(server: ServerProcess) -> None:
    client = server.start()
    log = (server.data.parent / "server.log").read_text()
    link = re.findall(r"console: (\S+)", log)[-1]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(client.url)  # noqa: S310  (our own server)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(link) as page:
        assert page.headers.get_content_type() == "text/html"
        assert page.url == f"{client.url}/", "the token is gone from the address"


def run(*arguments: str, data: Path) -> tuple[int, str]:
    """Run a command in this process, as `main` would."""
    done = CliRunner().invoke(fleet, [*arguments, "--data", str(data)], catch_exceptions=True)
    if isinstance(done.exception, Fault):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_the_commands(server: ServerProcess, tmp_path: Path) -> None:
    server.start()
    data = server.data
    archive, _ = pack_sample(tmp_path)
    assert "no devices" in run("device", "ls", data=data)[1]
    assert run("device", "token", data=data)[1].startswith("ewt_")
    assert "token" in json.loads(run("device", "token", "--json", data=data)[1])
    code, text = run("release", "add", str(archive), "--release-version", "2", data=data)
    assert (code, "'1'" in text) == (2, True)
    assert run("release", "add", str(archive), data=data)[0] == 0
    assert "raspberry-pi-5" in run("release", "ls", data=data)[1]
    code, text = run("rollout", "create", "digits", "1", "--waves", "1,10%,rest", "--json", data=data)
    made = json.loads(text)
    assert (code, made["policy"]["waves"]) == (0, [1, "10%", "rest"])
    assert made["id"] in run("rollout", "status", data=data)[1]
    assert "paused" in run("rollout", "pause", made["id"], "--reason", "lunch", data=data)[1]
    code, text = run("rollout", "pause", made["id"], data=data)
    assert (code, "resume" in text) == (2, True)
    assert run("rollout", "resume", made["id"], data=data)[0] == 0
    assert run("rollout", "abort", made["id"], data=data)[0] == 0
    assert run("rollout", "status", made["id"], "--watch", data=data)[0] == 1, "it did not complete"
    assert run("rollout", "status", "r-nothing", data=data)[0] == 2
    assert "no traffic" in run("drift", "show", data=data)[1]
    assert "lunch" in run("audit", "show", data=data)[1]
    assert "intact" in run("audit", "verify", data=data)[1]
    assert run("audit", "verify", "--head", "1:sha256:00", data=data)[0] == 1


def test_an_experiment_by_commands(
    online: tuple[FleetClient, OnlineDevice], server: ServerProcess, broker: Broker, tmp_path: Path
) -> None:
    client, first = online
    devices = [first, *(OnlineDevice(client, f"cam-{number}", broker.port) for number in range(2, 5))]
    try:
        release(client, tmp_path, "1")
        release(client, tmp_path, "2")
        (tmp_path / "policy.json").write_text(json.dumps(AT_ONCE))
        wait_for(
            lambda: all(one["last_seen_s"] is not None for one in client.get("/v1/devices")["devices"]),
            what="the hellos",
        )
        client.post("/v1/rollouts", {"model": "digits", "version": "1", "policy": AT_ONCE})
        wait_for(lambda: running(devices) == ["1"] * 4, what="release 1")
        wait_for(lambda: client.get("/v1/rollouts")["rollouts"][0]["state"] == "completed", what="its end")
        code, text = run("experiment", "create", "digits", "1", "2", "--primary", "latency", data=server.data)
        assert (code, "undecided" in text) == (0, True), text
        (one,) = [view["experiment"]["id"] for view in client.get("/v1/experiments")["experiments"]]
        wait_for(lambda: running(devices) == ["1", "1", "2", "2"], what="the candidate on half of them")
        assert one in run("experiment", "status", data=server.data)[1]
        shown = json.loads(run("experiment", "status", one, "--json", data=server.data)[1])
        assert (shown["devices"], shown["result"]["finding"]) == ([2, 2], "undecided")
        code, text = run("rollout", "create", "digits", "2", data=server.data)
        assert (code, "experiment" in text) == (2, True)
        code, text = run("experiment", "promote", one, data=server.data)
        assert (code, "--force" in text) == (2, True)
        policy = str(tmp_path / "policy.json")
        code, text = run("experiment", "promote", one, "--force", "--policy", policy, data=server.data)
        assert (code, "rollout: r-" in text) == (0, True), text
        wait_for(lambda: running(devices) == ["2"] * 4, what="the candidate on all")
        code, text = run("experiment", "stop", one, data=server.data)
        assert (code, "promoted" in text) == (2, True)
        assert "Traceback" not in (server.data.parent / "server.log").read_text()
    finally:
        for device in devices[1:]:
            device.stop()


AT_ONCE = {
    "waves": ["rest"],
    "driftGate": {"enabled": False},
    "controlGate": {"enabled": False},
    "control": {"fractions": [0.0]},
    "probationSeconds": 0,
}


def running(devices: list[OnlineDevice]) -> list[str]:
    return sorted(one.virtual.active.version for one in devices if one.virtual.active is not None)


def test_a_full_disk_is_said_changes_nothing_and_ends_nothing(server: ServerProcess) -> None:
    client = server.start()
    client.post("/v1/tokens", {"label": "before"})
    server.fill_disk(is_full=True)
    with pytest.raises(EnvironmentFault, match="disk"):
        client.post("/v1/tokens", {"label": "during"})
    assert client.get("/v1/live")["live"]
    time.sleep(2)  # some steps of all loops
    server.fill_disk(is_full=False)
    client.post("/v1/tokens", {"label": "after"})
    labels = [entry["detail"]["label"] for entry in client.get("/v1/audit")["entries"] if "label" in entry["detail"]]
    assert labels == ["after", "before"]
    assert client.get("/v1/audit/verify")["intact"]
    assert server.terminate() == 0
    assert "Traceback" not in (server.data.parent / "server.log").read_text()


def test_two_servers_do_not_share_a_directory(server: ServerProcess) -> None:
    client = server.start()
    code, text = run("serve", "--listen", "127.0.0.1:0", data=server.data)
    assert (code, "in use by another fleet server" in text) == (EnvironmentFault.exit_code, True)
    assert client.get("/v1/live")["live"]


def test_without_a_server_a_command_says_so(tmp_path: Path) -> None:
    code, text = run("device", "ls", data=tmp_path)
    assert (code, "edgewright fleet serve" in text) == (EnvironmentFault.exit_code, True)
    (tmp_path / "admin.token").write_text("x\n")
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))  # nobody listens on it, and nobody else gets it
        code, text = run("device", "ls", "--url", f"http://127.0.0.1:{quiet.getsockname()[1]}", data=tmp_path)
    assert (code, "no fleet server answers" in text) == (EnvironmentFault.exit_code, True)


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        code, text = run("serve", "--listen", address, data=tmp_path / "data")
    assert code == EnvironmentFault.exit_code
    assert "cannot listen on" in text
    assert "--listen" in text


def test_a_bad_address_is_one_line(tmp_path: Path) -> None:
    code, text = run("serve", "--listen", "nowhere", data=tmp_path)
    assert (code, "--listen is 'nowhere'" in text) == (2, True)
