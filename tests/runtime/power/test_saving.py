"""The board's energy is shared out among the models by what each executed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from edgewright.runtime.power.board import Board
from edgewright.runtime.power.cpus import CpuCap
from edgewright.runtime.server.saving import Saving
from edgewright.runtime.serving import PowerSettings


@dataclass
class Counts:
    rows: int = 0


@dataclass
class Model:
    """Counts what it is given."""

    statistics: Counts = field(default_factory=Counts)
    energy_uj: list[int] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def cap_batch_rows(self, rows: int | None) -> None:
        del rows

    def add_energy(self, energy_uj: int) -> None:
        self.energy_uj.append(energy_uj)
        self.told.set()


@dataclass
class Routes:
    hot: bool = False


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_energy_goes_to_the_models_that_worked(tmp_path: Path) -> None:
    zone = tmp_path / "class/powercap/intel-rapl:0"
    write(zone / "name", "package-0\n")
    write(zone / "max_energy_range_uj", "1000000000\n")
    write(zone / "energy_uj", "1000000\n")
    busy, idle = Model(), Model()

    async def look() -> None:
        saving = Saving(PowerSettings(), Board(tmp_path), Routes(), CpuCap(), 0.0)
        task = asyncio.create_task(saving.run([busy, idle], pause_s=0.01))
        await busy.told.wait()
        busy.told.clear()
        busy.statistics.rows, idle.statistics.rows = 30, 10
        write(zone / "energy_uj", "5000000\n")
        while not sum(busy.energy_uj):
            busy.told.clear()
            await busy.told.wait()
        task.cancel()

    asyncio.run(asyncio.wait_for(look(), 60))
    assert (sum(busy.energy_uj), sum(idle.energy_uj)) == (3_000_000, 1_000_000)
