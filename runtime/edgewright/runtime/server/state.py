"""What the parts of one server process share beside the models."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from .http.connections import Connections


@dataclass(slots=True)
class ServerState:
    """Changed on the event loop only."""

    incarnation: str
    draining: bool = False
    started_s: float = field(default_factory=time.time)
    listeners: list[Connections] = field(default_factory=list)
    """The open connections of each listener."""

    @property
    def responses(self) -> Counter[int]:
        """Responses of all listeners by HTTP status."""
        total: Counter[int] = Counter()
        for connections in self.listeners:
            total.update(connections.responses)
        return total

    @property
    def open_connections(self) -> int:
        return sum(map(len, self.listeners))
