"""Must be true 2: the control gate with half of the devices as controls, on 2,000 devices, all metrics on.

The real fold: blocks of one treated device and one control go through `control_gates.learn`, and `control_gates` says
what it makes of them. Each device has an accuracy of its own (mean 90 %, standard deviation 5 points between devices)
and 50 rows, of which 10 come back with a label; every other metric is the same in both arms, with devices that crash
(1 %), are silent (5 %), fail requests (1 %), and differ in latency (log standard deviation 0.3).

The same with the devices spread over five boards that all lose alike: there no board has enough of them, and the test
over all boards has to find it, with its own share of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from rich.progress import track

from edgewright.fleet.core.gates.control import control_gates, learn
from edgewright.fleet.core.observations import Block, GateMemory, Observation
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import GATE_DESIGN, ReleaseBundle, Rollout

DEVICES = 2000
ROWS, LABELS = 50, 10
RUNS, QUICK_RUNS = 500, 16
LOSSES = (0.0, 0.01, 0.03)
"""Points of accuracy that the new release loses; one point is allowed."""
CHUNK = 25
"""Blocks between two looks at the gates. A board's evidence keeps its peak, so no block of it is missed; that over all
boards counts as it stands."""
FIVE = ("a", "b", "c", "d", "e")
PROCESSES = 2
LIMITS = {"false_halts": 0.05, "found_3_points": 0.90, "found_3_points_on_five_boards": 0.85}
"""The last is no promise of the gates but what they do: half of the share of alpha is left for all boards together."""


def release(boards: Sequence[str] = ("board",)) -> Rollout:
    """Return a rollout with all gates as they are by default, half of the devices as controls."""
    return Rollout(
        id="bench",
        model="m",
        version="2",
        bundles=tuple(ReleaseBundle(target=board, digest="sha256:2") for board in boards),
        policy=policy_from({"waves": ["rest"], "control": {"fractions": [0.5]}}, where="bench"),
        seed=1,
        created_s=0.0,
        gate_design=GATE_DESIGN,
        wave=0,
    )


def blocks(rng: np.random.Generator, loss: float, boards: Sequence[str] = ("board",)) -> list[Block]:
    """Draw what all devices did; the boards of the blocks come as chance has it."""
    size = (DEVICES // 2, 2)
    accuracy = np.clip(rng.normal(0.9, 0.05, size) - loss * np.array([1, 0]), 0, 1)
    right = rng.binomial(ROWS, accuracy) / ROWS
    labelled = rng.binomial(LABELS, accuracy) / LABELS
    crashes = rng.random(size) < 0.01
    heard = rng.random(size) >= 0.05
    failures = rng.binomial(ROWS, 0.01, size)
    latency_us = rng.lognormal(math.log(5000), 0.3, size)
    energy_uj = rng.lognormal(math.log(9000), 0.3, size)
    disagreements = rng.binomial(ROWS, 0.02, size)
    inputs = rng.multinomial(ROWS, [0.1] * 10, (*size, 2))
    outputs = rng.multinomial(ROWS, [0.4, 0.3, 0.2, 0.1], size)
    board_of = rng.integers(0, len(boards), DEVICES // 2)

    def observation(block: int, arm: int) -> Observation:
        at = block, arm
        if not heard[at]:
            return Observation(device=f"{block}-{arm}", is_treated=arm == 0, heard=False)
        return Observation(
            device=f"{block}-{arm}",
            is_treated=arm == 0,
            heard=True,
            crashes=int(crashes[at]),
            requests=ROWS,
            failures=int(failures[at]),
            rows=ROWS,
            latency_us_sum=int(ROWS * latency_us[at]),
            energy_uj_sum=int(ROWS * energy_uj[at]),
            energy_requests=ROWS,
            accuracy=float(right[at]),
            labelled_accuracy=float(labelled[at]),
            shadow_rows=ROWS,
            shadow_disagreements=int(disagreements[at]),
            inputs=tuple(tuple(map(int, one)) for one in inputs[at]),
            outputs=(tuple(map(int, outputs[at])),),
        )

    return [
        Block(number=number, target=boards[board], observations=(observation(number, 0), observation(number, 1)))
        for number, board in enumerate(board_of)
    ]


def devices_at_stop(rollout: Rollout, found: list[Block]) -> tuple[int | None, str]:
    """Return how many devices had been drawn when a gate stopped anything, and which gate did."""
    memory = GateMemory()
    for first in range(0, len(found), CHUNK):
        memory, _ = learn(rollout, memory, found[first : first + CHUNK])
        for gate in control_gates(rollout, memory, wave_over=False):
            if gate.outcome == "fail":
                is_pooled = gate.target is None
                return 2 * memory.next_block, f"{gate.gate}, all boards" if is_pooled else gate.gate
    return None, ""


def measure(quick: bool) -> dict[str, Any]:
    """Return for each loss how often the release is stopped, by which gates, and after how many devices."""
    runs = QUICK_RUNS if quick else RUNS
    figures: dict[str, Any] = {"devices": DEVICES, "rows_per_device": ROWS, "labels_per_device": LABELS, "runs": runs}
    figures |= {f"{100 * loss:g}": _measured(loss, ("board",), runs) for loss in LOSSES}
    figures["five_boards"] = {f"{100 * loss:g}": _measured(loss, FIVE, runs) for loss in LOSSES}
    return figures


def _measured(loss: float, boards: Sequence[str], runs: int) -> dict[str, Any]:
    stopped: list[int] = []
    by: dict[str, int] = {}
    with ProcessPoolExecutor(PROCESSES) as pool:
        lives = pool.map(_live, range(runs), [loss] * runs, [boards] * runs, chunksize=4)
        for devices, gate in track(lives, description=f"{100 * loss:g} points", total=runs, transient=True):
            if devices is not None:
                stopped.append(devices)
                by[gate] = by.get(gate, 0) + 1
    median = float(np.median(stopped)) if stopped else None
    return {"halted": len(stopped) / runs, "devices_median": median, "by": by}


def _live(run: int, loss: float, boards: Sequence[str]) -> tuple[int | None, str]:
    rng = np.random.default_rng([run, round(1000 * loss)])
    return devices_at_stop(release(boards), blocks(rng, loss, boards))


def broken(figures: dict[str, Any]) -> list[str]:
    """Return what the figures break of LIMITS, in words."""
    slack = 3 * math.sqrt(0.05 * 0.95 / figures["runs"]) if figures["runs"] < RUNS else 0.0
    cases = {
        "": (figures, "found_3_points"),
        " on five boards": (figures["five_boards"], "found_3_points_on_five_boards"),
    }
    found = []
    for where, (case, limit) in cases.items():
        found += [
            f"{loss} points lost{where}: {case[loss]['halted']:.1%} false halts"
            for loss in ("0", "1")
            if case[loss]["halted"] > LIMITS["false_halts"] + slack
        ]
        if case["3"]["halted"] < LIMITS[limit]:
            found.append(f"a loss of 3 points{where} is found in {case['3']['halted']:.1%} of the runs only")
    return found


def rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return lines for people: what, by whom, figure."""
    found = []
    for where, case in (("", figures), (" on five boards", figures["five_boards"])):
        for loss in ("0", "1", "3"):
            one = case[loss]
            median = f", median {one['devices_median']:.0f} devices" if one["devices_median"] is not None else ""
            found.append((f"2 {loss} points lost{where}", "edgewright", f"{one['halted']:.1%} halted{median}"))
    return found
