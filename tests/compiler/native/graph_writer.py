"""Writes a random ONNX graph node by node and knows the value of every result, so that what follows can be chosen well.

ONNX Runtime computes each node as it is written. A node that it does not take, or whose result would be no fair
question (not finite, huge, empty, too large), is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MAX_ELEMENTS = 6000
MAX_FLOAT = 1e4
MAX_INTEGER = 10**6
KINDS = {"f": np.dtype(np.float32), "i": np.dtype(np.int64), "b": np.dtype(np.bool_)}
Array = NDArray[Any]


class Writer:
    """One graph. Its inputs have the batch as a free first axis."""

    def __init__(self, random: np.random.Generator, batch: int, opset: int = 20) -> None:
        self.random = random
        self.batch = batch
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.inputs: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        """Inputs and results."""

    def input(self, array: Array) -> str:
        """A new input; the array's first axis is the batch."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.values[name] = array
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        return name

    def whole(self, *numbers: int) -> str:
        """A constant list of int64."""
        return self.constant(np.array([int(number) for number in numbers], np.int64))

    def floats(self, *shape: int, scale: float = 1.0) -> str:
        """A constant of normal numbers."""
        return self.constant((self.random.normal(size=shape) * scale).astype(np.float32))

    def node(self, operator: str, *inputs: str, results: int = 1, domain: str = "", **attributes: Any) -> list[str]:
        """Names of the results; none where the node is left out."""
        names = [f"v{len(self.values)}_{index}" for index in range(results)]
        node = helper.make_node(operator, inputs, names, f"{operator}{len(self.nodes)}", domain=domain, **attributes)
        arrays = self._computed(node)
        if arrays is None or not all(map(_is_fair, arrays)):
            return []
        self.nodes.append(node)
        self.values.update(zip(names, arrays, strict=True))
        return names

    def pick(self, kind: str = "f", ranks: tuple[int, ...] = (1, 2, 3, 4, 5)) -> str | None:
        """A value of one of these ranks, mostly a late one."""
        found = [name for name, array in self.values.items() if array.dtype == KINDS[kind] and array.ndim in ranks]
        if not found:
            return None
        late = self.random.random() < 0.6
        return found[-1] if late else str(self.random.choice(found))

    def model(self, outputs: list[str], nodes: int | None = None) -> onnx.ModelProto:
        """The first nodes as a model, those that outputs need."""
        kept: list[onnx.NodeProto] = []
        needed = set(outputs)
        for node in reversed(self.nodes[:nodes]):
            if needed & set(node.output):
                kept.insert(0, node)
                needed |= set(node.input)
        inputs = {name: array for name, array in self.inputs.items() if name in needed}
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return self._model(kept, inputs, constants, {name: self.values[name] for name in outputs}, "N")

    def _computed(self, node: onnx.NodeProto) -> list[Array] | None:
        feeds = {name: self.values[name] for name in node.input if name in self.values}
        constants = {name: self.constants[name] for name in node.input if name in self.constants}
        try:
            found = session(self._model([node], feeds, constants, dict.fromkeys(node.output), None)).run(None, feeds)
            return [np.asarray(array) for array in found]
        except (RuntimeError, ValueError):  # ONNX Runtime's own errors are both
            return None
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime"):
                return None
            raise

    def _model(
        self,
        nodes: list[onnx.NodeProto],
        inputs: dict[str, Array],
        constants: dict[str, Array],
        outputs: dict[str, Array | None],
        batch: str | None,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "random",
            [
                _port(name, array, [batch or array.shape[0], *array.shape[1:]] if array.ndim else [])
                for name, array in inputs.items()
            ],
            [
                helper.make_value_info(name, onnx.TypeProto()) if array is None else _port(name, array, None)
                for name, array in outputs.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime without its own rewrites."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _port(name: str, array: Array, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)


def _is_fair(array: Array) -> bool:
    if not 0 < array.size <= MAX_ELEMENTS:
        return False
    if array.dtype.kind == "f":
        largest = float(np.abs(array).max())
        return bool(np.isfinite(array).all()) and (largest == 0 or 1e-4 < largest < MAX_FLOAT)
    return array.dtype.kind == "b" or int(np.abs(array.astype(np.int64)).max()) <= MAX_INTEGER
