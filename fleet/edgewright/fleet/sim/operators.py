"""What people do to a small fleet, at moments and in an order that nobody in their right mind would choose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgewright.targets.faults import UserFault

from ..core.rows import ENDED
from ..core.transitions import Event
from ..place import PlaceChange
from .drawn_policy import SITES, ZONES, draw_policy
from .servers import Servers
from .starting import BOARDS, MODEL, VERSIONS

EVENTS: tuple[Event, ...] = ("pause", "resume", "resume", "resume", "approve", "approve", "abort", "rollback")
HOOK = "told"
"""A program that writes down whatever alert it is told of."""


class Operators:
    """Press a button at a time; what is not possible just then is refused."""

    def __init__(
        self, servers: Servers, *, chance: random.Random, devices: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._chance = chance
        self._devices = devices
        self._say = say

    def press(self) -> None:
        """Do something at the console; where nothing was rolled out yet, that more often than not."""
        is_new = not self._servers.fleet.rollouts()
        draw = 0.5 if is_new and self._chance.random() < 0.7 else self._chance.random()
        try:
            for upto, do in (
                (0.02, self._stop),
                (0.10, self._lift),
                (0.12, self._raise_floor),
                (0.22, self._move),
                (0.29, self._experiment),
                (0.35, self._rule),
                (0.39, self._roll_back_board),
                (0.65, self._create),
                (1.00, self._fire),
            ):
                if draw < upto:
                    do()
                    return
        except UserFault as refused:
            self._say(f"refused: {refused}")

    def _stop(self) -> None:
        self._servers.fleet.steering.stop(reason="chaos")
        self._say("emergency stop")

    def _lift(self) -> None:
        self._servers.fleet.steering.lift()
        self._say("lifted")

    def _raise_floor(self) -> None:
        self._servers.fleet.steering.raise_floor(MODEL, 2)
        self._say("the security floor is 2")

    def _move(self) -> None:
        chance = self._chance
        change = PlaceChange(
            site=chance.choice(SITES), time_zone=chance.choice(ZONES), labels={"line": chance.choice(("1", "2", None))}
        )
        device = chance.choice(self._devices)
        self._servers.fleet.move(device, change)
        self._say(f"{device} moves: {msgspec.json.encode(change).decode()}")

    def _experiment(self) -> None:
        experimenting, chance = self._servers.experimenting, self._chance
        running = [one.experiment for one in experimenting.every() if one.experiment.state == "running"]
        if not running:
            baseline, candidate = chance.choice((("1", "2"), ("2", "3"), ("3", "2")))
            made = experimenting.create(
                {"model": MODEL, "baseline": baseline, "candidate": candidate, "observation_s": 60}
            )
            self._say(f"experiment {made.experiment.id}: {candidate} against {baseline}")
        elif chance.random() < 0.5:
            experimenting.stop(running[0].id, reason="chaos")
            self._say(f"experiment {running[0].id} is stopped")
        else:
            policy = draw_policy(chance, now_s=self._servers.fleet.now())
            experimenting.promote(running[0].id, policy=policy, force=True)
            self._say(f"experiment {running[0].id} is promoted")

    def _rule(self) -> None:
        alerting, chance = self._servers.alerting, self._chance
        name = chance.choice(("one", "two"))
        if chance.random() < 0.2:
            alerting.remove_rule(name)
            self._say(f"rule {name} is removed")
            return
        made = alerting.add_rule(draw_rule(chance, name))
        self._say(f"rule {made.rule.name}: {made.rule.metric} by {made.rule.by}")

    def _create(self) -> None:
        fleet, chance = self._servers.fleet, self._chance
        if self._is_idle() and chance.random() < 0.4:
            self._experiment()
            return
        made = fleet.create_rollout(MODEL, chance.choice(VERSIONS[1:]), draw_policy(chance, now_s=fleet.now()))
        self._say(f"rollout {made.id} of {made.version}: {msgspec.json.encode(made.policy).decode()}")

    def _is_idle(self) -> bool:
        """Tell whether no rollout goes on: then an experiment can begin, or be brought to its end."""
        return all(rollout.state in ENDED for rollout in self._servers.fleet.rollouts())

    def _roll_back_board(self) -> None:
        rollouts = self._servers.fleet.rollouts()
        if rollouts:
            self._servers.fleet.steering.roll_back_board(rollouts[0].id, self._chance.choice(BOARDS), reason="chaos")
            self._say(f"a board of {rollouts[0].id} goes back")

    def _fire(self) -> None:
        rollouts = self._servers.fleet.rollouts()
        if not rollouts:
            self._create()
            return
        rollout, event = self._chance.choice(rollouts[:2]), self._chance.choice(EVENTS)
        self._servers.fleet.fire(rollout.id, event, reason="chaos")
        self._say(f"{event} {rollout.id}")


def draw_rule(chance: random.Random, name: str) -> dict[str, object]:
    """Return an alert rule that a few dozen samples can raise and clear."""
    return {
        "name": name,
        "model": MODEL,
        "metric": chance.choice(("inputs", "outputs", "errors", "labels")),
        "by": chance.choice((["board"], ["site", "release"], [])),
        "baseline": chance.choice(("reference", "trailing")),
        "windowSeconds": chance.choice((60, 120)),
        "graceSeconds": chance.choice((0, 30)),
        "raiseAbove": 0.05,
        "raiseAfter": 1,
        "clearAfter": 1,
        "minSamples": 10,
        "alpha": 0.5,
        "command": {"argv": [HOOK]},
    }


def put_hook(directory: Path) -> None:
    """Put the program of the rules into a fleet's directory; it writes what it is told to `told.jsonl` there."""
    program = directory / "hooks" / HOOK
    program.write_text('#!/bin/sh\n{ cat; echo; } >> "${0%/*}/told.jsonl"\n', encoding="utf-8")
    program.chmod(0o700)
