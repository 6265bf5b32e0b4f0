"""The stage of the demo and of the end-to-end tests: nothing that it started outlives it, and its brokers deliver."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from examples.demo.processes import Broker, Stage, StoryError, accepts_connections, free_port, run_json, wait_until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or before it was read
        return False


def test_a_stage_leaves_no_process_behind_however_it_is_left(tmp_path: Path) -> None:
    started: list[int] = []

    def interrupted_run() -> None:
        with Stage(tmp_path) as stage:
            started.append(stage.start("quick", [sys.executable, "-c", "import time; time.sleep(600)"]).pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert not alive(started[0])


def test_a_stubborn_child_and_its_own_child_are_swept_away(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    child = stage.start("stubborn", [sys.executable, "-c", STUBBORN])
    wait_until(lambda: child.log.read_text().strip() != "", timeout_s=60, what="the grandchild")
    grandchild = int(child.log.read_text())
    child.terminate(timeout_s=0.2)
    wait_until(lambda: not alive(child.pid) and not alive(grandchild), timeout_s=60, what="both to be gone")


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(StoryError, match="for the moon"):
        wait_until(lambda: False, timeout_s=0.05, what="the moon", interval_s=0.01)


def test_a_failed_command_shows_what_it_printed() -> None:
    with pytest.raises(StoryError, match="ended with 3:\nwhy"):
        run_json([sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])


class AmqttBroker(Broker):
    """The broker that a machine without Mosquitto gets."""

    @staticmethod
    def mosquitto() -> str | None:
        return None


@pytest.mark.parametrize("broker_class", [Broker, AmqttBroker])
def test_a_broker_delivers_and_goes_away(tmp_path: Path, broker_class: type[Broker]) -> None:
    if broker_class is Broker and Broker.mosquitto() is None:
        pytest.skip("Mosquitto is not installed (Debian package: mosquitto)")
    with Stage(tmp_path) as stage:
        broker = broker_class(stage, free_port())
        broker.start()
        received = threading.Event()
        subscribed = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{os.getpid()}")
        client.on_message = lambda *_: received.set()
        client.on_subscribe = lambda *_: subscribed.set()
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.subscribe("edgewright/1/+/+/up/+", qos=1)
        assert subscribed.wait(60)
        client.publish("edgewright/1/t/d/up/hello", b"payload", qos=1)
        assert received.wait(60)
        client.disconnect()
        client.loop_stop()
        broker.stop(kill=True)
        wait_until(lambda: not accepts_connections(broker.port), timeout_s=60, what="the port to be free")
