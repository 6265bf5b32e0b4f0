"""Model to bytes. The same model gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .model import Array, Model, Operator, Port, Quantization, Tensor
from .schema import IDENTIFIER, OPERATORS, OPTIONS, PLACEHOLDER, SCHEMA_VERSION, TYPES, new_options, options_of

INITIAL_BYTES = 1 << 16


def write(model: Model) -> bytes:
    """The bytes of a .tflite file.

    Raises:
        ValueError: an operator, type or option that the schema does not have: our bug.
    """
    table = schema.ModelT()
    table.version = SCHEMA_VERSION
    table.description = model.description
    buffers = _Buffers()
    codes = sorted({_code(operator) for operator in model.operators})
    table.operatorCodes = [_code_table(code) for code in codes]
    table.subgraphs = [_subgraph(model, codes, buffers)]
    table.metadata = [_metadata(name, content, buffers) for name, content in sorted(model.metadata.items())]
    if model.signature is not None:
        table.signatureDefs = [_signature(model)]
    table.buffers = buffers.tables
    builder = flatbuffers.Builder(INITIAL_BYTES)
    builder.Finish(table.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Buffers:
    """Equal contents lie in one buffer; the first is empty, as the format wants."""

    def __init__(self) -> None:
        self.tables = [schema.BufferT()]
        self._known: dict[bytes, int] = {}

    def of(self, content: bytes) -> int:
        if content not in self._known:
            table = schema.BufferT()
            table.data = np.frombuffer(content, np.uint8)
            self._known[content] = len(self.tables)
            self.tables.append(table)
        return self._known[content]


_Code = tuple[int, str, int]


def _code(operator: Operator) -> _Code:
    return OPERATORS[operator.type], operator.custom, operator.version


def _code_table(code: _Code) -> schema.OperatorCodeT:
    table = schema.OperatorCodeT()
    table.builtinCode, custom, table.version = code
    table.customCode = custom or None
    table.deprecatedBuiltinCode = min(table.builtinCode, PLACEHOLDER)
    return table


def _subgraph(model: Model, codes: list[_Code], buffers: _Buffers) -> schema.SubGraphT:
    table = schema.SubGraphT()
    table.name = "main"
    table.tensors = [_tensor(tensor, buffers) for tensor in model.tensors]
    table.inputs = _indices(port.tensor for port in model.inputs)
    table.outputs = _indices(port.tensor for port in model.outputs)
    table.operators = [_operator(operator, codes.index(_code(operator))) for operator in model.operators]
    return table


def _tensor(tensor: Tensor, buffers: _Buffers) -> schema.TensorT:
    table = schema.TensorT()
    table.name, table.type = tensor.name, TYPES[tensor.type]
    table.shape = _indices(tensor.shape)
    table.hasRank = True
    table.isVariable = tensor.variable
    if tensor.free:
        table.shapeSignature = _indices(tensor.free)
    if tensor.data is not None:
        table.buffer = buffers.of(_little_endian(tensor.data))
    if tensor.quantization is not None:
        table.quantization = _quantization(tensor.quantization)
    return table


def _little_endian(array: Array) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _quantization(quantization: Quantization) -> schema.QuantizationParametersT:
    table = schema.QuantizationParametersT()
    table.scale = np.asarray(quantization.scales, np.float32)
    table.zeroPoint = np.asarray(quantization.zero_points, np.int64)
    table.quantizedDimension = quantization.axis
    return table


def _operator(operator: Operator, code: int) -> schema.OperatorT:
    table = schema.OperatorT()
    table.opcodeIndex = code
    table.inputs, table.outputs = _indices(operator.inputs), _indices(operator.outputs)
    if operator.custom_options:
        table.customOptions = np.frombuffer(operator.custom_options, np.uint8)
    name = options_of(operator.type)
    if name is not None:
        table.builtinOptionsType, table.builtinOptions = OPTIONS[name], new_options(name)
        for key, value in operator.options.items():
            if not hasattr(table.builtinOptions, key):
                raise ValueError(
                    f"{operator.type} has no option {key!r}: {name} has {sorted(vars(table.builtinOptions))}"
                )
            setattr(table.builtinOptions, key, _indices(value) if isinstance(value, tuple) else value)
    elif operator.options:
        raise ValueError(f"{operator.type} takes no options, found {dict(operator.options)}")
    return table


def _metadata(name: str, content: bytes, buffers: _Buffers) -> schema.MetadataT:
    table = schema.MetadataT()
    table.name, table.buffer = name, buffers.of(content)
    return table


def _signature(model: Model) -> schema.SignatureDefT:
    table = schema.SignatureDefT()
    table.signatureKey = model.signature
    table.inputs = [_port(port) for port in model.inputs]
    table.outputs = [_port(port) for port in model.outputs]
    return table


def _port(port: Port) -> schema.TensorMapT:
    table = schema.TensorMapT()
    table.name, table.tensorIndex = port.name, port.tensor
    return table


def _indices(numbers: Iterable[int]) -> Array:
    return np.asarray(tuple(numbers), np.int32)
