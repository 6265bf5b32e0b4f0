"""The battery. Source: the kernel's sysfs-class-power."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .sysfs import folders, read_int, read_text


@dataclass(frozen=True, slots=True)
class Battery:
    """The emptiest battery of the board."""

    charge: float
    """0 to 1."""
    discharging: bool


def read_battery(root: Path) -> Battery | None:
    """The emptiest battery under `root`/class/power_supply that feeds the system; None where there is none."""
    batteries = []
    for folder in folders(root / "class/power_supply", "*"):
        if read_text(folder / "type") != "Battery" or read_text(folder / "scope") == "Device":
            continue  # a mouse's or a pen's battery has the scope "Device"
        percent = read_int(folder / "capacity")
        if percent is not None and 0 <= percent <= 100:
            batteries.append(Battery(percent / 100, read_text(folder / "status") == "Discharging"))
    return min(batteries, key=lambda battery: battery.charge, default=None)
