"""What follows from heat and an empty battery. Pure: readings and the time come in, what to do comes out."""

from __future__ import annotations

from dataclasses import dataclass

from ..serving import PowerSettings


@dataclass(frozen=True, slots=True)
class Readings:
    """What the board tells at one moment; None where it does not."""

    hottest_c: float | None = None
    throttled: bool | None = None
    """Whether the processor was slowed down for heat since the last readings."""
    charge: float | None = None
    """Of the battery, 0 to 1."""
    discharging: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What the server does until the next plan."""

    saving: bool
    """Whether routes take their `when_hot` and shadows rest."""
    max_batch_rows: int | None
    """None: what each model's settings say."""
    max_cpus: int | None
    """None: all that the process may use."""
    reason: str
    """Empty while nothing is saved."""


AT_EASE = Plan(saving=False, max_batch_rows=None, max_cpus=None, reason="")

_CHARGE_MARGIN = 0.05
"""A battery must have so much more than the least before it counts as charged again."""


class PowerPolicy:
    """Each cause has two thresholds, and a state holds for `hold_s` at least: nothing flaps."""

    def __init__(self, settings: PowerSettings) -> None:
        self._settings = settings
        self._hot = _Switch(settings.hold_s)
        self._low = _Switch(settings.hold_s)

    def decide(self, readings: Readings, now_s: float) -> Plan:
        settings = self._settings
        temperature = readings.hottest_c
        hot = self._hot.move(
            now_s,
            on=_reaches(temperature, settings.hot_c) or (settings.on_throttle and readings.throttled is True),
            off=not readings.throttled and (temperature is None or temperature <= settings.cool_below_c),
        )
        low = self._low.move(
            now_s,
            on=readings.discharging and readings.charge is not None and readings.charge < settings.min_charge,
            off=not readings.discharging
            or (readings.charge is not None and readings.charge >= settings.min_charge + _CHARGE_MARGIN),
        )
        if not (hot or low):
            return AT_EASE
        causes = ["hot"] * hot + ["battery"] * low
        return Plan(True, settings.saving_batch_rows, settings.saving_cpus, " and ".join(causes))


class _Switch:
    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._is_on = False
        self._since_s: float | None = None

    def move(self, now_s: float, *, on: bool, off: bool) -> bool:
        """The new state: `on` and `off` say what the readings speak for; neither leaves it as it is."""
        wanted = on or (self._is_on and not off)
        held = self._since_s is not None and now_s - self._since_s < self._hold_s
        if wanted != self._is_on and not (held and self._is_on):
            self._is_on, self._since_s = wanted, now_s
        return self._is_on


def _reaches(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value >= limit
