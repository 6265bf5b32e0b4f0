"""A folder that looks like /sys: what the readers are given in place of a board."""

from __future__ import annotations

from pathlib import Path


def write(root: Path, values: dict[str, object]) -> Path:
    """Write files under `root`, each with its value and a newline, as the kernel does."""
    for name, value in values.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def zone(number: int, celsius: float, name: str = "cpu-thermal") -> dict[str, object]:
    folder = f"class/thermal/thermal_zone{number}"
    return {f"{folder}/type": name, f"{folder}/temp": int(celsius * 1000)}


def rapl(number: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> dict[str, object]:
    folder = f"class/powercap/intel-rapl:{number}"
    return {
        f"{folder}/name": name,
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": range_uj,
    }


def battery(percent: int, status: str, *, number: int = 0, scope: str = "System") -> dict[str, object]:
    folder = f"class/power_supply/BAT{number}"
    return {
        f"{folder}/type": "Battery",
        f"{folder}/scope": scope,
        f"{folder}/capacity": percent,
        f"{folder}/status": status,
    }
