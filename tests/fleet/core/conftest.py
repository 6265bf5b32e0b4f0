"""A small world for the decision core: devices that do as told, references and traffic drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import pytest

from edgewright.bundle.reference import Histogram, Reference, Source
from edgewright.fleet.core.gates.control import due_blocks
from edgewright.fleet.core.gates.evidence import TargetEvidence
from edgewright.fleet.core.ledger import Ledger
from edgewright.fleet.core.observations import Block, Observation
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rollout import tick
from edgewright.fleet.core.rows import GATE_DESIGN, Assignment, Command, Device, ReleaseBundle, Rollout, RolloutState
from edgewright.fleet.core.situation import Situation
from edgewright.fleet.core.sums.windows import Totals

MOST_TICKS = 6
"""Stop, order back, all are back already, and one that finds nothing to do; a limit per site takes a few more."""

OLD, NEW = "sha256:old", "sha256:new"
CLASS_SHARES = (0.4, 0.3, 0.2, 0.1)
CONFIDENCE_SHARES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.6)
CONFIDENCE_TABLE = (0.3, 0.45, 0.6, 0.75, 0.88, 0.98)
INPUT_SHARES = (0.1,) * 10


class World:
    """One rollout, its devices, and what they reported; `step` ticks to a standstill, and sees that there is one.

    Observations of blocks are made up by `observe`: healthy devices, unless a test says otherwise.
    """

    def __init__(
        self,
        policy: dict[str, Any],
        devices: int,
        targets: Sequence[str] = ("board",),
        *,
        first: bool = False,
        sites: Sequence[str] = ("",),
        zones: Sequence[str] = ("UTC",),
        state: RolloutState = "running",
        seed: int = 7,
        gate_design: Literal[1, 2] = GATE_DESIGN,
    ) -> None:
        before = None if first else OLD
        self.devices = [
            Device(
                id=f"dev-{number:03d}",
                target=targets[number % len(targets)],
                last_seen_s=0.0,
                version=None if first else "1",
                bundle=before,
                idle=True,
                reported_s=0.0,
                site=sites[number % len(sites)],
                time_zone=zones[number % len(zones)],
            )
            for number in range(devices)
        ]
        self.ledger = Ledger(
            rollout=Rollout(
                id="r1",
                model="m",
                version="2",
                bundles=tuple(ReleaseBundle(target=target, digest=NEW) for target in targets),
                policy=policy_from(policy, where="test"),
                seed=seed,
                created_s=0.0,
                gate_design=gate_design,
                state=state,
            )
        )
        self.evidence: tuple[TargetEvidence, ...] = ()
        self.is_stopped = False
        self.away: set[str] = set()
        """Devices that are not heard of."""
        self.observe: Callable[[Assignment], Observation] = healthy

    @property
    def state(self) -> str:
        return self.ledger.rollout.state

    def seen(self, now_s: float) -> None:
        self.devices = [
            one if one.id in self.away else msgspec.structs.replace(one, last_seen_s=now_s) for one in self.devices
        ]

    def change(self, device: str, **fields: Any) -> None:
        self.devices = [msgspec.structs.replace(one, **fields) if one.id == device else one for one in self.devices]

    def step(self, now_s: float) -> None:
        self.seen(now_s)
        for _ in range(MOST_TICKS):
            commands = self._tick(now_s)
            assert commands == self._tick(now_s), "the same rows must give the same commands"
            if not commands:
                return
            self.ledger = self.ledger.apply(commands)
        raise AssertionError(f"still acting after {MOST_TICKS} ticks at one moment: {commands}")

    def _tick(self, now_s: float) -> tuple[Command, ...]:
        return tick(self.situation(now_s))

    def situation(self, now_s: float) -> Situation:
        rows = self.ledger
        due = due_blocks(rows.rollout, rows.assignments, rows.memory, now_s)
        return Situation(
            rollout=rows.rollout,
            now_s=now_s,
            devices=self.devices,
            assignments=rows.assignments,
            evidence=self.evidence,
            memory=rows.memory,
            blocks=[
                Block(number=number, target=members[0].target, observations=tuple(map(self.observe, members)))
                for number, members in due
            ],
            is_stopped=self.is_stopped,
        )

    def report(self, device: str, phase: str, now_s: float, reason: str = "") -> None:
        self.ledger = self.ledger.report(device, phase=phase, started_s=now_s, ended_s=now_s, phase_reason=reason)

    def ordered(self) -> list[Assignment]:
        """The orders that were given; controls have none."""
        return [one for one in self.ledger.assignments if one.arm != "control"]

    def controls(self) -> list[str]:
        return [one.device for one in self.ledger.assignments if one.arm == "control"]

    def waiting(self) -> list[str]:
        return [one.device for one in self.ordered() if one.phase is None]

    def actions(self) -> list[str]:
        return [decision.action for decision in self.ledger.decisions]


def healthy(one: Assignment) -> Observation:
    """A device that did what it should; a graduated one counts as the control that it was."""
    return Observation(
        device=one.device, is_treated=one.arm == "treated", heard=True, requests=100, rows=100, latency_us_sum=100_000
    )


@pytest.fixture
def world() -> Callable[..., World]:
    return World


class Traffic:
    """Draws histograms from shares; `calibrated` gives a reference with the same laws."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self, shares: Sequence[float], samples: int) -> tuple[int, ...]:
        counts = [0] * len(shares)
        for place in self._random.choices(range(len(shares)), weights=shares, k=samples):
            counts[place] += 1
        return tuple(counts)

    def calibrated(
        self, samples: int = 2000, *, table: bool = True, classes: Sequence[float] = CLASS_SHARES
    ) -> Reference:
        def column(name: str, statistic: Any, counts: tuple[int, ...], role: Any, kind: Any) -> Histogram:
            edges = tuple(float(edge) for edge in range(1, len(counts))) if kind == "numeric" else ()
            source = Source(tensor="x" if role == "input" else "y", statistic=statistic)
            return Histogram(name=name, role=role, kind=kind, edges=edges, counts=counts, source=source)

        return Reference(
            histograms=(
                column("x mean", "mean", self.draw(INPUT_SHARES, samples), "input", "numeric"),
                column("y class", "class", self.draw(classes, samples), "output", "categorical"),
                column("y confidence", "confidence", self.draw(CONFIDENCE_SHARES, samples), "output", "numeric"),
            ),
            confidence_table=CONFIDENCE_TABLE if table else None,
        )

    def totals(
        self,
        samples: int,
        *,
        inputs: Sequence[float] = INPUT_SHARES,
        classes: Sequence[float] = CLASS_SHARES,
        confidence: Sequence[float] = CONFIDENCE_SHARES,
        failures: int = 0,
    ) -> Totals:
        return Totals(
            devices=1,
            windows=1,
            requests=samples,
            failures=failures,
            rows=samples,
            histograms=(
                self.draw(inputs, samples),
                self.draw(classes, samples),
                self.draw(confidence, samples),
            ),
        )


@pytest.fixture
def traffic() -> Callable[[int], Traffic]:
    return Traffic
