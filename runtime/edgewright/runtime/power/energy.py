"""Energy that a board measures: RAPL counters (x86), and power monitors on the rails (INA and the like, through hwmon).

RAPL counts microjoules and starts again at `max_energy_range_uj`; it is readable by root only since CVE-2020-8694. A
power monitor tells watts at one moment, or volts and amperes; those are added up over time, which is as good as the
pace at which they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .sysfs import folders, read_int, read_text

_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN", "VIN_SYS_5V0", "total")
"""What boards call the rail that feeds all others: Jetson Orin, Nano, TX2 and Xavier NX name theirs so."""
_MONITORS = ("ina", "power_meter", "ltc2945", "ltc4151", "isl28022", "pac19")
_LONGEST_GAP_S = 10.0
"""Watts are not added up over longer pauses: nobody knows what was between."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Energy that the hardware adds up itself."""

    name: str
    path: Path
    range_uj: int | None
    """Where it starts again; None where it never does."""


@dataclass(frozen=True, slots=True)
class Rail:
    """Power at one moment."""

    name: str
    read_w: Callable[[], float | None]


class EnergyMeter:
    """Joules of the whole board, or of what comes nearest to that, since this meter began. Times are seconds."""

    def __init__(self, sources: list[Counter] | list[Rail]) -> None:
        self.joules = 0.0
        self._counters = [each for each in sources if isinstance(each, Counter)]
        self._rails = [each for each in sources if isinstance(each, Rail)]
        self._seen_uj: dict[str, int] = {}
        self._seen_w: dict[str, tuple[float, float]] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """What is measured, as the board names it."""
        return (*(each.name for each in self._counters), *(each.name for each in self._rails))

    def update(self, now_s: float) -> None:
        """Read everything once; call about once a second, and at least once in a counter's range (minutes)."""
        for counter in self._counters:
            self._count(counter)
        for rail in self._rails:
            self._integrate(rail, now_s)

    def _count(self, counter: Counter) -> None:
        value = read_int(counter.path)
        if value is None:
            self._seen_uj.pop(counter.name, None)
            return
        before = self._seen_uj.get(counter.name)
        self._seen_uj[counter.name] = value
        if before is not None:
            self.joules += advance_uj(before, value, counter.range_uj) / 1e6

    def _integrate(self, rail: Rail, now_s: float) -> None:
        watts = rail.read_w()
        before = self._seen_w.pop(rail.name, None)
        if watts is None or watts < 0:
            return
        self._seen_w[rail.name] = now_s, watts
        if before is not None and 0 < now_s - before[0] <= _LONGEST_GAP_S:
            self.joules += (now_s - before[0]) * (watts + before[1]) / 2


def advance_uj(before: int, now: int, range_uj: int | None) -> int:
    """Microjoules between two readings of a counter, at most one start again between them."""
    if now >= before:
        return now - before
    return now - before + range_uj if range_uj is not None and range_uj >= before else 0


def find_meter(root: Path) -> EnergyMeter | None:
    """The best that `root` (/sys) has: the rail that feeds the board, else RAPL, else the only monitor, else None.

    Several monitors without a known name are not added up: rails feed each other.
    """
    rails = _rails(root)
    whole = [rail for rail in rails if rail.name.split("/")[-1] in _WHOLE_BOARD]
    if whole:
        return EnergyMeter(whole[:1])
    counters = _rapl(root)
    if counters:
        return EnergyMeter(counters)
    if len(rails) == 1:
        return EnergyMeter(rails)
    return None


def _rapl(root: Path) -> list[Counter]:
    """`psys` where there is one (the platform, packages included), else the packages and their DRAM."""
    zones = [_rapl_zone(folder) for folder in folders(root / "class/powercap", "intel-rapl:*")]
    readable = [zone for zone in zones if zone is not None and read_int(zone.path) is not None]
    platform = [zone for zone in readable if zone.name.startswith("psys")]
    parts = [zone for zone in readable if zone.name.startswith(("package", "dram"))]
    return platform[:1] or parts


def _rapl_zone(folder: Path) -> Counter | None:
    name = read_text(folder / "name")
    if name is None:
        return None
    number = folder.name.removeprefix("intel-rapl:")
    return Counter(f"{name}@{number}", folder / "energy_uj", read_int(folder / "max_energy_range_uj"))


def _rails(root: Path) -> list[Rail]:
    rails = []
    for folder in folders(root / "class/hwmon", "hwmon*"):
        chip = read_text(folder / "name") or ""
        if chip.startswith(_MONITORS):
            rails += [rail for rail in _channels(folder, chip) if rail.read_w() is not None]
    return rails


def _channels(folder: Path, chip: str) -> list[Rail]:
    powers = folders(folder, "power[0-9]*_input") or folders(folder, "power[0-9]*_average")
    if powers:
        return [Rail(f"{chip}/{_label(folder, 'power', path)}", _microwatts(path)) for path in powers]
    return [
        Rail(f"{chip}/{_label(folder, 'in', path)}", _volts_amperes(folder, _number("curr", path)))
        for path in folders(folder, "curr[0-9]*_input")
        if (folder / f"in{_number('curr', path)}_input").exists()
    ]


def _number(kind: str, path: Path) -> str:
    return path.name.removeprefix(kind).partition("_")[0]


def _label(folder: Path, kind: str, path: Path) -> str:
    number = _number("curr" if kind == "in" else kind, path)
    return read_text(folder / f"{kind}{number}_label") or number


def _microwatts(path: Path) -> Callable[[], float | None]:
    def read_w() -> float | None:
        value = read_int(path)
        return None if value is None else value / 1e6

    return read_w


def _volts_amperes(folder: Path, number: str) -> Callable[[], float | None]:
    volts, amperes = folder / f"in{number}_input", folder / f"curr{number}_input"

    def read_w() -> float | None:
        millivolts, milliamperes = read_int(volts), read_int(amperes)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6

    return read_w
