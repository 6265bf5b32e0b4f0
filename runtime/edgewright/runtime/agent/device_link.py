"""Joins a device and its link; imported only by an enrolled device."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from ..storage import Storage
from .credentials import Credentials
from .link import Link, LinkSurroundings
from .link_memory import LinkMemory
from .mqtt import MqttTransport
from .report import heartbeat, hello

if TYPE_CHECKING:
    from .device import Device


def make_link(device: Device, credentials: Credentials, storage: Storage, incarnation: str) -> Link:
    """Return the link of an enrolled device, not yet started."""
    fleet = f"{credentials.fleet_url} {credentials.tenant} {credentials.device}"
    return Link(
        LinkSurroundings(
            loop=device.loop,
            transport=MqttTransport(device.loop, credentials),
            credentials=credentials,
            spool=device.spool,
            memory=LinkMemory(storage, device.places.state / "link.json", fleet),
            incarnation=incarnation,
            wall_clock=time.time,
            chance=random.random,
            heartbeat_s=device.config.heartbeat_s,
            hello=lambda epoch: hello(device, epoch),
            heartbeat=lambda: heartbeat(device),
            order=device.updater.order,
        )
    )
