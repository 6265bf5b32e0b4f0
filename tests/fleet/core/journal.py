"""A world that keeps an audit log, as the store does (commands.py), so that decisions can be explained from it."""

from __future__ import annotations

from typing import Any

import msgspec

from edgewright.fleet.core.policy.policy import policy_to_json
from edgewright.fleet.core.rollout import fire
from edgewright.fleet.core.rows import Command, Record, SaveMemory
from edgewright.fleet.core.transitions import Event
from edgewright.fleet.trust.audit import AuditEntry, next_entry

from .conftest import World

SUBJECT = "rollout:r1"


class Journal(World):
    """`entries` holds what the audit log of a fleet would."""

    def __init__(self, policy: dict[str, Any], devices: int, **fields: Any) -> None:
        super().__init__(policy, devices, **fields)
        self.entries: list[AuditEntry] = []
        rollout = self.ledger.rollout
        self._append(
            0.0,
            "admin",
            "created",
            {
                "model": rollout.model,
                "version": rollout.version,
                "bundles": {bundle.target: bundle.digest for bundle in rollout.bundles},
                "gate_design": rollout.gate_design,
                "policy": msgspec.json.decode(policy_to_json(rollout.policy)),
            },
        )

    def step(self, now_s: float) -> None:
        self.seen(now_s)
        for _ in range(10):
            commands = self._tick(now_s)
            if not commands:
                return
            self._apply(commands, now_s)
        raise AssertionError("still acting")

    def press(self, event: Event, now_s: float) -> None:
        rows = self.ledger
        self._apply(fire(rows.rollout, event, now_s, rows.assignments, actor="ada", reason="because"), now_s)

    def _apply(self, commands: tuple[Command, ...], now_s: float) -> None:
        self.ledger = self.ledger.apply(commands)
        for command in commands:
            if isinstance(command, SaveMemory) and command.learnt:
                blocks = msgspec.to_builtins(command.learnt)
                detail = {"blocks": blocks, "next_block": command.memory.next_block}
                self._append(now_s, "gate", "evidence", detail)
            elif isinstance(command, Record):
                one = command.decision
                detail = {"wave": one.wave, "reason": one.reason, "numbers": one.numbers}
                self._append(one.at_s, one.actor, one.action, detail)

    def _append(self, at_s: float, actor: str, action: str, detail: dict[str, Any]) -> None:
        # Through JSON and back, as a stored detail is.
        stored = msgspec.json.decode(msgspec.json.encode(detail))
        last = self.entries[-1] if self.entries else None
        self.entries.append(
            next_entry(last, at_s=at_s, actor=actor, action=f"rollout.{action}", subject=SUBJECT, detail=stored)
        )
