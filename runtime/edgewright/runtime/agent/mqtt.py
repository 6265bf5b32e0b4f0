"""MQTT 3.1.1 through paho: clean session, jittered pause between tries. Only an enrolled device imports this."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ..telemetry import wire
from .credentials import Credentials
from .loop import Scheduler
from .pause import jittered_s

_log = logging.getLogger(__name__)

_KEEPALIVE_S = 30
_MAX_PACKET_BYTES = wire.MAX_MESSAGE_BYTES + 1024
_MAX_QUEUED = 64
_CONNECT_TIMEOUT_S = 3.0
"""Stopping the daemon waits for a connection attempt that is under way."""


class _BoundedClient(paho.Client):
    """A client that hangs up on a broker which announces a packet that no message of ours can be."""

    def _packet_read(self) -> MQTTErrorCode:
        result = super()._packet_read()
        if self._in_packet["remaining_length"] > _MAX_PACKET_BYTES:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return result


class MqttTransport:
    """The real transport. paho's thread only posts to the agent's loop."""

    def __init__(self, loop: Scheduler, credentials: Credentials) -> None:
        self._loop = loop
        self._credentials = credentials
        self._attempt = 0
        self._inbox = threading.BoundedSemaphore(_MAX_QUEUED)
        self._client = _BoundedClient(
            CallbackAPIVersion.VERSION2, client_id=credentials.device, clean_session=True, protocol=paho.MQTTv311
        )
        self._client.max_queued_messages_set(_MAX_QUEUED)
        self._client.connect_timeout = _CONNECT_TIMEOUT_S

    def start(
        self, on_up: Callable[[], None], on_down: Callable[[str], None], on_message: Callable[[str, bytes], None]
    ) -> None:
        client, credentials = self._client, self._credentials
        down = f"edgewright/{wire.PROTOCOL_VERSION}/{credentials.tenant}/{credentials.device}/down/+"

        def connected(_client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                self._pause()
                self._loop.post(lambda: on_down(f"the broker refuses: {reason}"))
            else:
                client.subscribe(down, qos=1)

        def subscribed(_client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
            # Only now: an answer to hello must find its subscriber.
            if any(reason.is_failure for reason in reasons):
                self._loop.post(lambda: on_down("the broker refuses the subscription"))
                return
            self._attempt = 0
            self._loop.post(on_up)

        def disconnected(_client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self._pause()
            self._loop.post(lambda: on_down(str(reason)))

        def unreachable(_client: paho.Client, _data: Any) -> None:
            self._pause()
            self._loop.post(lambda: on_down(f"cannot reach {credentials.mqtt.host}:{credentials.mqtt.port}"))

        def received(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            topic, payload = message.topic, bytes(message.payload)
            # What comes faster than it is handled is dropped: the fleet says everything again until it is answered.
            if len(payload) <= wire.MAX_MESSAGE_BYTES and self._inbox.acquire(blocking=False):
                self._loop.post(lambda: handle(topic.rpartition("/")[2], payload))

        def handle(kind: str, payload: bytes) -> None:
            self._inbox.release()
            on_message(kind, payload)

        client.on_connect, client.on_subscribe, client.on_disconnect = connected, subscribed, disconnected
        client.on_connect_fail, client.on_message = unreachable, received
        self._pause()
        client.connect_async(credentials.mqtt.host, credentials.mqtt.port, keepalive=_KEEPALIVE_S)
        client.loop_start()

    def publish(self, kind: str, message: bytes) -> None:
        topic = wire.topic(self._credentials.tenant, self._credentials.device, "up", kind)
        self._client.publish(topic, message, qos=1)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _pause(self) -> None:
        """Draw the pause before the next try; paho would wait the same time on every device."""
        delay_s = jittered_s(self._attempt, random.random())  # noqa: S311 - a pause, not a secret
        self._attempt += 1
        self._client.reconnect_delay_set(delay_s, delay_s)  # type: ignore[arg-type] # any number works
