"""What each device would do, drawn once from a seed: the same whatever the rollout does and in whatever order.

So two policies can be rehearsed on one and the same fate, and a difference between them is theirs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import msgspec

from ..core.observations import Observation
from ..core.policy.policy import Policy
from .scenario import GOOD_FAILURES, Scenario, failing_share
from .starting import STARTED_S
from .trace import Trace, TracedBoard, TracedDevice

BINS = 10
CYCLE_S = 12 * 3600.0
"""A device that can be reached half of the time is on for 6 h, then off for 6 h."""
HERD_AFTER_S = 6 * 3600.0
FOREVER_S = 366 * 86_400.0
MOST_ROWS = 20_000
"""Of one device in one observation: more would only make histograms smoother."""
OUTPUTS = (0.4, 0.3, 0.2, 0.1)


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of one order."""

    fails: bool
    silent: bool
    hears_after_s: float
    ends_after_s: float


class Fates:
    """Everything that chance decides in one run."""

    def __init__(self, trace: Trace, policy: Policy, scenario: Scenario, *, seed: int) -> None:
        self._trace = trace
        self._scenario = scenario
        self._seed = seed
        self._share = failing_share(scenario, policy)
        self._boards = {board.name: board for board in trace.boards}
        self._devices = {device.id: device for device in trace.devices}

    @cached_property
    def bad_board(self) -> str:
        """The board on which a release that is bad on one board is bad."""
        return Counter(device.board for device in self._trace.devices).most_common(1)[0][0]

    @cached_property
    def drifting_site(self) -> str:
        """The largest site."""
        named = Counter(device.site for device in self._trace.devices if device.site)
        return named.most_common(1)[0][0] if named else ""

    def of(self, device: str, attempt: int = 1) -> Fate:
        """Return what comes of an order to this device."""
        one, chance = self._devices[device], self._chance(device, f"order {attempt}")
        board = self._boards[one.board]
        fails = chance.random() < self._rate(one)
        after_s = _quantile(board.seconds_to_failure if fails else board.seconds_to_success, chance.random())
        if not fails:
            after_s *= self._scenario.slow_success_factor
        return Fate(
            fails=fails,
            silent=self.is_silent(device),
            hears_after_s=min(after_s, chance.uniform(0.0, 20.0)),
            ends_after_s=after_s,
        )

    def is_silent(self, device: str) -> bool:
        """Tell whether a device is never heard again, whatever it runs."""
        share = self._scenario.silent_percentage / 100
        return share > 0 and self._chance(device, "silent").random() < share

    def is_in_herd(self, device: str) -> bool:
        """Tell whether a device is away for weeks and comes back with the others."""
        share = self._scenario.away_percentage / 100
        return share > 0 and self._chance(device, "herd").random() < share

    def online(self, device: str, at_s: float) -> tuple[bool, float]:
        """Tell whether a device can be reached, and for how many seconds that stays so."""
        share = self._devices[device].online_percentage / 100
        if self.is_in_herd(device):
            return at_s >= STARTED_S + HERD_AFTER_S, max(0.0, STARTED_S + HERD_AFTER_S - at_s)
        if share in {0, 1}:
            return share == 1, FOREVER_S
        in_cycle_s = (at_s + self._chance(device, "phase").random() * CYCLE_S) % CYCLE_S
        return (True, share * CYCLE_S - in_cycle_s) if in_cycle_s < share * CYCLE_S else (False, CYCLE_S - in_cycle_s)

    def is_heard(self, device: str, since_s: float, until_s: float) -> bool:
        """Tell whether a device shows a sign of life in a stretch of time."""
        is_on, left_s = self.online(device, since_s)
        return not self.is_silent(device) and (is_on or since_s + left_s <= until_s)

    def is_harmful_on(self, board: str) -> bool:
        """Tell whether what is wrong in this scenario is wrong on this board."""
        return self._scenario.where == "everywhere" or board == self.bad_board

    def observation(self, device: str, *, is_treated: bool, heard: bool, span_s: float, fails: bool) -> Observation:
        """Return what a device did in its observation time."""
        one, chance, scenario = self._devices[device], self._chance(device, "observed"), self._scenario
        board = self._boards[one.board]
        hurt = is_treated and not fails and self.is_harmful_on(one.board)
        nature = self._chance(device, "nature")
        speed, skill = max(0.2, 1 + _spread(board, nature)), _spread(board, nature)
        rows = round(board.requests_per_hour * span_s / 3600 * chance.uniform(0.8, 1.2)) if heard else 0
        errors = board.error_percentage + (scenario.error_loss if hurt else 0.0)
        latency_us = board.latency_us * speed * chance.uniform(0.97, 1.03) * (scenario.latency_factor if hurt else 1)
        energy_uj = board.energy_uj * speed * chance.uniform(0.97, 1.03) * (scenario.energy_factor if hurt else 1)
        accuracy = board.accuracy_percentage / 100 + skill - (scenario.accuracy_loss / 100 if hurt else 0.0)
        drifts = scenario.drifting_site and one.site == self.drifting_site != ""
        moved = scenario.changed_outputs if hurt else 0.0
        seen = min(rows, MOST_ROWS)
        return Observation(
            device=device,
            is_treated=is_treated,
            heard=heard,
            crashes=int(heard and hurt and chance.random() < scenario.crash_percentage / 100),
            requests=rows,
            failures=min(rows, _about(rows * errors / 100, chance)),
            rows=rows,
            latency_us_sum=round(latency_us * rows),
            energy_uj_sum=round(energy_uj * rows),
            energy_requests=rows if board.energy_uj else 0,
            accuracy=min(1.0, max(0.0, accuracy + chance.gauss(0, 0.01))) if rows else None,
            inputs=(_counts(_drifted(drifts), seen, chance),),
            outputs=(_counts((*OUTPUTS[:-1], OUTPUTS[-1] + moved), seen, chance),),
        )

    def _rate(self, device: TracedDevice) -> float:
        share = self._share if self.is_harmful_on(device.board) else GOOD_FAILURES / 100
        rho = self._scenario.site_correlation
        if not rho or not device.site:
            return share
        whole = (1 - rho) / rho  # beta-binomial: the rate of a site has mean `share` and correlation rho
        return self._chance(device.site, "site").betavariate(max(share * whole, 1e-9), max((1 - share) * whole, 1e-9))

    def _chance(self, name: str, what: str) -> random.Random:
        return random.Random(f"{self._seed}/{what}/{name}")  # noqa: S311  (a simulation is to be repeatable)


def _spread(board: TracedBoard, chance: random.Random) -> float:
    return chance.gauss(0, board.spread_percentage / 100)


def _quantile(quantiles: Sequence[float], share: float) -> float:
    place = share * (len(quantiles) - 1)
    low = min(int(place), len(quantiles) - 2)
    return quantiles[low] + (place - low) * (quantiles[low + 1] - quantiles[low])


def _about(expected: float, chance: random.Random) -> int:
    return max(0, round(chance.gauss(expected, expected**0.5)))


def _drifted(drifts: bool) -> tuple[float, ...]:
    return tuple(1.0 + (place if drifts else 0.0) for place in range(BINS))


def _counts(weights: Sequence[float], rows: int, chance: random.Random) -> tuple[int, ...]:
    whole = sum(weights)
    return tuple(_about(rows * weight / whole, chance) for weight in weights)
