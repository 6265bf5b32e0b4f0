"""What becomes one TFLite operator: an ONNX node with the clamp behind it and the quantizers around it.

A node computes in integers where all the data that it reads is dequantized and its result is only ever read quantized,
in one way; then DequantizeLinear, node, Relu or Clip, and QuantizeLinear are one operator. Results that are no floats
(truth values, indices) pass as they are. Else it computes in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from ...attributes import given, needed
from ...clamp import MAX_ABSORBED_SHARE_OF_STEP, bounds_of
from ...folding import ConstantOf
from ..file.model import Array
from .encodings import Encoding

FLOATS: Final = frozenset({ir.DataType.FLOAT, None})
CLAMPS: Final = frozenset({"Relu", "Clip"})
FUSED: Final[Mapping[tuple[float, float], str]] = {
    (0.0, float("inf")): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}
"""Clamps that operators take along, by their bounds."""

Suits = Callable[[ir.Node, ConstantOf], bool]
"""Whether integer kernels can do what a node asks of its operator."""


def always(_: ir.Node, __: ConstantOf) -> bool:
    """Whatever a node asks."""
    return True


@dataclass(frozen=True)
class Form:
    """What TFLite's kernels of an operator can do."""

    fuses: bool = False
    """Whether a clamp behind it becomes part of it."""
    integers: frozenset[str] = frozenset()
    """Types of activations in which it computes on integers: int8, int16."""
    all_stored: bool = False
    """Whether constants that it reads must be quantized too, or be one number throughout, which needs no choice of a
    scale; else they are parameters."""
    weight: int | None = None
    """Index of the input that is a constant weight: int8 with zero points of 0 where it computes in integers."""
    suits: Suits = always
    """Of the attributes and constants of a node."""
    product: bool = False
    """Whether the first two inputs are factors: weights where they are constant, else data."""


@dataclass(frozen=True)
class Site:
    """One operator to write."""

    node: ir.Node
    results: tuple[ir.Value, ...]
    """What is made: the node's own results, or what the clamp or the quantizers behind them make of them."""
    activation: str = "NONE"
    """The clamp that is part of it, by its name in the schema."""
    encodings: tuple[Encoding, ...] = ()
    """Of the results where it computes in integers; results behind these are no floats and pass as they are."""
    kind: str = ""
    """The integers in which it computes, int8 or int16; empty where it computes in float."""

    @property
    def integer(self) -> bool:
        """Whether it computes in integers."""
        return bool(self.kind)

    @property
    def in_float(self) -> Site:
        """The same without integers and clamp, for an operator that integer kernels have only in part.

        What it makes is then clamped, and rounded by `walk.finish` at the site itself.
        """
        return replace(self, encodings=(), kind="", activation="NONE")

    def input(self, index: int) -> ir.Value:
        """An input that the operator cannot do without."""
        return needed(self.node, index)

    def optional(self, index: int) -> ir.Value | None:
        """An input, None where it is left out."""
        return given(self.node, index)


@dataclass(frozen=True)
class _Integers:
    """What a node that computes in integers gives."""

    results: tuple[ir.Value, ...]
    encodings: tuple[Encoding, ...]
    kind: str


EncodingOf = Callable[[ir.Value], Encoding | None]
"""Of a value that a DequantizeLinear gives, or that a QuantizeLinear gives; None for others."""


