"""Temperatures and clocks. Sources: the kernel's sysfs-class-thermal, cpufreq and x86 thermal_throttle interfaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .sysfs import folders, read_int, read_text

_PLAUSIBLE_C = (-40.0, 200.0)
"""Sensors that are off tell −274, 0 K or the greatest number they have."""
_PI_THROTTLED_NOW = 0b1110
"""Raspberry Pi firmware, `get_throttled`: bit 1 frequency capped, bit 2 throttled, bit 3 soft temperature limit."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One thermal zone."""

    name: str
    celsius: float


@dataclass(frozen=True, slots=True)
class Clock:
    """One group of processor cores that share a clock."""

    name: str
    now_khz: int
    allowed_khz: int
    """What the kernel allows now; heat or a person may have lowered it."""
    full_khz: int
    """What the hardware can."""


def read_zones(root: Path) -> list[Zone]:
    """The thermal zones under `root`/class/thermal whose sensors answer."""
    zones = []
    for folder in folders(root / "class/thermal", "thermal_zone*"):
        millidegrees = read_int(folder / "temp")
        if millidegrees is None or not _PLAUSIBLE_C[0] <= millidegrees / 1000 <= _PLAUSIBLE_C[1]:
            continue
        zones.append(Zone(read_text(folder / "type") or folder.name, millidegrees / 1000))
    return zones


def read_clocks(root: Path) -> list[Clock]:
    """The clocks under `root`/devices/system/cpu/cpufreq."""
    clocks = []
    for folder in folders(root / "devices/system/cpu/cpufreq", "policy*"):
        now = read_int(folder / "scaling_cur_freq")
        allowed = read_int(folder / "scaling_max_freq")
        full = read_int(folder / "cpuinfo_max_freq")
        if now is not None and allowed is not None and full is not None:
            clocks.append(Clock(folder.name, now, allowed, full))
    return clocks


def read_throttle_count(root: Path) -> int | None:
    """How often processor cores were throttled for heat since boot; None where nobody counts (only x86 does)."""
    counts = [
        read_int(folder / "thermal_throttle/core_throttle_count")
        for folder in folders(root / "devices/system/cpu", "cpu[0-9]*")
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def read_pi_throttled(root: Path) -> bool | None:
    """Whether a Raspberry Pi's firmware holds the clock down now; None where this is none."""
    text = read_text(root / "devices/platform/soc/soc:firmware/get_throttled")
    try:
        return None if text is None else bool(int(text, 16) & _PI_THROTTLED_NOW)
    except ValueError:
        return None
