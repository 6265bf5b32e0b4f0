"""Saves power and heat: reads the board about once a second, and has the plan carried out when it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ..power.board import Board
from ..power.cpus import CpuCap
from ..power.per_row import JoulesPerRow
from ..power.policy import AT_EASE, Plan, PowerPolicy, Readings
from ..serving import PowerSettings
from .metrics.exposition import Family, counter, gauge

_log = logging.getLogger(__name__)


class _Counts(Protocol):
    rows: int


class _Model(Protocol):
    @property
    def statistics(self) -> _Counts: ...

    def cap_batch_rows(self, rows: int | None) -> None: ...

    def add_energy(self, energy_uj: int) -> None: ...


class _Routes(Protocol):
    hot: bool


class Saving:
    """The server's part of `[power]`. All methods are called on the event loop."""

    def __init__(self, settings: PowerSettings, board: Board, routes: _Routes, cpus: CpuCap, now_s: float) -> None:
        self._watches = settings.watches
        self._policy = PowerPolicy(settings)
        self._board = board
        self._routes = routes
        self._cpus = cpus
        self._per_row = JoulesPerRow()
        self._readings = Readings()
        self._joules = board.meter.joules if board.meter is not None else 0.0
        self._rows: dict[int, int] = {}
        """Samples that each model had executed at the last look."""
        self.plan: Plan = AT_EASE
        if board.meter is not None:
            board.meter.update(now_s)
            self._per_row.add(now_s, board.meter.joules, 0)

    async def run(self, models: Iterable[_Model], pause_s: float = 1.0) -> None:
        """Look and act for ever, where anybody asked for it or energy is measured. `models`: those in service."""
        while self._watches or self._board.meter is not None:
            await asyncio.sleep(pause_s)
            now_s = time.monotonic()
            # A sensor behind a slow bus may take milliseconds, which no request should wait for.
            readings = await asyncio.to_thread(self._look, now_s)
            self._act(readings, tuple(models), now_s)

    def _look(self, now_s: float) -> Readings:
        if self._board.meter is not None:
            self._board.meter.update(now_s)
        return self._board.read() if self._watches else Readings()

    def _act(self, readings: Readings, models: Sequence[_Model], now_s: float) -> None:
        self._readings = readings
        if self._board.meter is not None:
            self._per_row.add(now_s, self._board.meter.joules, sum(model.statistics.rows for model in models))
            self._share_out(self._board.meter.joules, models)
        before, self.plan = self.plan, self._policy.decide(readings, now_s)
        self._routes.hot = self.plan.saving
        if self.plan.max_cpus != before.max_cpus:
            self._cpus.apply(self.plan.max_cpus)
        if self.plan.max_batch_rows is not None or before.max_batch_rows is not None:
            for model in models:  # at each look, since models come and go
                model.cap_batch_rows(self.plan.max_batch_rows)
        if self.plan.saving != before.saving:
            _log.warning("power is saved: %s", self.plan.reason or "no longer")

    def _share_out(self, joules: float, models: Sequence[_Model]) -> None:
        """Count the board's energy since the last look at the models, by the samples that each executed in it."""
        rows = {id(model): model.statistics.rows for model in models}
        executed = {key: max(0, count - self._rows.get(key, 0)) for key, count in rows.items()}
        used_uj, self._joules, self._rows = (joules - self._joules) * 1e6, joules, rows
        total = sum(executed.values())
        for model in models:
            model.add_energy(int(used_uj * executed[id(model)] / total) if total else 0)

    def families(self) -> Iterator[Family]:
        """Metrics: only what this board can tell."""
        readings, meter = self._readings, self._board.meter
        if self._watches:
            yield gauge("edgewright_power_saving", "1 while power or heat is saved.", [({}, int(self.plan.saving))])
        if readings.hottest_c is not None:
            yield gauge("edgewright_hottest_celsius", "Hottest thermal zone of the board.", [({}, readings.hottest_c)])
        if readings.charge is not None:
            yield gauge("edgewright_battery_charge_ratio", "Charge of the battery, 0 to 1.", [({}, readings.charge)])
        if meter is None:
            return
        source = {"source": "+".join(meter.sources)}
        yield counter("edgewright_energy_joules_total", "Energy that the board measured.", [(source, meter.joules)])
        per_row = self._per_row.value
        if per_row is not None:
            told = "Energy of the board in the last minute over the samples executed in it, idle power included."
            yield gauge("edgewright_energy_joules_per_inference", told, [(source, per_row)])