@dataclass
class Sites:
    """Decides for each node of a graph what it becomes; nodes that are part of another's site are skipped."""

    encoding_of: EncodingOf
    constant: ConstantOf
    taken: set[ir.Node]
    """Clamps and quantizers that an earlier site took along."""

    def at(self, node: ir.Node, form: Form) -> Site:
        """The site of a node that is not taken."""
        clamp = self._clamp(node) if form.fuses or form.integers else None
        bounds = bounds_of(clamp) if clamp is not None and form.fuses else None
        name = "NONE" if bounds is None else FUSED.get(bounds, "NONE")
        last = node.outputs[0] if clamp is None else clamp.outputs[0]
        integer = self._integer(node, form, last, clamp if name == "NONE" else None)
        if integer is not None:
            if clamp is not None:
                self.taken.add(clamp)
            return Site(node, integer.results, name, integer.encodings, integer.kind)
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

    def _integer(self, node: ir.Node, form: Form, last: ir.Value, unfused: ir.Node | None) -> _Integers | None:
        """What the quantizers behind it give, and how; None where it computes in float.

        `unfused` is a clamp that is no part of the operator: the rounding behind it has to do its work.
        """
        kind = self._kind_read(node, form)
        if kind is None:
            return None
        results: list[ir.Value] = []
        encodings: list[Encoding] = []
        for value in (last, *node.outputs[1:]):
            if value.dtype not in FLOATS:
                results.append(value)
                continue
            found = self._quantized(value) or self._unread(node, value)
            if found is None or found[1].kind != kind or not _is_plain(found[1]) or len(results) > len(encodings):
                return None
            results.append(found[0])
            encodings.append(found[1])
        if unfused is not None and not (encodings and covers(encodings[0], bounds_of(unfused))):
            return None
        for value in (last, *node.outputs[1:])[: len(encodings)]:
            self.taken.update(use.node for use in value.uses())
        return _Integers(tuple(results), tuple(encodings), kind)

    def _unread(self, node: ir.Node, value: ir.Value) -> tuple[ir.Value, Encoding] | None:
        """A result that nobody reads, as a part of a split may be: nothing is lost if it keeps what the node read."""
        found = self.encoding_of(node.inputs[0]) if node.inputs[0] is not None else None
        return None if found is None or value.uses() or value.is_graph_output() else (value, found)

    def _kind_read(self, node: ir.Node, form: Form) -> str | None:
        """The one type of integers that all its data comes in; None where it has to compute in float."""
        read = [(index, value) for index, value in enumerate(node.inputs) if value is not None]
        floats = [(index, value) for index, value in read if value.dtype in FLOATS]
        known = {index: value for index, value in floats if self.constant(value) is not None}
        weights: list[int] = [index for index in ((0, 1) if form.product else ()) if index in known]
        weights += [] if form.weight is None else [form.weight]
        data = [value for index, value in floats if index not in known]
        stored = [value for index, value in known.items() if form.all_stored and index not in weights]
        scaled = [value for value in stored if not is_uniform(self.constant(value)) or self.encoding_of(value)]
        found = [self.encoding_of(value) for value in [*data, *scaled]]
        kinds = {"" if each is None or not _is_plain(each) else each.kind for each in found}
        kind = next(iter(kinds), "")
        if not data or len(kinds) != 1 or kind not in form.integers or not form.suits(node, self.constant):
            return None
        return kind if all(self._is_weight(node.inputs[index]) for index in weights) else None

    def _is_weight(self, value: ir.Value | None) -> bool:
        """Whether a value is a constant that is stored as TFLite's integer kernels read weights."""
        found = self.encoding_of(value) if value is not None and self.constant(value) is not None else None
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


def _is_plain(encoding: Encoding) -> bool:
    """Whether activations can be so: one scale, and in 16 bits a zero point of 0."""
    zero_points = encoding.quantization.zero_points
    return len(zero_points) == 1 and (encoding.kind != "int16" or zero_points[0] == 0)


def is_uniform(array: Array | None) -> bool:
    """Whether an array holds one finite number throughout: some scale holds it without loss."""
    return array is not None and array.size > 0 and bool((array == array.flat[0]).all() and np.isfinite(array.flat[0]))


def covers(encoding: Encoding, bounds: tuple[float, float] | None) -> bool:
    """Whether rounding to this encoding clips as the clamp does."""
    if bounds is None:
        return False
    tolerance = MAX_ABSORBED_SHARE_OF_STEP * encoding.quantization.scales[0]
    return encoding.low >= bounds[0] - tolerance and encoding.high <= bounds[1] + tolerance
