"""Rows of one rollout, made by hand: for tests of single gates."""

from __future__ import annotations

from typing import Any

from edgewright.fleet.core.policy.policy import policy_from
from edgewright.fleet.core.rows import GATE_DESIGN, Assignment, ReleaseBundle, Rollout


def order(position: int, phase: str | None, **fields: Any) -> Assignment:
    """Return an order at 0 s whose device reported this phase at 1 s."""
    given: dict[str, Any] = {
        "device": f"d{position:05d}",
        "target": "t",
        "wave": 0,
        "position": position,
        "version": "2",
        "bundle": "n",
        "previous_version": "1",
        "previous_bundle": "o",
        "command": f"c{position}",
        "dispatched_s": 0.0,
        "phase": phase,
        "started_s": 1.0 if phase else None,
        "ended_s": 1.0 if phase else None,
    }
    return Assignment(**(given | fields))


def rollout(
    *, boards: tuple[str, ...] = ("t",), wave: int = 0, row: dict[str, Any] | None = None, **policy: Any
) -> Rollout:
    """Return a running rollout of a release with one bundle for each board."""
    given: dict[str, Any] = {
        "id": "r",
        "model": "m",
        "version": "2",
        "bundles": tuple(ReleaseBundle(target=board, digest=f"new {board}") for board in boards),
        "policy": policy_from(policy, where="test"),
        "seed": 1,
        "created_s": 0.0,
        "gate_design": GATE_DESIGN,
        "wave": wave,
    }
    return Rollout(**(given | (row or {})))
