"""Kill -9 at random moments: it goes on, and acknowledged <= counted <= attempted holds."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from examples.demo import digits
from examples.demo.processes import Broker, Stage, command_line, descendants, wait_until
from examples.demo.traffic import Client, Traffic
from examples.demo.world import Device, World
from tests.e2e.releases import Releases

PARTS = ("agent", "server", "fleet", "broker")
KILLS = 20
SEED = 20261121


def server_of(device: Device) -> int | None:
    """Return the process id of the device's server."""
    assert device.child is not None
    servers = [pid for pid in descendants(device.child.pid) if "edgewright.runtime.server " in command_line(pid) + " "]
    return servers[0] if servers else None


class Killer:
    """Kills one part and brings it back, as an init system would."""

    def __init__(self, world: World, random_source: random.Random) -> None:
        self.world = world
        self.random = random_source
        self.victims = list(PARTS) * (KILLS // len(PARTS))
        self.random.shuffle(self.victims)

    def strike(self, part: str) -> None:
        device = self.random.choice(self.world.devices)
        pause_s = self.random.uniform(0.0, 0.5)
        if part == "agent":
            assert device.child is not None
            device.child.kill()
            time.sleep(pause_s)
            self.world.start_device(device)
        elif part == "server":
            pid = server_of(device)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        elif part == "fleet":
            assert self.world.fleet is not None
            self.world.fleet.kill()
            time.sleep(pause_s)
            self.world.start_fleet()
        else:
            self.world.broker.stop(kill=True)
            time.sleep(pause_s)
            self.world.broker.start()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(Broker.mosquitto() is None, reason="Mosquitto is not installed (Debian package: mosquitto)")
def test_twenty_kills_lose_no_count(tmp_path: Path, releases: Releases) -> None:
    _, _, pixels, labels = digits.load()
    with Stage(tmp_path) as stage:
        world = World.build(stage, tmp_path)
        world.broker.start()
        world.start_fleet()
        for number in range(2):
            world.start_device(world.add_device(f"device-{number}", "host"))
        traffic = Traffic([Client(device.port, "digits", pixels, labels, seed=1) for device in world.devices])
        traffic.start()
        world.release(releases.bundle("1"), releases.bundle("1", "raspberry-pi-5"))
        first = world.roll_out("digits", "1")
        wait_until(lambda: world.rollout_state(first)[0] == "completed", timeout_s=120, what="version 1", interval_s=1)

        world.release(releases.bundle("2"), releases.bundle("2", "raspberry-pi-5"))
        world.roll_out("digits", "2")
        killer = Killer(world, random.Random(SEED))
        for victim in killer.victims:
            time.sleep(killer.random.uniform(0.1, 1.5))
            killer.strike(victim)
        assert len(killer.victims) == KILLS

        for client in traffic.clients:
            before = client.tally.acknowledged
            wait_until(lambda c=client, b=before: c.tally.acknowledged > b + 20, timeout_s=120, what="answers")  # type: ignore[misc]
        traffic.stop()
        tally = traffic.total()
        counted = world.settled_count("digits", at_least=tally.acknowledged, timeout_s=120)
        assert tally.acknowledged <= counted <= tally.attempted
        for device in world.devices:
            model = device.model("digits")
            assert model is not None
            assert model["versions"] in (["1"], ["2"])
