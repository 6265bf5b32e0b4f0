"""The MQTT transport against a real broker that goes away and comes back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgewright.runtime.agent.credentials import Credentials, MqttAddress
from edgewright.runtime.agent.loop import VirtualLoop
from edgewright.runtime.agent.mqtt import MqttTransport
from examples.demo.processes import free_port

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")


class Broker:
    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.config = directory / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        until(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("needs the Mosquitto broker: apt-get install mosquitto")
    made = Broker(tmp_path)
    yield made
    made.stop()


def test_messages_go_both_ways_also_after_the_broker_was_away(broker: Broker) -> None:
    loop = VirtualLoop()
    address = MqttAddress(host="127.0.0.1", port=broker.port)
    transport = MqttTransport(loop, Credentials(tenant="t", device="d1", secret="ab", mqtt=address))
    ups: list[int] = []
    downs: list[str] = []
    received: list[tuple[str, bytes]] = []
    transport.start(lambda: ups.append(1), downs.append, lambda kind, payload: received.append((kind, payload)))

    def heard(messages: Sequence[object], count: int) -> Callable[[], bool]:
        def settled() -> bool:
            loop.settle()
            return len(messages) >= count

        return settled

    try:
        until(heard(downs, 1))  # nobody is there yet
        broker.start()
        until(heard(ups, 1))
        exchange(broker, transport)
        until(heard(received, 1))
        assert received == [("desired", b"run this")]
        broker.stop()
        until(heard(downs, 2))
        broker.start()
        until(heard(ups, 2))
        exchange(broker, transport)
        until(heard(received, 2))
    finally:
        transport.stop()


def exchange(broker: Broker, transport: MqttTransport) -> None:
    """Play the fleet: hear one message of the device, and send it one."""
    heard: list[str] = []
    ready: list[object] = []
    fleet = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    fleet.on_message = lambda _client, _data, message: heard.append(message.topic)
    fleet.on_subscribe = lambda *_: ready.append(1)
    fleet.connect("127.0.0.1", broker.port)
    fleet.subscribe("edgewright/1/t/+/up/+", qos=1)
    fleet.loop_start()
    try:
        until(lambda: bool(ready))
        transport.publish("hello", b"here I am")
        until(lambda: bool(heard))
        assert heard == ["edgewright/1/t/d1/up/hello"]
        fleet.publish("edgewright/1/t/d1/down/desired", b"run this", qos=1).wait_for_publish(60.0)
    finally:
        fleet.disconnect()
        fleet.loop_stop()


def test_broker_that_announces_a_giant_packet_is_hung_up_on() -> None:
    credentials = Credentials(tenant="t", device="d", secret="ab", mqtt=MqttAddress(host="127.0.0.1", port=0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = msgspec.structs.replace(credentials.mqtt, port=listener.getsockname()[1])
        transport = MqttTransport(VirtualLoop(), msgspec.structs.replace(credentials, mqtt=address))
        transport.start(lambda: None, lambda _reason: None, lambda _kind, _payload: None)
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                assert connection.recv(1024)[0] == 0x10
                connection.sendall(b"\x20\x02\x00\x00" + b"\x30\xff\xff\xff\x7f" + bytes(65536))
                while connection.recv(65536):
                    pass
        except ConnectionResetError:
            pass  # hung up before it had read what we sent
        finally:
            transport.stop()
