"""Tables for people, in a terminal of 80 columns."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from edgewright.fleet import explain_tables, tables

ENTRY: dict[str, Any] = {"seq": 1, "at_s": 0.0, "actor": "gate", "action": "rollout.board_halted"}
SUBJECT = "rollout:r-12ab34cd"


def printed(value: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(value)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_audit_log_is_readable_in_80_columns() -> None:
    detail = {"plan": {"waves": list(range(200))}, "none": None, "empty": {}, "after_s": 1.23456789}
    entries = [
        ENTRY | {"subject": SUBJECT, "detail": detail},
        ENTRY | {"subject": SUBJECT, "detail": {"reason": "hot"}},
    ]
    text = printed(tables.audit({"entries": entries}))
    assert all(word in text for word in ("rollout.board_halted", SUBJECT, "hot", "…"))
    assert "none" not in text
    assert len(text.splitlines()) < 16, "a long detail is cut"


def test_a_list_of_rollouts_cuts_long_reasons_and_one_rollout_does_not() -> None:
    rollout = {"id": "r-1", "model": "digits", "version": "2", "state": "running", "wave": 0, "created_s": 0.0}
    rollout |= {"policy": {"waves": [1, "rest"]}, "reason": "why " * 60 + "end", "halted": []}
    assert "end" not in printed(tables.rollouts({"rollouts": [rollout]}))
    one = printed(tables.rollout({"rollout": rollout, "assignments": [], "gates": []}))
    assert "end" in one
    assert "no device has an order yet" in one


def test_what_the_drift_gate_saw_is_told_in_a_few_words() -> None:
    recorded = {
        "samples": 328,
        "control_samples": 330,
        "max_psi": 0.2,
        "psi input x": 0.01,
        "psi output y": 3.358,
        "estimated_accuracy": 0.2611,
        "control_estimated_accuracy": 0.977,
    }
    assert explain_tables._behind(recorded) == (
        "328 samples beside 330, PSI of output y 3.358, limit 0.2, estimated accuracy 26.1 % beside 97.7 %"
    )
