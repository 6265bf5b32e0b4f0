"""What a model computes, in a few lines for people: operators by type, with counts and types."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .model import ABSENT, Model, Operator


@dataclass(frozen=True)
class OperatorCount:
    """Operators of one type that compute on the same types."""

    type: str
    """`CONV_2D` and so on; a custom operator has its own name."""
    reads: tuple[str, ...]
    """Types of inputs, each once, in the order of inputs."""
    writes: tuple[str, ...]
    """Types of outputs, each once."""
    count: int


def summary(model: Model) -> tuple[OperatorCount, ...]:
    """The most frequent first, equally frequent ones by name."""
    counts = Counter(_kind(model, operator) for operator in model.operators)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(OperatorCount(kind, reads, writes, count) for (kind, reads, writes), count in ordered)


def _kind(model: Model, operator: Operator) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return operator.custom or operator.type, _types(model, operator.inputs), _types(model, operator.outputs)


def _types(model: Model, indices: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(model.tensors[index].type for index in indices if index != ABSENT))
