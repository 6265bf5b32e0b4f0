"""What a static plan has to know of who will execute it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx_ir as ir

from ...graph import Graph
from ..calibration.statistics import Statistics
from ..plan import Encoding, Plan
from ..scheme import Calibrator, Scheme
from ..weights import is_finite


@dataclass(frozen=True)
class Choice:
    """The operators that become integer."""

    nodes: tuple[ir.Node, ...]
    """In the graph's order; activations that rounding replaces are no part of it."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Names of nodes that have to stay float, and why; empty where float costs nothing worth a word."""


@dataclass(frozen=True)
class Complaint:
    """Something in a plan that its executor does not do as it stands there."""

    text: str
    fix: str
    refused: bool = False
    """Whether there is no way to execute it; else it costs time or accuracy."""


class Rules(Protocol):
    """Facts of one executor."""

    @property
    def hard_sigmoid_is_addition(self) -> bool:
        """Whether an emitter writes HardSigmoid as an addition whose rounding clips (`hard_sigmoid.py`)."""
        ...

    def has_integer_kernel(self, node: ir.Node) -> bool:
        """Whether the operator, with these attributes and weights, can compute in integers."""
        ...

    def is_product(self, node: ir.Node) -> bool:
        """Whether it is a sum of products: where integers save time, and what a constant weight is rounded for."""
        ...

    def keeps_encoding(self, node: ir.Node) -> bool:
        """Whether it moves integers as they are: what goes in and what comes out share one encoding."""
        ...

    def is_tied(self, node: ir.Node) -> bool:
        """Whether it computes, and yet wants one encoding for several of the tensors around it."""
        ...

    def together(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """Nodes that are one operator there, this one among them, in order."""
        ...

    def absorbed_activation(self, node: ir.Node) -> ir.Node | None:
        """The Relu or Clip that is this node's only reader and becomes part of it, or None."""
        ...

    def activations_of(self, node: ir.Node) -> list[ir.Value]:
        """The inputs that are rounded as activations, in the order of the inputs."""
        ...

    def choose(self, graph: Graph, statistics: Statistics, keep_float: frozenset[str]) -> Choice:
        """The operators that become integer; `keep_float` names nodes that may not."""
        ...

    def encodings(
        self, nodes: tuple[ir.Node, ...], statistics: Statistics, scheme: Scheme, calibrator: Calibrator
    ) -> dict[str, Encoding]:
        """Of everything that these operators read or round, by name."""
        ...

    def complaints(self, plan: Plan, graph: Graph) -> Iterable[Complaint]:
        """About a plan that names only what is in the graph."""
        ...


def finite_range(value: ir.Value, statistics: Statistics) -> bool:
    """Whether a value's range is known and finite."""
    if value.const_value is not None:
        return value.dtype == ir.DataType.FLOAT and is_finite(value.const_value.numpy())
    known = statistics.tensors.get(value.name or "")
    return known is not None and known.not_finite == 0 and bool(np.isfinite([known.low, known.high]).all())
