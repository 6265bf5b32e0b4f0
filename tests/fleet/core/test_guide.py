"""The worked example of docs/guides/rollouts.md, lived through: its waves, its controls, and its figures."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewright.fleet.core.rollout import fire
from edgewright.fleet.core.statistics import log_e_value

from .conftest import World

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "rollouts.md").read_text(encoding="utf-8")
EXAMPLE = tomllib.loads(GUIDE.split("## A worked example")[1].split("```toml\n")[1].split("```")[0])
BOARDS = ("common", "common", "common", "common", "rare")
HOUR_S = 3600


@pytest.fixture
def example(world: Callable[..., World]) -> World:
    return world(EXAMPLE | {"driftGate": {"enabled": False}}, 200, targets=BOARDS)  # a World has no traffic


def hours(example: World, phases: Iterator[str] | None = None) -> None:
    """An hour and a bit, in which all who have an order report."""
    now_s = max((one.dispatched_s for one in example.ledger.assignments), default=0.0)
    example.step(now_s + 1)
    for device in example.waiting():
        example.report(device, next(phases, "confirmed") if phases else "confirmed", now_s + 60)
    example.step(now_s + 60)
    example.step(now_s + HOUR_S + 120)


def arms(example: World) -> Counter[str]:
    return Counter(one.arm for one in example.ledger.assignments)


def test_the_waves_are_as_large_as_the_guide_says(example: World) -> None:
    example.step(1.0)
    assert arms(example) == {"treated": 5, "control": 5}
    assert Counter(one.target for one in example.ordered()) == {"common": 4, "rare": 1}
    hours(example)
    assert arms(example) == {"treated": 25, "control": 25}
    hours(example)
    assert example.state == "awaiting_approval"
    rows, now_s = example.ledger, 4.0 * HOUR_S
    example.ledger = rows.apply(fire(rows.rollout, "approve", now_s, rows.assignments, actor="admin", reason=""))
    example.step(now_s)
    assert arms(example) == {"treated": 160, "control": 40}
    hours(example)
    assert arms(example) == {"treated": 160, "graduated": 40}
    hours(example)
    assert example.state == "completed"


def test_failures_stop_it_or_pause_it_as_the_guide_says(example: World) -> None:
    example.step(1.0)
    hours(example)
    hours(example, iter(["failed"] * 3))
    assert example.state in {"rolling_back", "rolled_back"}
    assert max(one.position for one in example.ordered()) < 50, "nobody else got it"


def test_three_failures_at_the_end_of_the_wave_pause_it(example: World) -> None:
    example.step(1.0)
    hours(example)
    hours(example, iter(["confirmed"] * 17 + ["failed"] * 3))
    assert example.state == "paused"


@pytest.mark.parametrize(("devices", "says"), [(8, "280"), (12, "53"), (25, "3.3")])
def test_the_e_values_of_the_guide(devices: int, says: str) -> None:
    assert says in GUIDE
    assert math.exp(log_e_value(3, devices, 0.02)) == pytest.approx(float(says), rel=0.02)
