"""An ONNX graph while it is written: nodes and constants are only ever added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...faults import UnsupportedModel
from ..file.model import Array

MAX_CONSTANT_BYTES = 2**31 - 2**26
"""Of all constants together: protobuf ends at 2 GiB."""


@dataclass
class Draft:
    """Nodes in order. Values are known by name."""

    where: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)
    _made: dict[str, onnx.NodeProto] = field(default_factory=dict)
    """Results that have no name of their own yet, with their nodes."""
    _small: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _constant_bytes: int = 0

    def fresh(self, name: str) -> str:
        """A name that nothing else has: `name` where it is free."""
        unique, count = name or "value", 1
        while unique in self._taken:
            unique, count = f"{name}.{count}", count + 1
        self._taken.add(unique)
        return unique

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps names for inputs and outputs."""
        self._taken.update(names)

    def node(self, op_type: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Appends a node with one result and returns the result's name."""
        return self.split(op_type, inputs, (hint,), **attributes)[0]

    def split(self, op_type: str, inputs: Sequence[str], hints: Iterable[str], **attributes: Any) -> tuple[str, ...]:
        """Appends a node with any number of results."""
        results = tuple(self.fresh(f"{hint}_{op_type}") for hint in hints)
        node = helper.make_node(op_type, list(inputs), list(results), name=results[0], **attributes)
        self.nodes.append(node)
        self._made |= dict.fromkeys(results, node)
        return results

    def named(self, value: str, name: str) -> str:
        """Calls a value `name`, which is fresh: the result of a new node, or a copy of what has a name already."""
        node = self._made.pop(value, None)
        if node is None or any(value in reader.input for reader in self.nodes[self._index(node) :]):
            return self.named(self.node("Identity", [value], name), name)
        node.output[list(node.output).index(value)] = name
        node.name = node.output[0]
        return name

    def _index(self, node: onnx.NodeProto) -> int:
        """The place of a node that was added lately."""
        return next(index for index in range(len(self.nodes) - 1, -1, -1) if self.nodes[index] is node)

    def constant(self, array: Array, hint: str) -> str:
        """A constant under a fresh name."""
        self._constant_bytes += array.nbytes
        if self._constant_bytes > MAX_CONSTANT_BYTES:
            raise UnsupportedModel(
                f"{self.where}: its constants take more than {MAX_CONSTANT_BYTES} bytes; "
                "export it as ONNX with external data"
            )
        name = self.fresh(hint)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def small(self, array: Array, hint: str) -> str:
        """A parameter: axes, sizes, scales. Equal ones are stored once."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._small:
            self._small[key] = self.constant(array, hint)
        return self._small[key]

    def integers(self, numbers: Iterable[int], hint: str) -> str:
        """Axes, sizes or pads, int64."""
        return self.small(np.asarray(tuple(numbers), np.int64), hint)
