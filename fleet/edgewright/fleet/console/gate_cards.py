"""Gates as data for the page: what each says, with the few numbers that decide. Pure."""

from __future__ import annotations

import msgspec

from ..core.gates.status import GateStatus
from ..core.gates.weights import METRICS
from ..core.rows import Number
from .chip import Chip, Tone

GATE_TONE: dict[str, Tone] = {"pass": "good", "wait": "busy", "inconclusive": "warn", "fail": "bad"}
GATE_NAME = {
    "failure": "Failures",
    "drift": "Drift, pooled",
    "abort_config": "Threshold",
    "all": "All metrics together",
    "storm": "Rollback storm",
    "floor": "Security floor",
    "crashes": "Crashes",
    "silence": "Silence",
    "errors": "Errors",
    "latency": "Latency",
    "energy": "Energy",
    "accuracy": "Accuracy",
    "labels": "Labels",
    "disagreement": "Shadow disagreement",
    "inputs": "Inputs",
    "outputs": "Outputs",
}


class GateCard(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says."""

    name: str
    chip: Chip
    reason: str
    facts: tuple[tuple[str, str], ...]


def gate_card(gate: GateStatus) -> GateCard:
    name = GATE_NAME[gate.gate] + (f" on {gate.target}" if gate.target else "")
    if gate.target is None and gate.gate in {*METRICS, "all"} and "e_value" in gate.numbers:
        name += ", all boards"
    return GateCard(
        name=name,
        chip=Chip(text=gate.outcome, tone=GATE_TONE[gate.outcome]),
        reason=gate.reason.removeprefix(f"{gate.target or 'all boards'}: "),
        facts=tuple(_facts(gate)),
    )


def _facts(gate: GateStatus) -> list[tuple[str, str]]:
    """Return the few numbers that decide; `edgewright fleet rollout status` and the audit log have all of them."""
    numbers = gate.numbers
    facts: list[tuple[str, str]] = []
    if "dispatched" in numbers:
        unit = f" {numbers['unit']}" if "unit" in numbers else ""
        facts.append(("failed", f"{_number(numbers['failures'])} of {_number(numbers['dispatched'])}{unit}"))
    if "pending" in numbers:
        facts.append(("not finished", _number(numbers["pending"])))
    if "blocks" in numbers:
        facts.append(("blocks", _number(numbers["blocks"])))
    if "estimate" in numbers:
        facts.append(("estimate", f"{_number(numbers['estimate'])}{_around(gate)}"))
    if "e_value" in numbers:
        facts.append(("E-value", f"{_number(numbers['e_value'])}, stops at {_number(numbers['e_threshold'])}"))
    if gate.gate == "abort_config":
        limit = f"{_number(numbers['percentage'])} %, stops at {_number(numbers['threshold_percentage'])} %"
        facts.append(("failed", limit))
    return [*facts, *_traffic(gate)] if "samples" in numbers else facts


def _around(gate: GateStatus) -> str:
    low, high = gate.numbers.get("low"), gate.numbers.get("high")
    return "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"


def _traffic(gate: GateStatus) -> list[tuple[str, str]]:
    numbers = gate.numbers
    beside = f"{_number(numbers['samples'])} beside {_number(numbers.get('control_samples', 0))}"
    facts = [("samples, new beside old", beside)]
    if gate.features:
        worst = max((one for one in gate.features), key=lambda one: (one.role == "output", one.psi))
        facts.append((f"PSI of {worst.name}", f"{worst.psi:.2f}, limit {_number(numbers['max_psi'])}"))
    if "estimated_accuracy" in numbers:
        old = numbers.get("control_estimated_accuracy")
        before = "" if old is None else f", was {_percent(old)}"
        facts.append(("estimated accuracy", _percent(numbers["estimated_accuracy"]) + before))
    return facts


def _percent(share: Number) -> str:
    return f"{100 * float(share):.1f} %" if isinstance(share, int | float) else str(share)


def _number(value: Number) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
