"""Which operators Vela left on the CPU, and why.

That an operator is left is read from the model that Vela wrote: whatever is not its own custom operator. The reason
comes from its warnings, for example

    Warning (supported operators) operator: CONV_2D, ofm: 'features'
    Reason: Unsupported kernel stride: 5, 5
    Stride>3 is only supported IF (dilation = 1 AND padding = VALID)

where the lines after the reason, up to an empty one, are the constraint that was broken. Vela's names of operators are
nearly those of TFLite (ARGMAX for ARG_MAX), so warnings are matched by the output alone.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ...tflite.file.model import Model, Operator
from .outcome import Remaining

NPU_OPERATOR = "ethos-u"
"""Name of the custom operator that holds a command stream."""
NO_REASON = "Vela gives no reason"
MAX_REASON_CHARACTERS = 300
MAX_DETAIL_CHARACTERS = 2_000

_WARNING = re.compile(r"^Warning \(supported operators\) operator: \S+, ofm: '(?P<output>.*)'$")
_REASON = "Reason: "


@dataclass(frozen=True)
class CpuOperator:
    """An operator of the source model that stays on the CPU."""

    index: int
    """In the source model."""
    name: str
    """That of its first output."""
    tflite_type: str
    reason: str
    details: str = ""
    """The constraint that it breaks, where Vela says it; several lines."""


def cpu_operators(source: Model, remaining: Sequence[Remaining], log: str) -> tuple[CpuOperator, ...]:
    """Operators that Vela did not take, in the order of the source.

    Args:
        source: what Vela got.
        remaining: operators of what Vela wrote.
        log: what it said.
    """
    left = sorted(_indices(source, remaining))
    reasons = _reasons(log)
    found = []
    for index in left:
        operator = source.operators[index]
        name = _output(source, operator)
        waiting = reasons.get(name)
        reason, details = waiting.popleft() if waiting else (NO_REASON, "")
        found.append(CpuOperator(index, name, operator.custom or operator.type, reason, details))
    return tuple(found)


def _indices(source: Model, remaining: Sequence[Remaining]) -> list[int]:
    """Operators of the source that are still there; equal names are taken in order."""
    known: dict[Remaining, deque[int]] = defaultdict(deque)
    for index, operator in enumerate(source.operators):
        known[Remaining(operator.type, operator.custom, _output(source, operator))].append(index)
    return [known[one].popleft() for one in remaining if one.custom != NPU_OPERATOR and known[one]]


def _output(model: Model, operator: Operator) -> str:
    return model.tensors[operator.outputs[0]].name if operator.outputs else ""


def _reasons(log: str) -> dict[str, deque[tuple[str, str]]]:
    """(reason, details) by the name of the output, in the order of the warnings."""
    reasons: dict[str, deque[tuple[str, str]]] = defaultdict(deque)
    lines = log.splitlines()
    for at, line in enumerate(lines):
        warning = _WARNING.match(line)
        if warning is None or at + 1 == len(lines) or not lines[at + 1].startswith(_REASON):
            continue
        block = lines[at + 1 : _end(lines, at + 1)]
        reason, details = block[0].removeprefix(_REASON), "\n".join(_printable(text) for text in block[1:])
        reasons[warning["output"]].append((_printable(reason)[:MAX_REASON_CHARACTERS], details[:MAX_DETAIL_CHARACTERS]))
    return reasons


def _end(lines: list[str], start: int) -> int:
    return next((at for at in range(start, len(lines)) if not lines[at].strip()), len(lines))


def _printable(text: str) -> str:
    """Names of tensors are in it, and terminals show it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.rstrip())
