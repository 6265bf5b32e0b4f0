"""TFLite's rules: on an NPU nothing computes in float, so everything that can be integer is.

Which operators have integer kernels says the table of the emitter. All results are rounded, also of matrix products and
at the graph's outputs, and which numbers they get says `tflite_encodings.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ...attributes import number
from ...clamp import bounds_of
from ...graph import Graph
from ...tflite.emitter.operators import OPERATORS
from ...tflite.emitter.patterns import Pattern, pattern_with
from ...tflite.emitter.sites import CLAMPS, FLOATS, FUSED, Form
from ...tflite.file.model import Array
from ..calibration.statistics import Statistics
from ..capability import INPUT_NORMALIZATION_PREFIX
from ..plan import Encoding, Plan
from ..scheme import ActivationType, Calibrator, Scheme
from ..weights import is_finite, weight_array
from .rules import Choice, Complaint, finite_range
from .tflite_check import complaints
from .tflite_encodings import Rounded, encodings
from .tflite_facts import AVERAGING, JOINING, KEEPING, kind_of

DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})


class TFLiteRules:
    """Facts of LiteRT's reference kernels, as the emitter's table has them."""

    hard_sigmoid_is_addition = False

    def __init__(self, activations: ActivationType) -> None:
        """Raises ValueError for activations that TFLite does not have."""
        self._kind = kind_of(activations)

    def has_integer_kernel(self, node: ir.Node) -> bool:
        """Whether the emitter writes an integer operator, given that all it reads and gives is rounded."""
        if (node.name or "").startswith(INPUT_NORMALIZATION_PREFIX) or not node.outputs:
            return False
        if self._pattern(node) is not None:
            return True
        form = self._form(node)
        if form is None or self._kind not in form.integers or not form.suits(node, _constant_of):
            return False
        computed = any(value.const_value is None for _, value in _floats(node))
        return computed and all(_is_roundable(node, index) for index in _weights(node, form))

    def is_product(self, node: ir.Node) -> bool:
        """Operators with a weight, and matrix products of two activations."""
        form = self._form(node)
        return form is not None and (form.weight is not None or form.product)

    def keeps_encoding(self, node: ir.Node) -> bool:
        """What moves values, averages or picks some of them."""
        return node.op_type in KEEPING

    def is_tied(self, node: ir.Node) -> bool:
        """What joins, and pools that average."""
        return node.op_type in AVERAGING | JOINING

    def together(self, node: ir.Node) -> tuple[ir.Node, ...]:
        """The nodes of a pattern."""
        found = self._pattern(node)
        return (node,) if found is None else tuple(found.nodes)

    def absorbed_activation(self, node: ir.Node) -> ir.Node | None:
        """A clamp that the kernel has built in; in 8 bits also one that the rounding behind it does."""
        form = self._form(node)
        if form is None or not form.fuses or self._pattern(node) is not None:
            return None
        result = node.outputs[0]
        uses = list(result.uses())
        if len(uses) != 1 or result.is_graph_output() or uses[0].idx != 0 or uses[0].node.op_type not in CLAMPS:
            return None
        clamp = uses[0].node
        bounds = bounds_of(clamp)
        if clamp.graph is not node.graph or bounds is None or not bounds[0] <= 0 <= bounds[1]:
            return None
        return clamp if bounds in FUSED or self._kind == "int8" else None

    def activations_of(self, node: ir.Node) -> list[ir.Value]:
        """Computed inputs, and constants that the kernel reads as integers too."""
        pattern = self._pattern(node)
        if pattern is not None:
            return [value for value in node.inputs if value is pattern.source]
        form = self._form(node) or Form()
        weights = _weights(node, form)
        found = [value for index, value in _floats(node) if index not in weights]
        return [value for value in found if value.const_value is None or form.all_stored]

    def choose(self, graph: Graph, statistics: Statistics, keep_float: frozenset[str]) -> Choice:
        """Everything that has an integer kernel and finite ranges."""
        asked = _whole(self, graph, keep_float)
        absorbed = {id(clamp) for node in graph.graph if (clamp := self.absorbed_activation(node)) is not None}
        nodes, left = [], {}
        for node in graph.graph:
            if id(node) in absorbed or node.name in asked:
                continue
            obstacle = self._obstacle(node, statistics)
            if obstacle is None:
                nodes.append(node)
            elif node.name and self._computes_on_floats(node):
                left[node.name] = obstacle
        return Choice(tuple(nodes), left)

    def encodings(
        self, nodes: tuple[ir.Node, ...], statistics: Statistics, scheme: Scheme, calibrator: Calibrator
    ) -> dict[str, Encoding]:
        """As `tflite_encodings.encodings`."""
        return encodings([self.rounded(node) for node in nodes], statistics, scheme, calibrator)

    def complaints(self, plan: Plan, graph: Graph) -> Iterator[Complaint]:
        """As `tflite_check.complaints`."""
        integer = (node for node in graph.graph if self._is_integer(plan, node))
        return complaints(plan, [self.rounded(node) for node in integer])

    def _is_integer(self, plan: Plan, node: ir.Node) -> bool:
        operator = plan.operators.get(node.name or "")
        return operator is not None and operator.compute == self._kind

    def rounded(self, node: ir.Node) -> Rounded:
        """What is rounded around an integer operator."""
        pattern = self._pattern(node)
        reads = tuple(self.activations_of(node))
        if pattern is not None and node is not pattern.nodes[-1]:
            return Rounded(node, reads, ())
        clamp = self.absorbed_activation(node)
        gives = node.outputs if clamp is None else (clamp.outputs[0], *node.outputs[1:])
        bounds = None if clamp is None else bounds_of(clamp)
        given = tuple(value for value in gives if value.dtype in FLOATS)
        return Rounded(node, reads, given, only_rounding_clamps=bounds is not None and bounds not in FUSED)

    def _form(self, node: ir.Node) -> Form | None:
        operator = OPERATORS.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
        return None if operator is None else operator.form

    def _pattern(self, node: ir.Node) -> Pattern | None:
        """The pattern that a node is part of, where TFLite has it in integers."""
        found = pattern_with(node)
        operator = None if found is None else OPERATORS.get(found.op_type)
        return found if operator is not None and self._kind in operator.form.integers else None

    def _obstacle(self, node: ir.Node, statistics: Statistics) -> str | None:
        if not self.has_integer_kernel(node):
            return f"TFLite has no {self._kind} form of {node.op_type} as it is used here"
        around = self.rounded(node)
        unknown = [value for value in (*around.reads, *around.gives) if not finite_range(value, statistics)]
        if unknown:
            return f"the range of {unknown[0].name!r} is not finite, or not known"
        weight = weight_array(node) if self.is_product(node) else None
        return None if weight is None or is_finite(weight) else "its weight is not finite"

    def _computes_on_floats(self, node: ir.Node) -> bool:
        """Whether float is worth a word: not for shapes and folded constants."""
        return any(value.const_value is None for _, value in _floats(node))


def _whole(rules: TFLiteRules, graph: Graph, names: frozenset[str]) -> frozenset[str]:
    """With one node of a pattern, all of them stay float: half of one has no range in between."""
    found = set(names)
    for node in graph.graph if names else ():
        pattern = pattern_with(node) if node.name in names else None
        if pattern is not None and rules.has_integer_kernel(node):
            found |= {each.name or "" for each in pattern.nodes}
    return frozenset(found)


def _floats(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Inputs that are floats, and their places."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype in FLOATS:
            yield index, value


def _weights(node: ir.Node, form: Form) -> tuple[int, ...]:
    """Places of what is rounded as a weight."""
    if form.product:
        return tuple(index for index, value in _floats(node) if index < 2 and value.const_value is not None)
    return () if form.weight is None else (form.weight,)


def _is_roundable(node: ir.Node, index: int) -> bool:
    """Whether `emit.py` can round this weight: it stands second, and no factor scales the bias beside it."""
    factors = {number(node, name, 1.0) for name in ("alpha", "beta")} if node.op_type == "Gemm" else {1.0}
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    flat = bias is None or (bias.const_value is not None and len(bias.const_value.shape) == 1)
    return index == 1 and weight_array(node) is not None and factors == {1.0} and flat


def _constant_of(value: ir.Value) -> Array | None:
    return None if value.const_value is None else value.const_value.numpy()
