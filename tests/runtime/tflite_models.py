"""Small TFLite files, written with LiteRT's own schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from .engine_bundles import TwoLayers

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}


@dataclass(frozen=True)
class Value:
    """A tensor: of the graph, or a constant where it has data."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operation:
    """An operator and the names of its tensors."""

    code: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Any = None
    options_type: int = 0
    version: int = 1
    custom: str | None = None


def tflite_file(
    values: Sequence[Value],
    operations: Sequence[Operation],
    inputs: Sequence[str],
    outputs: Sequence[str],
    signatures: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] | None = None,
) -> bytes:
    """The file. Signatures: for each key, its names of inputs and of outputs, and the tensors that they name."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    at = {value.name: index for index, value in enumerate(values)}
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(model, value) for value in values]
    graph.inputs = [at[name] for name in inputs]
    graph.outputs = [at[name] for name in outputs]
    model.operatorCodes = []
    graph.operators = []
    for index, operation in enumerate(operations):
        code = schema.OperatorCodeT()
        code.builtinCode = operation.code
        code.deprecatedBuiltinCode = min(operation.code, 127)
        code.version = operation.version
        code.customCode = operation.custom
        model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = index
        operator.inputs = [at[name] for name in operation.inputs]
        operator.outputs = [at[name] for name in operation.outputs]
        operator.builtinOptions = operation.options
        operator.builtinOptionsType = operation.options_type
        graph.operators.append(operator)
    model.subgraphs = [graph]
    model.signatureDefs = [
        _signature(key, [{name: at[tensor] for name, tensor in names.items()} for names in pair])
        for key, pair in (signatures or {}).items()
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(model: Any, value: Value) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = value.name, list(value.shape), _TYPES[value.dtype]
    if value.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.data.astype(value.dtype).tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if value.scales:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = list(value.scales)
        tensor.quantization.zeroPoint = list(value.zero_points)
    return tensor


def _signature(key: str, pair: Sequence[Mapping[str, int]]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    lists = []
    for names in pair:
        maps = []
        for name, index in names.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            maps.append(entry)
        lists.append(maps)
    signature.inputs, signature.outputs = lists
    return signature


def dense(inputs: tuple[str, ...], output: str, *, relu: bool = False, version: int = 1) -> Operation:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = 1 if relu else 0
    code = schema.BuiltinOperator.FULLY_CONNECTED
    return Operation(code, inputs, (output,), options, schema.BuiltinOptions.FullyConnectedOptions, version)


def two_layers_file(net: TwoLayers, batch: int = 1, **signatures: Any) -> bytes:
    """The classifier in float32."""
    hidden, features = net.first.shape
    classes = net.second.shape[0]
    values = [
        Value("image", (batch, features)),
        Value("first", net.first.shape, data=net.first),
        Value("shift", net.shift.shape, data=net.shift),
        Value("hidden", (batch, hidden)),
        Value("second", net.second.shape, data=net.second),
        Value("none", (classes,), data=np.zeros(classes, np.float32)),
        Value("scores", (batch, classes)),
    ]
    operations = [
        dense(("image", "first", "shift"), "hidden", relu=True),
        dense(("hidden", "second", "none"), "scores"),
    ]
    return tflite_file(values, operations, ["image"], ["scores"], **signatures)


def convolution_file(weights: NDArray[np.float32], height: int, width: int) -> bytes:
    """`x [1, height, width, in] -> y [1, height, width, out]`; weights [out, rows, columns, in], padding SAME."""
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    outputs, _, _, inputs = weights.shape
    values = [
        Value("x", (1, height, width, inputs)),
        Value("w", weights.shape, data=weights),
        Value("b", (outputs,), data=np.zeros(outputs, np.float32)),
        Value("y", (1, height, width, outputs)),
    ]
    code, kind = schema.BuiltinOperator.CONV_2D, schema.BuiltinOptions.Conv2DOptions
    return tflite_file(values, [Operation(code, ("x", "w", "b"), ("y",), options, kind)], ["x"], ["y"])


def quantize_file(size: int, dtype: str, scale: float, zero_point: int) -> bytes:
    """`x float32 [1, size] -> y [1, size]` by TFLite's own QUANTIZE."""
    values = [Value("x", (1, size)), Value("y", (1, size), dtype, None, (scale,), (zero_point,))]
    operation = Operation(
        schema.BuiltinOperator.QUANTIZE,
        ("x",),
        ("y",),
        schema.QuantizeOptionsT(),
        schema.BuiltinOptions.QuantizeOptions,
    )
    return tflite_file(values, [operation], ["x"], ["y"])


def int8_dense_file(
    weights: NDArray[np.int8], *, input_scale: float = 0.02, input_zero_point: int = -3, output_zero_point: int = 5
) -> bytes:
    """`x int8 [1, in] -> y int8 [1, out]`; weights have scale 0.01, outputs 0.1."""
    classes, features = weights.shape
    values = [
        Value("x", (1, features), "int8", None, (input_scale,), (input_zero_point,)),
        Value("w", weights.shape, "int8", weights, (0.01,), (0,)),
        Value("b", (classes,), "int32", np.zeros(classes), (input_scale * 0.01,), (0,)),
        Value("y", (1, classes), "int8", None, (0.1,), (output_zero_point,)),
    ]
    return tflite_file(values, [dense(("x", "w", "b"), "y", version=4)], ["x"], ["y"])
