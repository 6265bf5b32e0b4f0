"""The connection to the broker: paho in its own thread, reconnecting for ever."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edgewright.runtime.telemetry import wire

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
FIRST_RETRY_S = 1
LONGEST_RETRY_S = (8, 16)
"""The longest wait between two attempts is drawn from this range, so that servers do not knock in step."""
MAX_QUEUED_MESSAGES = 20_000


class MqttLink:
    """Receives what devices of one tenant send, and is a `Downlink`.

    The broker may be away at the start and at any time later. Nothing is asked of its memory: the session is clean, and
    the protocol's own acknowledgements say what arrived.
    """

    def __init__(self, *, host: str, port: int, tenant: str) -> None:
        self._filter = wire.topic(tenant, "+", "up", "+")
        self._address = f"{host}:{port}"
        self._host, self._port = host, port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"edgewright-fleet-{tenant}")
        self._client.max_queued_messages_set(MAX_QUEUED_MESSAGES)
        self._client.reconnect_delay_set(FIRST_RETRY_S, random.randint(*LONGEST_RETRY_S))  # noqa: S311  (jitter)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._told_away = False
        self._client.on_connect_fail = self._failed

    @property
    def connected(self) -> bool:
        """Whether the broker answers at this moment."""
        return self._client.is_connected()

    def start(self, on_message: Callable[[str, bytes], None]) -> None:
        """Begin to connect; returns at once. `on_message` is called from the network thread."""

        def received(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            try:
                topic = message.topic
            except UnicodeDecodeError:
                return  # no device of ours has such a topic, and an exception here would end paho's thread
            on_message(topic, bytes(message.payload))

        self._client.on_message = received
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand a message to paho, which keeps it across a reconnect."""
        info = self._client.publish(topic, payload, qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            log.warning("a message to %s is dropped, %d wait for the broker already", topic, MAX_QUEUED_MESSAGES)

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.warning("the MQTT broker at %s refuses the connection: %s", self._address, reason)
            return
        self._told_away = False
        client.subscribe(self._filter, qos=1)
        log.info("connected to the MQTT broker at %s", self._address)

    def _disconnected(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.warning("lost the MQTT broker at %s (%s); trying again", self._address, reason)

    def _failed(self, _client: paho.Client, _data: Any) -> None:
        if not self._told_away:
            log.warning("no MQTT broker at %s; devices keep their telemetry until there is one", self._address)
            self._told_away = True
