"""How callers give data to a written model and take it: in which layout, and as floats or integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import onnx_ir as ir

from ...faults import UnsupportedModel
from ..file.model import Port
from .encodings import Encoding
from .orders import CHANNELS_LAST, Order, identity, in_memory
from .quantizers import encoding_at
from .walk import Walk

PICTURE_OPERATORS: Final = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "DepthToSpace"}
)
SEEN_THROUGH: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Add", "Sub", "Mul", "Div", "Pad", "Cast", "Relu", "Clip"}
)


@dataclass(frozen=True)
class Ports:
    """What callers handle; the default is as the graph says."""

    integer: bool = False
    """Where an input is rounded first thing, or an output is what integers mean, callers handle the integers."""
    channels_last: bool = False
    """Pictures (N, C, H, W) are given and taken as (N, H, W, C) where the model computes so."""


@dataclass
class Border:
    """Gives a walk its inputs before it, and takes its outputs behind it."""

    walk: Walk
    taken: set[ir.Node]
    """Nodes that need no lowering; quantizers that an integer input stands for are added."""
    wanted: Ports
    channels_last: list[str] = field(default_factory=list)
    """Names of the ports so far that lie (N, H, W, C) though the graph says (N, C, H, W)."""

    def input(self, value: ir.Value) -> Port:
        """Gives an input of the graph.

        Raises:
            UnsupportedModel: its shape is open behind the batch, or empty.
        """
        name, shape = value.name or "", _fixed_shape(value)
        order = identity(len(shape))
        if self.wanted.channels_last and len(shape) == len(CHANNELS_LAST) and is_picture(value):
            order = CHANNELS_LAST
            self.channels_last.append(name)
        rounded = self._only_rounding(value) if self.wanted.integer else None
        if rounded is None:
            made, kind, quantization = value, self.walk.type_of(value), None
        else:
            made, kind, quantization = rounded[0], rounded[1].type, rounded[1].quantization
        tensor = self.walk.draft.tensor(name, kind, in_memory(shape, order), quantization)
        self.walk.give(made, tensor, order)
        return Port(name, tensor)

    def output(self, value: ir.Value) -> Port:
        """Takes an output of the graph."""
        walk = self.walk
        integer = self.wanted.integer and walk.constant(value) is None and walk.encoding(value) is not None
        placed = walk.place(value, integer=integer)
        order: Order = identity(len(walk.shape(value)))
        if self.wanted.channels_last and placed.order == CHANNELS_LAST and value.name:
            order = CHANNELS_LAST
            self.channels_last.append(value.name)
        return Port(value.name or "", walk.read(value, order, integer=integer))

    def _only_rounding(self, value: ir.Value) -> tuple[ir.Value, Encoding] | None:
        """What the quantizers that alone read an input give; None where one reads it otherwise, or they differ."""
        uses = list(value.uses())
        found = [encoding_at(self.walk, use.node.outputs[0]) for use in uses if use.node.op_type == "QuantizeLinear"]
        first = found[0] if found else None
        if first is None or value.is_graph_output() or len(found) != len(uses) or any(each != first for each in found):
            return None
        self.taken.update(use.node for use in uses)
        made = uses[0].node.outputs[0]
        for use in uses[1:]:
            ir.convenience.replace_all_uses_with(use.node.outputs[0], made)
        return made, first


def has_free_batch(graph: ir.Graph) -> bool:
    """Whether an input leaves its first dimension open."""
    return any(value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int)
               for value in graph.inputs)  # fmt: skip


def is_picture(value: ir.Value) -> bool:
    """Whether what reads an input, seen through quantizers and maps, computes on pictures."""
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        for use in waiting.pop().uses():
            if use.node.op_type in PICTURE_OPERATORS:
                return True
            result = use.node.outputs[0]
            if use.node.op_type in SEEN_THROUGH and result not in seen:
                seen.add(result)
                waiting.append(result)
    return False


def _fixed_shape(value: ir.Value) -> tuple[int, ...]:
    """The logical shape of an input, a free batch as 1."""
    sizes = [dim if isinstance(dim, int) else None for dim in value.shape or ()]
    if sizes and sizes[0] is None:
        sizes[0] = 1
    if value.shape is None or any(size is None for size in sizes):
        raise UnsupportedModel(
            f"input {value.name!r} has shape {value.shape}: only the first dimension may be free in TFLite; "
            "fix the others when you export the model"
        )
    if 0 in sizes:
        raise UnsupportedModel(
            f"input {value.name!r} has shape {value.shape} and is empty, which TFLite's kernels do not expect; "
            "leave the input out when you export the model"
        )
    return tuple(size for size in sizes if size is not None)
