"""Fixtures of the fleet tests; what they make is in house.py."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewright.fleet.sim.network import MemoryNetwork
from tests.fleet.house import Broker, House, ServerProcess


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with contextlib.closing(House(tmp_path / "data")) as made:
        yield made


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[[MemoryNetwork], House]]:
    made: list[House] = []

    def make(network: MemoryNetwork) -> House:
        made.append(House(tmp_path / f"data-{len(made)}", network))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    made = Broker(binary, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def server(tmp_path: Path, broker: Broker) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path / "fleet-data", broker.port)
    yield made
    made.stop()
