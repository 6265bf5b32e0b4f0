"""A graph, float or QDQ, as a TFLite model.

The nodes are walked in their order. Where a value lies is decided by what makes it (pictures lie channels last), and
whoever reads it in another order has it brought there; an ONNX Transpose only changes what is known of the order. So
transposes move to where an order really matters, and most vanish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ...faults import UnsupportedModel
from ...graph import Graph
from ...graph import place as place_of
from ...known_values import computed
from ..file.model import Model, Port, Tensor
from ..file.versions import versioned
from .encodings import Encoding, encoding_of
from .operators import OPERATORS, Operator
from .orders import CHANNELS_LAST, Order, identity, in_memory
from .prepare import prepared
from .pruning import pruned
from .sites import Sites
from .walk import Stored, Walk

DESCRIPTION = "edgewright"
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Ports:
    """How callers give and take data; the default is as the graph says."""

    integer: bool = False
    """Where an input is rounded first thing, or an output is what integers mean, callers handle the integers."""
    channels_last: bool = False
    """Pictures (N, C, H, W) are given and taken as (N, H, W, C) where the model computes so."""


@dataclass(frozen=True)
class Emitted:
    """A model, and what callers have to know of its ports."""

    model: Model
    channels_last: tuple[str, ...]
    """Inputs and outputs that lie (N, H, W, C) though the graph says (N, C, H, W)."""


def emit(graph: Graph, ports: Ports | None = None) -> Emitted:
    """The graph as a TFLite model; a free batch is written as 1 and may be resized by callers.

    Raises:
        UnsupportedModel: an operator, a type or a shape that TFLite has no form for; the message names it and its
            place, and says what helps.
    """
    return _Emission(prepared(graph), ports or Ports()).run()


class _Emission:
    """One walk."""

    def __init__(self, graph: Graph, ports: Ports) -> None:
        self._graph = graph
        self._ports = ports
        free = any(value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int)
                   for value in graph.graph.inputs)  # fmt: skip
        self._walk = Walk(opset=graph.opset_imports.get("", 17), free_batch=free)
        self._sites = Sites(self._encoding, self._walk.constant, set())
        self._channels_last: list[str] = []

    def run(self) -> Emitted:
        inputs = [self._input(value) for value in self._graph.graph.inputs]
        for node in self._graph.graph:
            if node not in self._sites.taken:
                self._lower(node)
        outputs = [self._output(value) for value in self._graph.graph.outputs]
        tensors = list(self._walk.draft.tensors)
        for port in (*inputs, *outputs):
            tensors[port.tensor] = self._port_tensor(tensors[port.tensor])
        model = Model(
            tensors=tuple(tensors),
            operators=tuple(self._walk.draft.operators),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            description=DESCRIPTION,
            signature=SIGNATURE,
        )
        return Emitted(versioned(pruned(model)), tuple(self._channels_last))

    def _port_tensor(self, tensor: Tensor) -> Tensor:
        free = (-1, *tensor.shape[1:]) if self._walk.free_batch and tensor.shape[:1] == (1,) else ()
        return replace(tensor, free=free)

    # -- inputs and outputs

    def _input(self, value: ir.Value) -> Port:
        shape = self._fixed(value)
        order = identity(len(shape))
        if self._ports.channels_last and len(shape) == len(CHANNELS_LAST) and _is_picture(value):
            order = CHANNELS_LAST
            self._channels_last.append(value.name or "")
        rounded = self._only_rounding(value) if self._ports.integer else None
        if rounded is None:
            tensor = self._walk.draft.tensor(value.name or "", self._walk.type_of(value), in_memory(shape, order))
            self._walk.give(value, tensor, order)
        else:
            made, encoding = rounded
            name, quantization = value.name or "", encoding.quantization
            tensor = self._walk.draft.tensor(name, encoding.type, in_memory(shape, order), quantization)
            self._walk.give(made, tensor, order)
        return Port(value.name or "", tensor)

    def _fixed(self, value: ir.Value) -> tuple[int, ...]:
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

    def _only_rounding(self, value: ir.Value) -> tuple[ir.Value, Encoding] | None:
        """What the quantizers that alone read an input give."""
        uses = list(value.uses())
        found = [self._encoding(use.node.outputs[0]) for use in uses if use.node.op_type == "QuantizeLinear"]
        if value.is_graph_output() or len(found) != len(uses) or not found or any(each != found[0] for each in found):
            return None
        for use in uses:
            self._sites.taken.add(use.node)
        first = uses[0].node.outputs[0]
        for use in uses[1:]:
            ir.convenience.replace_all_uses_with(use.node.outputs[0], first)
        return (first, found[0]) if found[0] is not None else None

    def _output(self, value: ir.Value) -> Port:
        walk = self._walk
        integer = self._ports.integer and walk.constant(value) is None and walk.encoding(value) is not None
        placed = walk.place(value, integer=integer)
        order: Order = identity(len(walk.shape(value)))
        if self._ports.channels_last and placed.order == CHANNELS_LAST and value.name:
            order = CHANNELS_LAST
            self._channels_last.append(value.name)
        return Port(value.name or "", walk.read(value, order, integer=integer))

    # -- nodes

    def _lower(self, node: ir.Node) -> None:
        walk = self._walk
        if node.op_type == "DequantizeLinear" and self._dequantize(node):
            return
        if node.op_type == "QuantizeLinear" and not self._known(node):
            self._quantize(node)
            return
        if self._known(node):
            self._fold(node)
            return
        operator = self._operator(node)
        site = self._sites.at(node, operator.form)
        operator.lower(walk, site)
        if site.integer:
            self._alias_quantizers(site.results, node)
        self._check_further_results(node)

    def _check_further_results(self, node: ir.Node) -> None:
        """Operators of TFLite that have fewer results than ONNX's are written where nobody reads the others."""
        for value in node.outputs[1:]:
            read = value.is_graph_output() or any(use.node not in self._sites.taken for use in value.uses())
            if read and not self._walk.is_made(value):
                self._walk.refuse(node, f"TFLite does not give its result {value.name!r}", "leave that result unread")

    def _operator(self, node: ir.Node) -> Operator:
        domain = "" if node.domain == "ai.onnx" else node.domain
        operator = OPERATORS.get(node.op_type) if not domain else None
        if operator is None:
            name = f"{domain}:{node.op_type}" if domain else node.op_type
            raise UnsupportedModel(
                f"{name} at {place_of(node)}: TFLite has no such operator, or it is not written yet "
                "(docs/formats/tflite.md lists them); compile for another engine of the target, or replace the "
                "operator in the model"
            )
        return operator

    def _alias_quantizers(self, results: Iterable[ir.Value], node: ir.Node) -> None:
        """Quantizers that say the same twice give the same tensor."""
        for result in results:
            producer = result.producer()
            source = producer.inputs[0] if producer is not None and producer is not node else None
            for use in list(source.uses()) if source is not None else []:
                twin = use.node.outputs[0]
                if twin is not result:
                    placed = self._walk.place(result)
                    self._walk.give(twin, placed.tensor, placed.order)

    def _is_constant(self, value: ir.Value) -> bool:
        return self._walk.constant(value) is not None

    def _known(self, node: ir.Node) -> bool:
        """Whether a node's results depend on no input."""
        if node.op_type == "Shape":
            return True
        random = node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
        return not random and all(value is None or self._is_constant(value) for value in node.inputs)

    def _fold(self, node: ir.Node) -> None:
        walk = self._walk
        if node.op_type == "Shape" and node.inputs[0] is not None:
            size = walk.shape(node.inputs[0])
            start = node.attributes["start"].as_int() if "start" in node.attributes else 0
            end = node.attributes["end"].as_int() if "end" in node.attributes else len(size)
            walk.give_constant(node.outputs[0], np.array(size[start:end], np.int64))
            return
        arrays = ((value.name or "", walk.constant(value)) for value in node.inputs if value is not None)
        feeds = {name: array for name, array in arrays if array is not None}
        found = computed(ir.serde.serialize_node(node), feeds, walk.opset)
        for value in node.outputs:
            if value.name in found:
                walk.give_constant(value, found[value.name])
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            integers = walk.constant(node.inputs[0])
            encoding = None if integers is None else encoding_of(node, integers.dtype.name, integers.ndim)
            if integers is not None and encoding is not None:
                walk.give_stored(node.outputs[0], Stored(integers, encoding))

    # -- quantizers

    def _encoding(self, value: ir.Value) -> Encoding | None:
        """Of what a QuantizeLinear gives, or of a dequantized value."""
        producer = value.producer()
        if producer is not None and producer.op_type == "QuantizeLinear":
            zero = producer.inputs[2] if len(producer.inputs) > 2 else None
            kind = "uint8" if zero is None or zero.const_value is None else zero.const_value.numpy().dtype.name
            return encoding_of(producer, kind, len(value.shape or ()))
        return self._walk.encoding(value) if value.name else None

    def _dequantize(self, node: ir.Node) -> bool:
        """Notes what the integers mean; whether that was possible without computing."""
        source = node.inputs[0]
        if source is None or self._is_constant(source):
            return False
        kind = str(source.dtype.numpy()) if source.dtype is not None else "uint8"
        encoding = encoding_of(node, kind, len(source.shape or ()))
        if encoding is None:
            self._walk.refuse(
                node, "its scales are not constant, or in blocks", "quantize the model per tensor or channel"
            )
        self._check_middle(node, encoding)
        placed = self._walk.place(source)
        if self._walk.draft.tensors[placed.tensor].quantization is None:  # an input of integers
            tensor = self._walk.draft.tensors[placed.tensor]
            plain = replace(encoding.quantization, zero_points=tuple(
                zero + encoding.shift for zero in encoding.quantization.zero_points))  # fmt: skip
            self._walk.draft.tensors[placed.tensor] = replace(tensor, quantization=plain)
            if encoding.shift:
                made = self._walk.draft.tensor(
                    f"{tensor.name}_signed", encoding.type, tensor.shape, encoding.quantization
                )
                self._walk.emit("QUANTIZE", (placed.tensor,), (made,))
                self._walk.give(source, made, placed.order)
        self._walk.give_dequantized(node.outputs[0], source, encoding)
        return True

    def _check_middle(self, node: ir.Node, encoding: Encoding) -> None:
        if encoding.kind == "int16" and any(encoding.quantization.zero_points):
            self._walk.refuse(
                node,
                f"its 16-bit integers mean 0 at {encoding.quantization.zero_points[0] + encoding.shift}, and TFLite's "
                f"do at {encoding.shift} alone",
                "quantize 16-bit activations symmetrically",
            )

    def _quantize(self, node: ir.Node) -> None:
        """Rounds a value that no operator rounds on its own."""
        walk, source = self._walk, node.inputs[0]
        encoding = self._encoding(node.outputs[0])
        if source is None or encoding is None or len(encoding.quantization.scales) > 1:
            walk.refuse(node, "its scale is not one constant", "quantize activations with one scale per tensor")
        self._check_middle(node, encoding)
        integer = walk.encoding(source) is not None
        placed = walk.place(source, integer=integer)
        tensor = walk.draft.tensors[placed.tensor]
        if tensor.quantization == encoding.quantization and tensor.type == encoding.type:
            walk.give(node.outputs[0], placed.tensor, placed.order)
            return
        made = walk.draft.tensor(node.outputs[0].name or "", encoding.type, tensor.shape, encoding.quantization)
        walk.emit("QUANTIZE", (placed.tensor,), (made,))
        walk.give(node.outputs[0], made, placed.order)


def _is_picture(value: ir.Value) -> bool:
    """Whether what reads an input, seen through quantizers and maps, computes on pictures."""
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        for use in each.uses():
            if use.node.op_type in PICTURE_OPERATORS:
                return True
            if use.node.op_type in SEEN_THROUGH and use.node.outputs[0] not in seen:
                seen.add(use.node.outputs[0])
                waiting.append(use.node.outputs[0])
    return False


PICTURE_OPERATORS = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "DepthToSpace"}
)
SEEN_THROUGH = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Add", "Sub", "Mul", "Div", "Pad", "Cast", "Relu", "Clip"}
)
