"""Which tensor of one model is which tensor of another. Pure: it looks at the two graphs and nothing else.

A quantizer leaves names mostly alone, and takes nodes out: activations whose clipping the integers do by themselves,
normalisations and additions that go into weights. So, in this order:

1. A tensor has the counterpart of its name. Where it is rounded to integers there, what its readers see is compared:
   the DequantizeLinear behind it (called NAME_dequantized here, NAME_DequantizeLinear_Output by ONNX Runtime).
2. Around an operator that is gone, its result is what its reader sees there; what went into a gone activation is the
   tensor before rounding. What went into a gone normalisation exists no more.
3. What is left has the counterpart of the same operator and shape at the same place in the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Literal

import onnx_ir as ir

from ..graph import Graph

How = Literal["name", "absorbed", "order"]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, None})
"""None: shape inference knows nothing of operators outside the standard; what they give is seen when they run."""
ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "Sigmoid"})
ABSORBED = ACTIVATIONS | {"BatchNormalization", "Add", "Mul", "Identity", "Dropout"}
INTEGER_RESULTS = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "Shape", "Size"}
)


@dataclass(frozen=True)
class Layer:
    """One float tensor that a node makes."""

    name: str
    operator: str
    shape: tuple[int | str | None, ...] | None
    rounded: str | None = None
    """The dequantized form that its readers see, where there is one."""

    @property
    def seen(self) -> str:
        """The tensor that readers see."""
        return self.rounded or self.name


@dataclass(frozen=True)
class Pair:
    """One layer in both models."""

    name: str
    """Of the tensor in the first model."""
    operator: str
    left: str
    right: str
    how: How


@dataclass(frozen=True)
class Matching:
    """All pairs in the first model's order, and what has none."""

    pairs: tuple[Pair, ...]
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]


@dataclass
class _Search:
    left: list[Layer]
    right: list[Layer]
    found: dict[str, tuple[str, How]] = field(default_factory=dict)
    """Name on the left to tensor on the right."""

    @property
    def taken(self) -> set[str]:
        return {tensor for tensor, _ in self.found.values()}


def layers(graph: Graph) -> list[Layer]:
    """The float tensors of the main graph in its order; dequantized forms belong to the tensor that they stand for."""
    rounded = rounded_forms(graph)
    forms = set(rounded.values())
    return [
        Layer(value.name or "", node.op_type, _shape(value), rounded.get(value.name or ""))
        for node in graph.graph
        for value in node.outputs
        if value.name not in forms and _is_activation(node, value)
    ]


def rounded_forms(graph: Graph) -> dict[str, str]:
    """The tensor behind DequantizeLinear, by the name of the one before QuantizeLinear."""
    return {source.name or "": result.name or "" for source, result in _rounded(graph)}


def _rounded(graph: Graph) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Every QuantizeLinear with a DequantizeLinear behind it: what goes in, what comes out."""
    for node in graph.graph:
        source = node.inputs[0] if node.op_type == "QuantizeLinear" else None
        for use in node.outputs[0].uses() if source is not None else ():
            if source is not None and use.node.op_type == "DequantizeLinear":
                yield source, use.node.outputs[0]
                break


def _is_activation(node: ir.Node, value: ir.Value) -> bool:
    """Whether it is float and depends on the input: constants and dequantized weights do not."""
    depends = any(source is not None and source.const_value is None for source in node.inputs)
    if node.op_type.startswith("QLinear") or node.op_type in INTEGER_RESULTS or not value.name:
        return False
    return depends and value.dtype in FLOATS


def _shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """Sizes; free ones are None whatever they are called."""
    return None if value.shape is None else tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def match(left: Graph, right: Graph) -> Matching:
    """Pairs the float tensors of two graphs."""
    search = _Search(layers(left), layers(right))
    _by_name(search)
    _around_absorbed(search, left)
    _by_order(search)
    pairs = tuple(
        Pair(layer.name, layer.operator, _left_tensor(layer, how), right_name, how)
        for layer in search.left
        if layer.name in search.found
        for right_name, how in [search.found[layer.name]]
    )
    taken = search.taken
    return Matching(
        pairs=pairs,
        left_only=tuple(layer.name for layer in search.left if layer.name not in search.found),
        right_only=tuple(layer.name for layer in search.right if not {layer.name, layer.rounded} & taken),
    )


def _left_tensor(layer: Layer, how: How) -> str:
    return layer.name if how == "absorbed" else layer.seen


def _by_name(search: _Search) -> None:
    by_name = {name: layer for layer in search.right for name in (layer.rounded, layer.name) if name}
    for layer in search.left:
        other = by_name.get(layer.name) or by_name.get(layer.seen)
        if other is not None:
            search.found[layer.name] = (other.seen, "name")


def _around_absorbed(search: _Search, left: Graph) -> None:
    right = {layer.seen: layer for layer in search.right}
    known = {layer.name for layer in search.left}
    for node in left.graph:
        before = node.inputs[0] if node.inputs else None
        if node.op_type not in ABSORBED or before is None or before.name not in known or len(before.uses()) != 1:
            continue
        after = node.outputs[0].name or ""
        if after in search.found and before.name not in search.found:
            _give_before(search, before, right.get(search.found[after][0]), node)
        elif before.name in search.found and after not in search.found and after in known:
            tensor, _ = search.found.pop(before.name)
            search.found[after] = (tensor, "absorbed")
            _give_before(search, before, right.get(tensor), node)


def _give_before(search: _Search, before: ir.Value, other: Layer | None, node: ir.Node) -> None:
    """What went into a gone activation is the other tensor before rounding, if the same operator makes both."""
    producer = before.producer()
    if other is None or producer is None or node.op_type not in ACTIVATIONS or other.rounded is None:
        return
    if producer.op_type == other.operator:
        search.found[before.name or ""] = (other.name, "absorbed")


def _by_order(search: _Search) -> None:
    taken = search.taken
    numbers = {tensor: index for index, tensor in enumerate(sorted(taken))}
    left = [_key(layer, numbers.get(search.found.get(layer.name, ("",))[0])) for layer in search.left]
    right = [_key(layer, numbers.get(layer.seen, numbers.get(layer.name))) for layer in search.right]
    for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            one, other = search.left[block.a + offset], search.right[block.b + offset]
            if one.name not in search.found and other.shape is not None and not {other.name, other.rounded} & taken:
                search.found[one.name] = (other.seen, "order")


def _key(layer: Layer, matched: int | None) -> object:
    return matched if matched is not None else (layer.operator, layer.shape)
