"""Leaves out what nobody reads: a RESHAPE whose only reader reshapes again, constants of operators that vanished."""

from __future__ import annotations

from dataclasses import replace

from ..file.model import ABSENT, Model, Operator, Port


def pruned(model: Model) -> Model:
    """The same model without operators whose results do not reach an output, and without tensors that nothing names."""
    wanted = {port.tensor for port in model.outputs}
    kept: list[Operator] = []
    for operator in reversed(model.operators):
        if wanted.intersection(operator.outputs):
            kept.append(operator)
            wanted.update(operator.inputs)
    kept.reverse()
    used = wanted | {port.tensor for port in model.inputs}
    used.update(index for operator in kept for index in operator.outputs)
    numbers = {old: new for new, old in enumerate(sorted(used - {ABSENT}))}
    numbers[ABSENT] = ABSENT
    return replace(
        model,
        tensors=tuple(tensor for index, tensor in enumerate(model.tensors) if index in numbers),
        operators=tuple(_renumbered(operator, numbers) for operator in kept),
        inputs=tuple(Port(port.name, numbers[port.tensor]) for port in model.inputs),
        outputs=tuple(Port(port.name, numbers[port.tensor]) for port in model.outputs),
    )


def _renumbered(operator: Operator, numbers: dict[int, int]) -> Operator:
    return replace(
        operator,
        inputs=tuple(numbers[index] for index in operator.inputs),
        outputs=tuple(numbers[index] for index in operator.outputs),
    )
