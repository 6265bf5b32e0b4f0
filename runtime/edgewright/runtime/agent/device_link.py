"""Makes the link of an enrolled device; imported only by one, because MQTT takes memory and time to import."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from ..storage import Storage
from ..telemetry import wire
from ..telemetry.spool import Spool
from .credentials import Credentials
from .link import Link, LinkSurroundings
from .link_memory import LinkMemory
from .loop import Scheduler
from .model_state import Order
from .mqtt import MqttTransport


def make_link(
    storage: Storage,
    credentials: Credentials,
    *,
    memory_path: Path,
    loop: Scheduler,
    spool: Spool,
    incarnation: str,
    heartbeat_s: float,
    hello: Callable[[int], wire.Hello],
    heartbeat: Callable[[], wire.Heartbeat],
    order: Callable[[Order], None],
) -> Link:
    """Return a link over MQTT, not yet started."""
    fleet = f"{credentials.fleet_url} {credentials.tenant} {credentials.device}"
    return Link(
        LinkSurroundings(
            loop=loop,
            transport=MqttTransport(loop, credentials),
            credentials=credentials,
            spool=spool,
            memory=LinkMemory(storage, memory_path, fleet),
            incarnation=incarnation,
            wall_clock=time.time,
            chance=random.random,
            heartbeat_s=heartbeat_s,
            hello=hello,
            heartbeat=heartbeat,
            order=order,
        )
    )
