"""A rollout over up to 100,000 devices in seconds: the real tick and ledger, virtual time, devices that are numbers.

What is left out against a real server, and which way it errs: ticks come every `tick_s` and not every second, so a
stop comes a little later here; the gate over pooled rows (`driftGate`) is off, the tests against controls stand for it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from edgewright.runtime.telemetry.records import UpdatePhase

from ..core.gates.control import drawn_s, due_blocks, observation_s
from ..core.ledger import Ledger
from ..core.observations import Block
from ..core.policy.policy import Policy
from ..core.rollout import fire, tick
from ..core.rows import (
    ENDED,
    GATE_DESIGN,
    Assign,
    Assignment,
    Command,
    Graduate,
    ReleaseBundle,
    Retry,
    RollBack,
    Rollout,
)
from ..core.situation import Situation
from .detectable import Stage
from .events import Events
from .fast_rows import LISTENING_S, device_row, reported
from .fates import HERD_AFTER_S, Fates
from .run import Point, Run, thinned
from .scenario import Scenario
from .starting import STARTED_S
from .trace import Trace

TICKS_IN_A_HORIZON = 40
LONGEST_RUN_S = 90 * 86_400.0
NEW_VERSION = "rehearsed"
_STOPS = frozenset({"paused", "aborted", "rolling_back", "board_halted"})
WAYS_OUT = frozenset({"following", *ENDED})


def rehearse_once(trace: Trace, policy: Policy, scenario: Scenario, *, seed: int) -> Run:
    """Run one rollout to its end. Approvals are given and pauses stay: a pause ends the run, as somebody has to look.

    Raises:
        PolicyError: a query in the policy cannot be read.
    """
    return _Rehearsal(trace, policy, scenario, seed).run()


class _Rehearsal:
    def __init__(self, trace: Trace, policy: Policy, scenario: Scenario, seed: int) -> None:
        policy = msgspec.structs.replace(
            policy,
            drift_gate=msgspec.structs.replace(policy.drift_gate, enabled=False),
            scheduling_config=msgspec.structs.replace(policy.scheduling_config, start_time=None, end_time=None),
            target_selection="SNAPSHOT",
        )
        self._fates = Fates(trace, policy, scenario, seed=seed)
        self._seed = seed
        self._bytes = {board.name: board.bundle_bytes for board in trace.boards}
        self._traced = {device.id: device for device in trace.devices}
        self._events = Events(STARTED_S)
        self._tick_s = max(1.0, policy.horizon_seconds / TICKS_IN_A_HORIZON)
        self._place = {device.id: place for place, device in enumerate(trace.devices)}
        self._devices = [
            device_row(one.id, one.board, one.site, one.time_zone, one.labels, one.version) for one in trace.devices
        ]
        self._ledger = Ledger(
            rollout=Rollout(
                id="rehearsal",
                model=trace.model,
                version=NEW_VERSION,
                bundles=tuple(ReleaseBundle(target=board.name, digest=f"new/{board.name}") for board in trace.boards),
                policy=policy,
                seed=seed,
                created_s=STARTED_S,
                gate_design=GATE_DESIGN,
            )
        )
        self._reports: dict[str, dict[str, Any]] = {}
        self._points: list[Point] = [Point(0.0, 0, 0)]
        self._bytes_sent = self._ordered = self._failed = self._exposed = self._ticks = 0
        for one in trace.devices:
            self._begin(one.id, one.online_percentage / 100)

    def run(self) -> Run:
        self._settle()
        while not self._is_over() and self._events.now_s < STARTED_S + LONGEST_RUN_S:
            self._events.run_until(self._next_tick_s())
            self._settle()
        return self._told()

    def _next_tick_s(self) -> float:
        """Ticks come at even steps; where nothing is due, a few of them are left out."""
        soon_s = self._events.now_s + self._tick_s
        due_s = self._events.next_s
        return soon_s if due_s is None else max(soon_s, min(due_s, self._events.now_s + 4 * self._tick_s))

    def _is_over(self) -> bool:
        state = self._ledger.rollout.state
        return state in WAYS_OUT or state == "paused"

    def _settle(self) -> None:
        """Tick until nothing more is to be done at this moment."""
        for _ in range(8):
            self._take_reports()
            self._ticks += 1
            commands = tick(self._situation())
            if self._ledger.rollout.state == "awaiting_approval" and not commands:
                self._approve()
                continue
            if not commands:
                break
            self._ledger = self._ledger.apply(commands)
            for command in commands:
                self._obey(command)
        self._points.append(Point(self._hours(), self._ordered, self._failed))

    def _situation(self) -> Situation:
        ledger, now_s = self._ledger, self._events.now_s
        blocks = tuple(
            self._observed(number, members)
            for number, members in due_blocks(ledger.rollout, ledger.assignments, ledger.memory, now_s)
        )
        return Situation(
            rollout=ledger.rollout,
            now_s=now_s,
            devices=self._devices,
            assignments=ledger.assignments,
            memory=ledger.memory,
            blocks=blocks,
        )

    def _observed(self, number: int, members: list[Assignment]) -> Block:
        span_s = observation_s(self._ledger.rollout)
        return Block(
            number=number,
            target=members[0].target,
            observations=tuple(
                self._fates.observation(
                    one.device,
                    is_treated=one.arm == "treated",
                    heard=self._fates.is_heard(one.device, drawn_s(one) + span_s / 2, drawn_s(one) + span_s),
                    span_s=span_s,
                    fails=one.phase in {"failed", "rolled_back", "refused"},
                )
                for one in members
            ),
        )

    def _approve(self) -> None:
        ledger, now_s = self._ledger, self._events.now_s
        self._ledger = ledger.apply(
            fire(ledger.rollout, "approve", now_s, ledger.assignments, actor="rehearsal", reason="")
        )

    # Devices.

    def _begin(self, device: str, online: float) -> None:
        if self._fates.is_in_herd(device):
            self._change(device, last_seen_s=STARTED_S - 21 * 86_400)
            self._events.after(HERD_AFTER_S, lambda: self._change(device, last_seen_s=LISTENING_S))
        elif online == 0:
            self._change(device, last_seen_s=STARTED_S - 21 * 86_400)
        elif online < 1:
            self._flip(device)

    def _flip(self, device: str) -> None:
        now_s = self._events.now_s
        is_on, left_s = self._fates.online(device, now_s)
        self._change(device, last_seen_s=LISTENING_S if is_on else now_s)
        self._events.after(left_s + 1e-3, lambda: self._flip(device))

    def _obey(self, command: Command) -> None:
        match command:
            case Assign(assignment=one) if one.arm == "treated":
                self._order(one.device, one.command, one.bundle, 1)
            case Graduate(assignment=one):
                self._order(one.device, one.command, one.bundle, 1)
            case Retry():
                bundle = f"new/{self._traced[command.device].board}"
                self._order(command.device, command.command, bundle, command.attempt)
            case RollBack():
                self._return(command)
            case _:
                pass

    def _order(self, device: str, order: str, bundle: str, attempt: int) -> None:
        board = self._traced[device].board
        self._bytes_sent += self._bytes[board]
        if attempt == 1:
            self._ordered += 1
            self._exposed += self._fates.is_harmful_on(board)
        fate = self._fates.of(device, attempt)
        if fate.silent:
            self._change(device, last_seen_s=self._events.now_s)
            return
        self._later(device, fate.hears_after_s, lambda: self._report(device, order, "fetching", None))
        phase: UpdatePhase = "failed" if fate.fails else "confirmed"
        self._later(device, fate.ends_after_s, lambda: self._report(device, order, phase, bundle))

    def _return(self, command: RollBack) -> None:
        device, bundle, version = command.device, command.bundle, command.version
        if self._fates.is_silent(device):
            return

        def back() -> None:
            now_s = self._events.now_s
            self._change(device, bundle=bundle, version=version, idle=True, reported_s=now_s)
            self._reports.setdefault(device, {}).update(rollback_phase="confirmed")

        self._later(device, self._fates.of(device).hears_after_s + 5.0, back)

    def _later(self, device: str, delay_s: float, do: Callable[[], None]) -> None:
        """Have a device do something, when it can be reached again if it is off by then."""
        is_on, left_s = self._fates.online(device, self._events.now_s + delay_s)
        self._events.after(delay_s + (0.0 if is_on else left_s + 1.0), do)

    def _report(self, device: str, order: str, phase: UpdatePhase, bundle: str | None) -> None:
        now_s = self._events.now_s
        told: dict[str, Any] = self._reports.setdefault(device, {})
        told.update(phase=phase, of=order)
        told.setdefault("started_s", now_s)
        if bundle is not None:
            told["ended_s"] = now_s
            self._failed += phase == "failed"
            if phase == "confirmed":
                self._change(device, bundle=bundle, version=NEW_VERSION)
            self._change(device, idle=True, reported_s=now_s)

    def _take_reports(self) -> None:
        if not self._reports:
            return
        reports, self._reports = self._reports, {}
        rows = tuple(
            reported(one, reports[one.device]) if one.device in reports else one for one in self._ledger.assignments
        )
        self._ledger = msgspec.structs.replace(self._ledger, assignments=rows)

    def _change(self, device: str, **fields: Any) -> None:
        place = self._place[device]
        self._devices[place] = msgspec.structs.replace(self._devices[place], **fields)

    # What came of it.

    def _hours(self) -> float:
        return (self._events.now_s - STARTED_S) / 3600

    def _told(self) -> Run:
        rollout, decisions = self._ledger.rollout, self._ledger.decisions
        stop = next((one for one in decisions if one.actor == "gate" and one.action in _STOPS), None)
        stages = self._stages()
        return Run(
            seed=self._seed,
            state=rollout.state,
            reason=rollout.reason,
            hours=self._hours(),
            ordered=self._ordered,
            failed=self._failed,
            exposed=self._exposed,
            bytes_sent=self._bytes_sent,
            halted=tuple(halt.target for halt in rollout.halted),
            stopped_by="" if stop is None else str(stop.numbers.get("gate", "")),
            waves=tuple(after - before for before, after in pairwise((0, *(stage.devices for stage in stages)))),
            stages=stages,
            points=thinned(self._points),
            decisions=tuple(f"{one.action}: {one.reason}" for one in decisions),
            ticks=self._ticks,
        )

    def _stages(self) -> tuple[Stage, ...]:
        """Return what each wave added to the devices with the release and to the blocks of the most common board."""
        rows = self._ledger.assignments
        found: list[Stage] = []
        for wave in sorted({one.wave for one in rows}):
            before = found[-1] if found else Stage(devices=0, blocks=0)
            here = [one for one in rows if one.wave == wave]
            drawn = [one for one in here if one.block >= 0 and one.target == self._fates.bad_board]
            blocks = len({one.block for one in drawn})
            controls = sum(one.arm == "control" for one in drawn)
            found.append(
                Stage(
                    devices=before.devices + sum(one.arm != "control" for one in here),
                    blocks=before.blocks + blocks,
                    treated_per_block=max(1.0, (len(drawn) - controls) / blocks) if blocks else 1.0,
                    controls_per_block=max(1.0, controls / blocks) if blocks else 1.0,
                )
            )
        return tuple(found)
