"""A virtual fleet of five boards on 25 sites that drives the real core through one rollout, for part 3.

Devices differ in accuracy, speed and traffic; sites differ too; 3 % are switched off; 1 % of the installs fail anyway.
A *bad build* harms the devices of one board that run the new release. A *drift* changes what the devices of one site
see, and with it their answers, whatever they run. All is drawn from the seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from edgewright.bundle.reference import Histogram, Reference, Source
from edgewright.fleet.core.drift.report import estimate_accuracy
from edgewright.fleet.core.gates.control import due_blocks
from edgewright.fleet.core.gates.evidence import KnownBundle, TargetEvidence, gather
from edgewright.fleet.core.ledger import Ledger
from edgewright.fleet.core.observations import Block, Observation
from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rollout import fire, tick
from edgewright.fleet.core.rows import (
    ENDED,
    GATE_DESIGN,
    Assign,
    Assignment,
    Command,
    Device,
    Graduate,
    ReleaseBundle,
    RollBack,
    Rollout,
)
from edgewright.fleet.core.situation import Situation
from edgewright.fleet.core.sums.slots import Slot, SlotKey, cohort_of_arm, cohort_of_site, shape_of
from edgewright.fleet.core.sums.windows import Totals, sum_of

BOARDS = ("a", "b", "c", "d", "e")
SITES = tuple(f"site-{number:02d}" for number in range(25))
DEVICES = 2000
STEP_S, END_S = 300.0, 14 * 86400.0
POLICY: dict[str, Any] = {
    "waves": [25, "10%", "30%", "rest"],
    "horizonSeconds": 3600,
    "failureGate": {"onInconclusive": "CONTINUE"},
    "driftGate": {"onInconclusive": "CONTINUE"},
}
"""The defaults, except that nobody is there to be asked when a gate can tell nothing."""

Kind = Literal["installs", "errors", "accuracy", "latency", "crashes", "bricks"]
KINDS: tuple[Kind, ...] = ("installs", "errors", "accuracy", "latency", "crashes", "bricks")

ROWS = 200
"""A request every 18 seconds."""
INPUTS = (0.1,) * 10
DRIFTED_INPUTS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.21)
CONFIDENCE = (0.02, 0.03, 0.05, 0.1, 0.2, 0.6)
UNSURE = (0.12, 0.14, 0.16, 0.18, 0.2, 0.2)
CONFIDENCE_TABLE = (0.3, 0.45, 0.6, 0.75, 0.88, 0.98)


class Troubles(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong in one run."""

    bad_board: str | None = None
    kind: Kind = "installs"
    drifted_site: str | None = None


class _Traits(msgspec.Struct, frozen=True):
    """What a device is like, whatever it runs."""

    is_off: bool
    speed: float
    unsure: float
    errors: float


