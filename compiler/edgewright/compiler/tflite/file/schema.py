"""Names and numbers of the TFLite schema, as the package ai-edge-litert brings them (generated from schema.fbs)."""

from __future__ import annotations

from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

IDENTIFIER: Final = b"TFL3"
SCHEMA_VERSION: Final = 3


def enumeration(name: str) -> dict[str, int]:
    """Names and numbers of an enumeration."""
    return {each: number for each, number in vars(getattr(schema, name)).items() if not each.startswith("_")}


OPERATORS: Final = enumeration("BuiltinOperator")
OPERATOR_NAMES: Final = {number: name for name, number in OPERATORS.items()}
TYPES: Final = enumeration("TensorType")
TYPE_NAMES: Final = {number: name for name, number in TYPES.items()}
OPTIONS: Final = enumeration("BuiltinOptions")
OPTION_NAMES: Final = {number: name for name, number in OPTIONS.items()}
PADDING: Final = enumeration("Padding")
ACTIVATIONS: Final = enumeration("ActivationFunctionType")

PLACEHOLDER: Final = 127
"""In the old one-byte code field: the code is in the new one."""

_IRREGULAR: Final = {
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "PADV2": "PadV2Options",
    "TOPK_V2": "TopKV2Options",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "BATCH_TO_SPACE_ND": "BatchToSpaceNDOptions",
    "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "ATAN2": "ATan2Options",
    "LSH_PROJECTION": "LSHProjectionOptions",
    "SVDF": "SVDFOptions",
    "RNN": "RNNOptions",
    "LSTM": "LSTMOptions",
    "BIDIRECTIONAL_SEQUENCE_RNN": "BidirectionalSequenceRNNOptions",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "BidirectionalSequenceLSTMOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "RANDOM_UNIFORM": "RandomOptions",
    "RANDOM_STANDARD_NORMAL": "RandomOptions",
    "MULTINOMIAL": "RandomOptions",
}


def options_of(operator: str) -> str | None:
    """Name of the option table of an operator, None where it has none."""
    regular = "".join(part.capitalize() for part in operator.split("_")) + "Options"
    name = _IRREGULAR.get(operator, regular)
    return name if name in OPTIONS else None


def new_options(table: str) -> Any:
    """A table of the schema's object interface with its default values."""
    return getattr(schema, f"{table}T")()
