"""Model to bytes. The same model gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...faults import UnsupportedModel
from .buffers import MAX_FILE_BYTES, Buffers
from .model import Array, Model, Operator, Port, Quantization, Tensor
from .schema import IDENTIFIER, OPERATORS, OPTIONS, PLACEHOLDER, SCHEMA_VERSION, TYPES, new_options, options_of

EXPECTED_TABLE_BYTES: Final = 512
"""Of one tensor, operator or port; where it is more, the builder copies what it has into twice the space."""


def write(model: Model) -> bytes:
    """The bytes of a .tflite file. Ports have their names in the signature, in the model's order.

    Raises:
        UnsupportedModel: the file would have 2 GiB or more.
        ValueError: an operator, type or option that the schema does not have, or two ports of one name: our bug.
    """
    buffers = Buffers()
    table = _model(model, buffers)
    tables = len(model.tensors) + len(model.operators) + len(model.inputs) + len(model.outputs) + len(model.metadata)
    expected = buffers.size_bytes + EXPECTED_TABLE_BYTES * (tables + len(buffers.tables) + 1)
    builder = flatbuffers.Builder(min(expected, MAX_FILE_BYTES))
    try:
        builder.Finish(table.Pack(builder), IDENTIFIER)
    except flatbuffers.builder.BuilderSizeError as error:
        raise UnsupportedModel(
            f"the .tflite file would have more than the {MAX_FILE_BYTES} bytes that the format allows: store weights "
            "in int8 or half precision, or split the model"
        ) from error
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


def _model(model: Model, buffers: Buffers) -> schema.ModelT:
    table = schema.ModelT()
    table.version = SCHEMA_VERSION
    table.description = model.description
    codes = sorted({_code(operator) for operator in model.operators})
    table.operatorCodes = [_code_table(code) for code in codes]
    table.subgraphs = [_subgraph(model, {code: index for index, code in enumerate(codes)}, buffers)]
    table.metadata = [_metadata(name, content, buffers) for name, content in sorted(model.metadata.items())]
    if model.signature is not None:
        table.signatureDefs = [_signature(model, model.signature)]
    table.buffers = buffers.tables
    return table


_Code = tuple[int, str, int]


def _code(operator: Operator) -> _Code:
    return OPERATORS[operator.type], operator.custom, operator.version


def _code_table(code: _Code) -> schema.OperatorCodeT:
    table = schema.OperatorCodeT()
    table.builtinCode, custom, table.version = code
    table.customCode = custom or None
    table.deprecatedBuiltinCode = min(table.builtinCode, PLACEHOLDER)
    return table


def _subgraph(model: Model, codes: Mapping[_Code, int], buffers: Buffers) -> schema.SubGraphT:
    table = schema.SubGraphT()
    table.name = "main"
    table.tensors = [_tensor(tensor, buffers) for tensor in model.tensors]
    table.inputs = _indices(port.tensor for port in model.inputs)
    table.outputs = _indices(port.tensor for port in model.outputs)
    table.operators = [_operator(operator, codes[_code(operator)]) for operator in model.operators]
    return table


def _tensor(tensor: Tensor, buffers: Buffers) -> schema.TensorT:
    table = schema.TensorT()
    table.name, table.type = tensor.name, TYPES[tensor.type]
    table.shape = _indices(tensor.shape)
    table.hasRank = True
    table.isVariable = tensor.variable
    if tensor.free:
        table.shapeSignature = _indices(tensor.free)
    if tensor.data is not None:
        table.buffer = buffers.of(tensor.data, tensor.name)
    if tensor.quantization is not None:
        table.quantization = _quantization(tensor.quantization)
    return table


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
            # A list takes the element type that the schema names, an array its own.
            setattr(table.builtinOptions, key, list(value) if isinstance(value, tuple) else value)
    elif operator.options:
        raise ValueError(f"{operator.type} takes no options, found {dict(operator.options)}")
    return table


def _metadata(name: str, content: bytes, buffers: Buffers) -> schema.MetadataT:
    table = schema.MetadataT()
    table.name, table.buffer = name, buffers.of(np.frombuffer(content, np.uint8), name)
    return table


def _signature(model: Model, key: str) -> schema.SignatureDefT:
    for ports in (model.inputs, model.outputs):
        if len({port.name for port in ports}) != len(ports):
            raise ValueError(f"two ports of one name: {[port.name for port in ports]}")
    table = schema.SignatureDefT()
    table.signatureKey = key
    table.inputs = [_port(port) for port in model.inputs]
    table.outputs = [_port(port) for port in model.outputs]
    return table


def _port(port: Port) -> schema.TensorMapT:
    table = schema.TensorMapT()
    table.name, table.tensorIndex = port.name, port.tensor
    return table


def _indices(numbers: Iterable[int]) -> Array:
    return np.asarray(tuple(numbers), np.int32)