class FiveBoards:
    """One rollout over one fleet."""

    def __init__(self, seed: int, troubles: Troubles) -> None:
        self._draw = random.Random(f"five boards {seed}")  # noqa: S311  # a simulation
        self._troubles = troubles
        names = [f"dev-{number:04d}" for number in range(DEVICES)]
        self._devices = {name: self._device(number, name) for number, name in enumerate(names)}
        level = {site: self._draw.gauss(0, 0.03) for site in SITES}
        self._tilt = {site: [self._draw.lognormvariate(0, 0.15) for _ in INPUTS] for site in SITES}
        self._traits = {one.id: self._traits_of(level[one.site]) for one in self._devices.values()}
        self._due: list[tuple[float, str, str]] = []
        self._seen: dict[tuple[str, int], Observation] = {}
        self._evidence: tuple[tuple[int, int], tuple[TargetEvidence, ...]] = ((-1, -1), ())
        self.now_s = 0.0
        self.ledger = Ledger(
            rollout=Rollout(
                id="r1",
                model="m",
                version="2",
                bundles=tuple(ReleaseBundle(target=board, digest=_new(board)) for board in BOARDS),
                policy=policy_from(POLICY, where="bench"),
                seed=seed,
                created_s=0.0,
                gate_design=GATE_DESIGN,
            )
        )

    def run(self) -> Ledger:
        """Return all that happened until the rollout ended."""
        while self.ledger.rollout.state not in ENDED and self.now_s < END_S:
            self._report()
            while commands := tick(self._situation()):
                self._carry_out(commands)
            if self.ledger.rollout.state == "paused":
                self._carry_out(fire(self.ledger.rollout, "resume", self.now_s, (), actor="bench", reason="go on"))
            self.now_s += STEP_S
        return self.ledger

    def on_release(self, board: str) -> tuple[int, int]:
        """Return how many devices of a board run the release, and how many of it could."""
        mine = [one for one in self._devices.values() if one.target == board and not self._traits[one.id].is_off]
        return sum(one.bundle == _new(board) for one in mine), len(mine)

    def _device(self, number: int, name: str) -> Device:
        board = BOARDS[number % len(BOARDS)]
        return Device(
            id=name,
            target=board,
            last_seen_s=0.0,
            version="1",
            bundle=_old(board),
            idle=True,
            reported_s=0.0,
            site=self._draw.choice(SITES),
        )

    def _traits_of(self, level: float) -> _Traits:
        return _Traits(
            self._draw.random() < 0.03,
            self._draw.lognormvariate(8 + 5 * level, 0.5),
            min(0.6, max(0.0, self._draw.gauss(0.1 + level, 0.05))),
            max(0.0, self._draw.gauss(0.01 + level / 10, 0.005)),
        )

    def _report(self) -> None:
        """Let the devices whose time has come say how their order ended; all that are on were heard of just now."""
        due = [one for one in self._due if one[0] <= self.now_s]
        self._due = [one for one in self._due if one[0] > self.now_s]
        fields: dict[str, dict[str, Any]] = {}
        for at_s, name, phase in due:
            if phase == "returned":
                fields[name] = {"rollback_phase": "confirmed"}
                self._runs(name, "1", _old(self._devices[name].target), at_s)
                continue
            fields[name] = {"phase": phase, "started_s": at_s, "ended_s": at_s}
            if phase == "confirmed":
                self._runs(name, "2", _new(self._devices[name].target), at_s)
        rows = tuple(
            msgspec.structs.replace(one, **fields[one.device]) if one.device in fields else one
            for one in self.ledger.assignments
        )
        self.ledger = msgspec.structs.replace(self.ledger, assignments=rows)
        for name, device in self._devices.items():
            if not self._traits[name].is_off or self.now_s == 0:
                self._devices[name] = msgspec.structs.replace(device, last_seen_s=self.now_s)

    def _runs(self, name: str, version: str, bundle: str, at_s: float) -> None:
        device = self._devices[name]
        self._devices[name] = msgspec.structs.replace(device, version=version, bundle=bundle, reported_s=at_s)

    def _carry_out(self, commands: Sequence[Command]) -> None:
        self.ledger = self.ledger.apply(commands)
        for command in commands:
            if isinstance(command, Assign | Graduate) and command.assignment.arm != "control":
                self._order(command.assignment)
            elif isinstance(command, RollBack):
                self._due.append((self.now_s + 120, command.device, "returned"))

    def _order(self, given: Assignment) -> None:
        """Draw what becomes of an order: most succeed after minutes, some fail anyway, and who is off says nothing."""
        if self._traits[given.device].is_off or (self._is_harmed(given, "bricks") and self._draw.random() < 0.4):
            return
        chance = 0.3 if self._is_harmed(given, "installs") else 0.01
        phase = "failed" if self._draw.random() < chance else "confirmed"
        self._due.append((self.now_s + self._draw.uniform(60, 1500), given.device, phase))

    def _is_harmed(self, given: Assignment, kind: Kind) -> bool:
        return given.arm != "control" and given.target == self._troubles.bad_board and self._troubles.kind == kind

    def _situation(self) -> Situation:
        ledger = self.ledger
        due = due_blocks(ledger.rollout, ledger.assignments, ledger.memory, self.now_s)
        return Situation(
            rollout=ledger.rollout,
            now_s=self.now_s,
            devices=list(self._devices.values()),
            assignments=ledger.assignments,
            evidence=self._gathered(),
            memory=ledger.memory,
            blocks=[
                Block(number=number, target=rows[0].target, observations=tuple(map(self._observed, rows)))
                for number, rows in due
            ],
        )

    def _observed(self, given: Assignment) -> Observation:
        """Return what a device did in the hour after its draw; drawn once."""
        key = (given.device, max(0, given.block))
        if key not in self._seen:
            self._seen[key] = self._observe(given)
        return self._seen[key]

    def _observe(self, given: Assignment) -> Observation:
        traits, draw = self._traits[given.device], self._draw
        is_treated = given.arm == "treated"
        ran_release = is_treated and given.phase == "confirmed"
        heard = not traits.is_off and not (is_treated and given.phase is None)
        if not heard:
            return Observation(device=given.device, is_treated=is_treated, heard=False)
        drifts = self._devices[given.device].site == self._troubles.drifted_site
        harmed = {kind for kind in KINDS if ran_release and self._is_harmed(given, kind)}
        unsure = min(1.0, traits.unsure + (0.3 if drifts else 0) + (0.3 if "accuracy" in harmed else 0))
        confidence = [
            (1 - unsure) * sure + unsure * not_sure for sure, not_sure in zip(CONFIDENCE, UNSURE, strict=True)
        ]
        tilt = self._tilt[self._devices[given.device].site]
        usual = DRIFTED_INPUTS if drifts else INPUTS
        inputs = _counts(draw, [share * local for share, local in zip(usual, tilt, strict=True)])
        answers = _counts(draw, confidence)
        accuracy = estimate_accuracy(REFERENCE, (inputs, answers))
        errors = traits.errors + (0.15 if "errors" in harmed else 0) + (0.03 if drifts else 0)
        return Observation(
            device=given.device,
            is_treated=is_treated,
            heard=True,
            crashes=int(draw.random() < (0.3 if "crashes" in harmed else 0.02)),
            requests=ROWS,
            failures=sum(draw.random() < errors for _ in range(ROWS)),
            rows=ROWS,
            latency_us_sum=int(ROWS * traits.speed * draw.uniform(0.95, 1.05) * (2.5 if "latency" in harmed else 1)),
            accuracy=None if accuracy is None else accuracy.value,
            inputs=(inputs,),
            outputs=(answers,),
        )

    def _gathered(self) -> tuple[TargetEvidence, ...]:
        """Return the pooled traffic of the present wave, as the store's slots would have it: one window for all."""
        rollout = self.ledger.rollout
        inside = [one for one in self.ledger.assignments if one.wave == rollout.wave and one.arm != "graduated"]
        running = [one for one in inside if one.arm == "control" or one.phase == "confirmed"]
        if not running:
            return ()
        if self._evidence[0] != (rollout.wave, len(running)):
            parts: dict[tuple[str, str], list[Totals]] = {}
            for one in running:
                totals, bundle = (
                    _totals(self._observed(one)),
                    _new(one.target) if one.arm == "treated" else _old(one.target),
                )
                if totals is not None:
                    arm = cohort_of_arm(rollout.id, rollout.wave, is_control=one.arm == "control")
                    for cohort in (arm, cohort_of_site(self._devices[one.device].site)):
                        parts.setdefault((cohort, bundle), []).append(totals)
            slots = [
                Slot(key=SlotKey(cohort, bundle, int(rollout.wave_started_s or 0), 3600, SHAPE), totals=sum_of(totals))
                for (cohort, bundle), totals in parts.items()
            ]
            self._evidence = ((rollout.wave, len(running)), gather(rollout, inside, slots, (), KNOWN))
        return self._evidence[1]


