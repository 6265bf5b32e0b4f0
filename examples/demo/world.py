"""A whole fleet on this machine: broker, fleet server, devices; driven as a user drives it, by the command."""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .processes import Broker, Child, Stage, StoryError, edgewright, free_port, run_json, wait_until

POLICY = """\
# Quick, because this is a demo: hours become seconds. The gates are the defaults.
waves = [1, 2, "rest"]
horizonSeconds = 60
soakSeconds = 6
offlineAfterSeconds = 30
probationSeconds = 3
"""

DEVICE = """\
target = "{target}"
emulate = {emulate}
listen = "127.0.0.1:{port}"
window_s = 2
report_interval_s = 1
heartbeat_s = 2
"""


@dataclass
class Device:
    """One device process and where its clients find it."""

    name: str
    target: str
    state: Path
    port: int
    child: Child | None = None

    def model(self, name: str) -> dict[str, Any] | None:
        """Return the V2 metadata of a model, None while the device does not serve it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", f"/v2/models/{name}")
            response = connection.getresponse()
            body = response.read()
            return json.loads(body) if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@dataclass
class World:
    """Everything that runs, and the commands that drive it."""

    stage: Stage
    folder: Path
    broker: Broker
    port: int = field(default_factory=free_port)
    fleet: Child | None = None
    devices: list[Device] = field(default_factory=list)

    @classmethod
    def build(cls, stage: Stage, folder: Path) -> World:
        """Return a world whose parts are not started yet."""
        return cls(stage, folder, Broker(stage, free_port()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "fleet"

    def start_fleet(self) -> None:
        """Start the fleet server on its data directory and wait until it answers."""
        self.fleet = self.stage.start(
            "fleet",
            edgewright(
                *("fleet", "serve", "--data", str(self.data)),
                *("--listen", f"127.0.0.1:{self.port}", "--mqtt", f"127.0.0.1:{self.broker.port}"),
            ),
        )
        wait_until(self._fleet_answers, timeout_s=120, what="the fleet server")

    def _fleet_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/v1/live")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def ask(self, *arguments: str) -> Any:
        """Run `edgewright fleet … --json` and return what it printed."""
        connection = ("--url", self.url, "--data", str(self.data))
        return json.loads(run_json(edgewright("fleet", *arguments, *connection, "--json"))[1])

    def add_device(self, name: str, target: str, *, emulated: bool = False) -> Device:
        """Enrol a device with a one-time token; it is not started yet."""
        state = self.folder / "devices" / name
        state.mkdir(parents=True)
        device = Device(name, target, state, free_port())
        (state / "device.toml").write_text(
            DEVICE.format(target=target, emulate=str(emulated).lower(), port=device.port), encoding="utf-8"
        )
        token = self.ask("device", "token")["token"]
        run_json(
            edgewright(
                *("device", "enroll", "--state-dir", str(state), "--config", str(state / "device.toml")),
                *("--fleet", self.url, "--token", token, "--name", name),
            )
        )
        self.devices.append(device)
        return device

    def start_device(self, device: Device) -> None:
        """Start the device's daemon; its clients can connect when this returns."""
        device.child = self.stage.start(
            device.name,
            edgewright(
                "device", "run", "--state-dir", str(device.state), "--config", str(device.state / "device.toml")
            ),
        )

    def release(self, *bundles: Path) -> None:
        self.ask("release", "add", *map(str, bundles))

    def roll_out(self, model: str, version: str, policy: str = POLICY) -> str:
        """Create a rollout; return its id."""
        path = self.folder / "policy.toml"
        path.write_text(policy, encoding="utf-8")
        return str(self.ask("rollout", "create", model, version, "--policy", str(path))["id"])

    def rollout_state(self, rollout: str) -> tuple[str, str]:
        """Return the rollout's state and why it is in it."""
        status = self.ask("rollout", "status", rollout)["rollout"]
        return str(status["state"]), str(status["reason"])

    def explain(self, rollout: str) -> Any:
        """Return what `edgewright fleet explain` says: each decision, its numbers computed again from the audit log."""
        return self.ask("explain", rollout)

    def devices_reached(self, rollout: str) -> int:
        """Return how many devices were ever given the release; controls keep the old one, to compare with."""
        drawn = self.ask("rollout", "status", rollout)["assignments"]
        return sum(one["arm"] != "control" for one in drawn)

    def online(self) -> int:
        """Return how many devices were heard of in the last ten seconds."""
        found = self.ask("device", "ls")
        heard = [device["last_seen_s"] for device in found["devices"] if device["last_seen_s"] is not None]
        return sum(found["now_s"] - heard_s < 10 for heard_s in heard)

    def console_link(self) -> str:
        """Return the console's address with its login link, as `fleet serve` printed it."""
        if self.fleet is None:
            raise StoryError("the fleet server is not running")
        links = re.findall(r"console: (\S+)", self.fleet.log.read_text(errors="replace"))
        if not links:
            raise StoryError(f"the fleet server printed no console address; see {self.fleet.log}")
        return str(links[-1])

    def drift(self, model: str) -> list[dict[str, Any]]:
        """Return what the fleet says of each bundle with traffic in the last hour."""
        bundles: list[dict[str, Any]] = self.ask("drift", "show", model, "--hours", "1")["bundles"]
        return bundles

    def drift_picture(self, model: str) -> str:
        """Return what `edgewright fleet drift show` prints: each feature with its histogram, calibration over live."""
        connection = ("--url", self.url, "--data", str(self.data), "--hours", "0.01")
        return run_json(edgewright("fleet", "drift", "show", model, *connection))[1]

    def drifting(self, model: str) -> bool:
        """Tell whether the inputs of every bundle with traffic have drifted."""
        return all(bundle["report"]["input_verdict"] == "drifted" for bundle in self.drift(model))

    def counted(self, model: str) -> int:
        """Return the requests that the fleet has counted for a model, over all devices, versions and windows."""
        return sum(bundle["requests"] for bundle in self.drift(model))

    def settled_count(self, model: str, *, at_least: int, timeout_s: float = 60.0) -> int:
        """Wait until the fleet's count reaches what the clients know of and stops growing; return it."""
        wait_until(lambda: self.counted(model) >= at_least, timeout_s=timeout_s, what=f"{at_least} counted requests")
        before = -1
        while (now := self.counted(model)) != before:
            before = now
            time.sleep(2.5)
        return now
