"""The readings of one board, about once a second: only what somebody asked for is read."""

from __future__ import annotations

from pathlib import Path

from .battery import read_battery
from .energy import find_meter
from .heat import read_clocks, read_pi_throttled, read_throttle_count, read_zones
from .policy import Readings


class Board:
    """What lies under `root` (/sys, or a folder of the same shape)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._throttle_count = read_throttle_count(root)
        self.meter = find_meter(root)

    def read(self) -> Readings:
        """One look at temperatures, throttling and battery; some tens of microseconds a sensor."""
        zones = read_zones(self._root)
        battery = read_battery(self._root)
        return Readings(
            hottest_c=max((zone.celsius for zone in zones), default=None),
            throttled=self._throttled(),
            charge=None if battery is None else battery.charge,
            discharging=battery is not None and battery.discharging,
        )

    def _throttled(self) -> bool | None:
        """By the firmware's word, else by the kernel's count, else by a clock that may not run at its full speed."""
        told = read_pi_throttled(self._root)
        if told is not None:
            return told
        count = read_throttle_count(self._root)
        if count is not None:
            before, self._throttle_count = self._throttle_count, count
            return before is not None and count > before
        clocks = read_clocks(self._root)
        return any(clock.allowed_khz < clock.full_khz for clock in clocks) if clocks else None
