"""Rollouts with proof, with real parts: broker, fleet server, four real devices, and 44 virtual ones for numbers.

The first release goes to everybody; an emergency stop takes back what nobody has heard, and it goes on after the lift.
The second is right less often and looks the same in everything else: only told truths (and, on the real devices, a
shadow route) say so; the control gate takes it back. The third is better: it passes, its controls graduate, and a
`kill -9` of the fleet server in the middle of a wave does not matter.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.client import FleetClient, connect
from edgewright.fleet.sim.device import Behaviour
from edgewright.targets.host import detect_host
from examples.demo.processes import Broker, Stage, command_line, descendants, edgewright, run_json, wait_until
from examples.demo.world import Device, World
from tests.e2e.eyes import PROMISED, Witness, eye_bundle, reference, weights
from tests.e2e.virtual_devices import VirtualDevices, virtual_devices
from tests.runtime.native_bundle import needs_gcc

REAL, VIRTUAL = 4, 44
ERRORS = {"1": 1 - PROMISED, "2": 0.5, "3": 0.0}
"""Share of scenes that each release gets wrong."""
OBSERVED_S = 12
ROUTE = '[routes.watch]\nkind = "shadow"\nprimary = "judge"\nshadow = "eye"\nfraction = 1.0\nmax_busy_share = 1.0\n'
POLICY = f"""
waves = [{{add = 2, sites = ["lab"]}}, "rest"]
horizonSeconds = 60
offlineAfterSeconds = 120
probationSeconds = 1
[control]
fractions = [0.5]
observationSeconds = {OBSERVED_S}
[rollback]
maxOrdersPerDevicePerDay = 12
"""
"""Three releases in two minutes are a storm, were it not for the last line."""

pytestmark = [
    needs_gcc,
    pytest.mark.slow,
    pytest.mark.skipif(Broker.mosquitto() is None, reason="Mosquitto is not installed (Debian package: mosquitto)"),
]


@dataclass
class Proof:
    """The fleet, and what one asks it."""

    world: World
    api: FleetClient
    virtual: VirtualDevices

    def begin(self, version: str) -> str:
        return self.world.roll_out("eye", version, POLICY)

    def rollout(self, rollout: str) -> dict[str, Any]:
        view: dict[str, Any] = self.api.get(f"/v1/rollouts/{rollout}")
        return view

    def arms(self, rollout: str, arm: str) -> list[dict[str, Any]]:
        return [one for one in self.rollout(rollout)["assignments"] if one["arm"] == arm]

    def until(self, rollout: str, reached: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 240) -> None:
        def there() -> bool:
            view = self.rollout(rollout)
            assert view["rollout"]["state"] != "paused", view["rollout"]["reason"]
            return reached(view)

        wait_until(there, timeout_s=timeout_s, what=what, interval_s=0.3)

    def until_state(self, rollout: str, state: str) -> None:
        self.until(rollout, lambda view: view["rollout"]["state"] == state, f"{rollout} to be {state}")

    def versions(self) -> set[str]:
        """All versions that are served or run anywhere."""
        found = set(self.virtual.versions().values())
        for device in self.world.devices:
            model = device.model("eye")
            found |= set(model["versions"]) if model else {""}
        return found

    def all_run(self, version: str) -> None:
        wait_until(lambda: self.versions() == {version}, timeout_s=120, what=f"version {version} everywhere")

    def audit(self, path: Path) -> list[dict[str, Any]]:
        """Print the whole audit log into a file, and return it, oldest entry first."""
        log = self.world.ask("audit", "show", "--all")
        path.write_text(json.dumps(log), encoding="utf-8")
        return sorted(log["entries"], key=lambda entry: entry["seq"])


@contextmanager
def proof(folder: Path) -> Iterator[Proof]:
    with ExitStack() as stack:
        stage = stack.enter_context(Stage(folder))
        world = World.build(stage, folder)
        world.broker.start()
        world.start_fleet()
        api = connect(url=world.url, data=world.data, token=None)
        judge = eye_bundle(folder, "judge", "1", errors=0.0)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: _real_device(world, api, f"real-{number}", judge), range(REAL)))
            bundles = list(pool.map(lambda one: eye_bundle(folder, "eye", one[0], errors=one[1]), ERRORS.items()))
        digests = {api.upload(bundle)["digest"]: version for bundle, version in zip(bundles, ERRORS, strict=True)}
        for digest, version in digests.items():
            api.post("/v1/releases", {"model": "eye", "version": version, "bundles": [digest]})
        board = {"target": "host", "target_digest": detect_host().digest()}
        names = [f"virtual-{number:02}" for number in range(VIRTUAL)]
        behaviour = _behaviour_of(digests)
        virtual = stack.enter_context(virtual_devices(api, names, board, behaviour, world.broker.port))
        wait_until(lambda: world.online() == REAL + VIRTUAL, timeout_s=120, what="every device to be heard")
        witnesses = [Witness(f"http://127.0.0.1:{one.port}", seed) for seed, one in enumerate(world.devices)]
        for witness in witnesses:
            witness.start()
            stack.callback(witness.stop)
        yield Proof(world, api, virtual)


def _real_device(world: World, api: FleetClient, name: str, judge: Path) -> None:
    device = world.add_device(name, "host")
    api.patch(f"/v1/devices/{name}", {"site": "lab"})
    (device.state / "routes.toml").write_text(ROUTE, encoding="utf-8")
    world.start_device(device)
    wait_until((device.state / "agent.sock").exists, timeout_s=120, what="the agent's socket")
    run_json(
        edgewright("device", "install", str(judge), "--wait", "probation", "--state-dir", str(device.state), "--json")
    )


def _behaviour_of(digests: dict[str, str]) -> Callable[[str], Behaviour]:
    bins, confidence = weights(reference())
    found = {
        digest: Behaviour(
            requests_per_step=8, weights=bins, label_rate=0.5, accuracy=1 - ERRORS[version], confidence=confidence
        )
        for digest, version in digests.items()
    }
    return found.__getitem__


def kill_server(device: Device) -> None:
    """Kill what serves on a device, not its agent."""
    assert device.child is not None
    (server,) = [
        pid for pid in descendants(device.child.pid) if "edgewright.runtime.server " in command_line(pid) + " "
    ]
    os.kill(server, signal.SIGKILL)


def evidence(entries: list[dict[str, Any]], rollout: str) -> list[dict[str, Any]]:
    """What each block of devices and controls gave to the tests, in order."""
    own = [one for one in entries if one["subject"] == f"rollout:{rollout}" and one["action"] == "rollout.evidence"]
    return [block for one in own for block in one["detail"]["blocks"]]


def explained(folder: Path, rollout: str) -> dict[str, Any]:
    """Compute the rollout's decisions again from the file alone."""
    found: dict[str, Any] = json.loads(
        run_json(edgewright("fleet", "explain", rollout, "--from", str(folder / "audit.json"), "--json"))[1]
    )
    return found