def _old(board: str) -> str:
    return f"old {board}"


def _new(board: str) -> str:
    return f"new {board}"


def _counts(draw: random.Random, shares: Sequence[float]) -> tuple[int, ...]:
    counts = [0] * len(shares)
    for place in draw.choices(range(len(shares)), weights=shares, k=ROWS):
        counts[place] += 1
    return tuple(counts)


def _totals(seen: Observation) -> Totals | None:
    if not seen.rows:
        return None
    return Totals(
        windows=1,
        requests=seen.requests,
        failures=seen.failures,
        rows=seen.rows,
        latency_us_sum=seen.latency_us_sum,
        histograms=(*seen.inputs, *seen.outputs),
    )


def _reference() -> Reference:
    """Return what the calibration data gave: devices of average sites, without drift."""
    confidence = [0.9 * sure + 0.1 * unsure for sure, unsure in zip(CONFIDENCE, UNSURE, strict=True)]
    return Reference(
        histograms=(
            Histogram(
                name="x mean",
                role="input",
                kind="numeric",
                edges=tuple(map(float, range(1, len(INPUTS)))),
                counts=tuple(round(10_000 * share) for share in INPUTS),
                source=Source(tensor="x", statistic="mean"),
            ),
            Histogram(
                name="y confidence",
                role="output",
                kind="numeric",
                edges=tuple(map(float, range(1, len(confidence)))),
                counts=tuple(round(10_000 * share) for share in confidence),
                source=Source(tensor="y", statistic="confidence"),
            ),
        ),
        confidence_table=CONFIDENCE_TABLE,
    )


REFERENCE = _reference()
SHAPE = shape_of([one.counts for one in REFERENCE.histograms])
KNOWN = [
    KnownBundle(digest=digest(board), target=board, reference=REFERENCE) for board in BOARDS for digest in (_old, _new)
]
