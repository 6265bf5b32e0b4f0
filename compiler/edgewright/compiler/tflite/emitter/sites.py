"""What becomes one TFLite operator: an ONNX node with the clamp behind it and the quantizers around it.

A node computes in integers where all the data that it reads is dequantized and its result is only ever read quantized,
in one way; then DequantizeLinear, node, Relu or Clip, and QuantizeLinear are one operator. Else it computes in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from ...quantize.capability import MAX_ABSORBED_SHARE_OF_STEP, bounds_of
from .encodings import Encoding

CLAMPS: Final = frozenset({"Relu", "Clip"})
FUSED: Final[Mapping[tuple[float, float], str]] = {
    (0.0, float("inf")): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}
"""Clamps that operators take along, by their bounds."""


@dataclass(frozen=True)
class Form:
    """What TFLite's kernels of an operator can do."""

    fuses: bool = False
    """Whether a clamp behind it becomes part of it."""
    integers: frozenset[str] = frozenset()
    """Types of activations in which it computes on integers: int8, int16."""
    all_stored: bool = False
    """Whether constants that it reads must be quantized too; else they are parameters."""
    weight: int | None = None
    """Index of the input that is a constant weight: int8 with zero points of 0 where it computes in integers."""


@dataclass(frozen=True)
class Site:
    """One operator to write."""

    node: ir.Node
    results: tuple[ir.Value, ...]
    """What is made: the node's own results, or what the clamp or the quantizers behind them make of them."""
    activation: str = "NONE"
    """The clamp that is part of it, by its name in the schema."""
    encodings: tuple[Encoding, ...] = ()
    """Of the results where it computes in integers; empty where it computes in float."""

    @property
    def integer(self) -> bool:
        """Whether it computes in integers."""
        return bool(self.encodings)

    def input(self, index: int) -> ir.Value:
        """An input that the operator cannot do without."""
        found = self.node.inputs[index] if index < len(self.node.inputs) else None
        if found is None:
            raise ValueError(f"{self.node.op_type} {self.node.name!r} has no input {index}")
        return found

    def optional(self, index: int) -> ir.Value | None:
        """An input, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None


EncodingOf = Callable[[ir.Value], Encoding | None]
"""Of a value that a DequantizeLinear gives, or that a QuantizeLinear gives; None for others."""
IsConstant = Callable[[ir.Value], bool]


@dataclass
class Sites:
    """Decides for each node of a graph what it becomes; nodes that are part of another's site are skipped."""

    encoding_of: EncodingOf
    is_constant: IsConstant
    taken: set[ir.Node]
    """Clamps and quantizers that an earlier site took along."""

    def at(self, node: ir.Node, form: Form) -> Site:
        """The site of a node that is not taken."""
        clamp = self._clamp(node) if form.fuses else None
        name = "NONE" if clamp is None else FUSED.get(bounds_of(clamp) or (0.0, 0.0), "NONE")
        last = node.outputs[0] if clamp is None else clamp.outputs[0]
        integer = self._integer(node, form, last, clamp if name == "NONE" else None)
        if integer is not None:
            if clamp is not None:
                self.taken.add(clamp)
            return Site(node, integer[0], name, integer[1])
        if clamp is not None and name != "NONE":
            self.taken.add(clamp)
            return Site(node, (last, *node.outputs[1:]), name)
        return Site(node, tuple(node.outputs))

    def _clamp(self, node: ir.Node) -> ir.Node | None:
        """The Relu or Clip that alone reads the result."""
        result = node.outputs[0]
        uses = list(result.uses())
        if len(uses) != 1 or result.is_graph_output() or uses[0].idx != 0 or uses[0].node.op_type not in CLAMPS:
            return None
        return uses[0].node if bounds_of(uses[0].node) is not None else None

    def _integer(
        self, node: ir.Node, form: Form, last: ir.Value, unfused: ir.Node | None
    ) -> tuple[tuple[ir.Value, ...], tuple[Encoding, ...]] | None:
        """What the quantizers behind it give, and how; None where it computes in float.

        `unfused` is a clamp that is no part of the operator: the rounding behind it has to do its work.
        """
        if not self._reads_integers(node, form):
            return None
        results, encodings = [], []
        for value in (last, *node.outputs[1:]):
            found = self._quantized(value)
            if found is None or found[1].kind not in form.integers:
                return None
            results.append(found[0])
            encodings.append(found[1])
        if unfused is not None and not _covers(encodings[0], bounds_of(unfused)):
            return None
        for value in (last, *node.outputs[1:]):
            self.taken.update(use.node for use in value.uses())
        return tuple(results), tuple(encodings)

    def _reads_integers(self, node: ir.Node, form: Form) -> bool:
        data = [value for value in node.inputs if value is not None and not self.is_constant(value)]
        floats = [value for value in data if value.dtype in {ir.DataType.FLOAT, None}]
        constants = [value for value in node.inputs if value is not None and self.is_constant(value)]
        read = [*floats, *(constants if form.all_stored else ())]
        kinds = [found.kind if (found := self.encoding_of(value)) is not None else "" for value in read]
        if not floats or not set(kinds) <= form.integers:
            return False
        return form.weight is None or self._is_weight(node.inputs[form.weight])

    def _is_weight(self, value: ir.Value | None) -> bool:
        """Whether a value is a constant that is stored as TFLite's integer kernels read weights."""
        found = self.encoding_of(value) if value is not None and self.is_constant(value) else None
        return found is not None and found.kind == "int8" and not any(found.quantization.zero_points)

    def _quantized(self, value: ir.Value) -> tuple[ir.Value, Encoding] | None:
        """What the only way to round a value gives; None where it is also read as it is, or rounded in two ways."""
        uses = list(value.uses())
        if not uses or value.is_graph_output() or any(use.node.op_type != "QuantizeLinear" for use in uses):
            return None
        encodings = [self.encoding_of(use.node.outputs[0]) for use in uses]
        first = encodings[0]
        if first is None or any(each != first for each in encodings):
            return None
        return uses[0].node.outputs[0], first


def _covers(encoding: Encoding, bounds: tuple[float, float] | None) -> bool:
    """Whether rounding to this encoding clips as the clamp does."""
    if bounds is None:
        return False
    tolerance = MAX_ABSORBED_SHARE_OF_STEP * encoding.quantization.scales[0]
    return encoding.low >= bounds[0] - tolerance and encoding.high <= bounds[1] + tolerance
