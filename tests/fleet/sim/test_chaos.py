"""Lives of small fleets in which everything goes wrong, and devices that are broken on purpose: those must be found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgewright.fleet.sim.chaos import FailedLife, live
from edgewright.fleet.sim.device import VirtualDevice

PINNED = (74, 217, 232, 460, 906)
"""Of lives that once broke a promise: what an emergency stop took back was given again (74), a replaced release was
taken back under controls of the one that ran (217, 232), calls of a rule that was replaced (460) or removed (906)
ended without a word in the log."""
SEEDS = (*range(20), *PINNED)
"""`bench.gates` lives 1,000."""


@pytest.mark.parametrize("seed", SEEDS)
def test_what_must_hold_holds_in_every_life(seed: int) -> None:
    told = live(seed)
    assert told.requests > 0
    assert told.transactions > 50


def test_a_life_can_be_lived_again_in_another_process() -> None:
    command = [sys.executable, "-m", "edgewright.fleet.sim.chaos", "7"]
    again = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "42"}, capture_output=True, text=True, check=True
    )
    assert again.stdout.splitlines()[-1] == str(live(7))


class TakesOldOrders(VirtualDevice):
    """Applies whatever comes last."""

    def _is_stale(self, epoch: int) -> bool:
        del epoch
        return False


class ForgetsWhatItDid(VirtualDevice):
    """Keeps no list of commands through a power cut."""

    def restart(self) -> None:
        super().restart()
        self._done.clear()


class LosesItsSpool(VirtualDevice):
    """Has no disk."""

    def restart(self) -> None:
        super().restart()
        self._spool.clear()


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        (TakesOldOrders, r"applied .* of epoch \d+ after|knows epoch \d+, the fleet is at"),
        (ForgetsWhatItDid, "ended .* 2 times"),
        (LosesItsSpool, "the fleet counts|reported .* steps"),
    ],
)
def test_a_device_that_breaks_a_promise_is_found(kind: type[VirtualDevice], finding: str) -> None:
    def find() -> None:
        for seed in range(40):
            live(seed, device_kind=kind)

    with pytest.raises(FailedLife, match=f"(?s)({finding}).*again: python -m edgewright.fleet.sim.chaos \\d+"):
        find()