def proven(explanation: dict[str, Any]) -> set[str]:
    """The tests against the controls whose recomputed e-value is a proof."""
    return {one["gate"] for one in explanation["tests"] if one["outcome"] == "fail"}


def stopped_and_lifted(fleet: Proof) -> None:
    """Version 1: orders that nobody has heard are taken back by the emergency stop, and given again after it."""
    fleet.virtual.deaf = {f"virtual-{number:02}" for number in range(8)}
    first = fleet.begin("1")
    fleet.until(
        first, lambda view: len(view["assignments"]) == REAL + VIRTUAL, "orders to all, who runs nothing is no control"
    )
    hearing = {name for name in fleet.virtual.devices if name not in fleet.virtual.deaf}
    wait_until(lambda: all(fleet.virtual.versions()[one] == "1" for one in hearing), timeout_s=120, what="version 1")
    stopped = fleet.world.ask("stop", "--reason", "cameras reboot")
    assert stopped["rollouts"] == [first]
    taken_back = {one["device"] for one in fleet.rollout(first)["assignments"] if one["withdrawn_s"] is not None}
    assert fleet.virtual.deaf <= taken_back
    assert not hearing & taken_back
    fleet.virtual.deaf = set()
    fleet.world.ask("lift")
    assert fleet.rollout(first)["rollout"]["state"] == "paused"
    fleet.world.ask("rollout", "resume", first)
    fleet.until_state(first, "completed")
    fleet.all_run("1")


def taken_back(fleet: Proof) -> str:
    """Version 2 is right less often, and that is all."""
    second = fleet.begin("2")
    fleet.until_state(second, "rolled_back")
    fleet.all_run("1")
    return second


def brought_out(fleet: Proof) -> str:
    """Version 3 is better. A control loses its server, the fleet loses its own."""
    third = fleet.begin("3")
    wait_until(lambda: len(fleet.arms(third, "control")) == 2, timeout_s=120, what="controls")
    (device,) = [one for one in fleet.world.devices if one.name == fleet.arms(third, "control")[0]["device"]]
    wait_until(lambda: fleet.versions() >= {"1", "3"}, timeout_s=120, what="version 3 on a device")
    time.sleep(2.5)  # a crash counts in a window that began after the draw, and windows have 2 s
    kill_server(device)
    fleet.until(third, lambda view: view["rollout"]["wave"] == 1 and len(view["assignments"]) > 20, "the second wave")
    assert fleet.world.fleet is not None
    fleet.world.fleet.kill()
    assert "3" in fleet.versions()
    fleet.world.start_fleet()
    fleet.until_state(third, "completed")
    fleet.all_run("3")
    return third


@pytest.mark.timeout(900)
def test_a_fleet_proves_its_releases(tmp_path: Path) -> None:
    with proof(tmp_path) as fleet:
        stopped_and_lifted(fleet)
        second = taken_back(fleet)
        third = brought_out(fleet)
        drawn = fleet.rollout(third)["assignments"]
        reason = fleet.rollout(second)["rollout"]["reason"]
        entries = fleet.audit(tmp_path / "audit.json")

    bad, good = explained(tmp_path, second), explained(tmp_path, third)
    assert bad["agrees"], bad["problems"]
    assert good["agrees"], good["problems"]
    assert "labels worse than the controls" in reason
    assert proven(bad) >= {"labels"}
    assert not proven(bad) & {"accuracy", "inputs", "outputs", "errors", "crashes", "silence"}, "they see nothing"
    assert not proven(good)
    assert {one["arm"] for one in drawn} == {"treated", "graduated"}
    assert len(drawn) == REAL + VIRTUAL

    lab_of_bad, lab_of_good = evidence(entries, second)[:2], evidence(entries, third)[:2]
    for block in lab_of_bad:  # of real devices: what clients told, and what the shadow route saw
        assert block["values"]["labels"][0] > 0.2, block
        assert block["values"]["disagreement"][0] > 0.2, block
    for block in lab_of_good:
        assert block["values"]["labels"][0] < -0.02, block
        assert block["values"]["disagreement"][0] < -0.02, block
    crashes = [block["values"]["crashes"] for block in lab_of_good]
    devices = [pair for values in crashes for pair in zip(values[::2], values[1::2], strict=True)]
    assert sorted(devices) == [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 0.0)], "one control's server was killed"
