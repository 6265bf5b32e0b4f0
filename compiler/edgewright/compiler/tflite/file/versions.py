"""Versions of operators.

A runtime refuses an operator whose version it does not know, so each gets the lowest that has what it uses.

`min_runtime_version` in the metadata is not written: no runtime reads it, versions of operators say the same more
exactly, and its table of release numbers ended with TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from .model import Model, Operator
from .uses import Use
from .version_rules import RULES


def versioned(model: Model) -> Model:
    """The model with the versions that its types and options ask for, one per type of operator as converters write it.

    A version that an operator already has is never lowered.
    """
    versions: dict[str, int] = {}
    for operator in model.operators:
        asked = max(operator.version, version_of(model, operator))
        versions[operator.type] = max(versions.get(operator.type, 1), asked)
    return replace(
        model,
        operators=tuple(
            operator if operator.type == "CUSTOM" else replace(operator, version=versions[operator.type])
            for operator in model.operators
        ),
    )


def version_of(model: Model, operator: Operator) -> int:
    """The lowest version of a builtin operator that has what this one uses; 1 for custom operators."""
    use = Use(model, operator)
    if operator.type in RULES:
        return RULES[operator.type](use)
    by_type = _BY_INPUT.get(operator.type, {})
    return by_type.get(use.input(0), by_type.get("", 1))


_SECOND: Final = {"INT8": 2}
_SECOND_AND_THIRD: Final = {"INT8": 2, "INT16": 3}
_INTEGERS_SECOND: Final = {"INT8": 2, "INT16": 2}
_BOOLEANS_THIRD: Final = {"INT8": 2, "BOOL": 3}
_UNSIGNED_FOURTH: Final = {"INT8": 2, "INT16": 3, "UINT32": 4}

_BY_INPUT: Final[Mapping[str, Mapping[str, int]]] = {
    **dict.fromkeys(
        (
            *("AVERAGE_POOL_2D", "MAX_POOL_2D", "SOFTMAX", "MEAN", "MIRROR_PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU6"),
            *("RSQRT", "TANH", "LOGISTIC", "LESS", "GREATER_EQUAL"),
        ),
        _SECOND_AND_THIRD,
    ),
    **dict.fromkeys(
        (
            *("SPACE_TO_DEPTH", "SPLIT_V", "SUM", "LOG_SOFTMAX", "GREATER", "LESS_EQUAL", "SQUARED_DIFFERENCE"),
            *("DEPTH_TO_SPACE", "NOT_EQUAL", "L2_NORMALIZATION"),
        ),
        _SECOND,
    ),
    **dict.fromkeys(("EXP", "LOG", "REDUCE_PROD", "FLOOR_MOD"), _INTEGERS_SECOND),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _BOOLEANS_THIRD),
    **dict.fromkeys(("CONCATENATION", "PACK"), _UNSIGNED_FOURTH),
    "BROADCAST_TO": {"": 2, "INT8": 3, "INT16": 3},
    "EQUAL": {"INT8": 2, "INT16": 4},
    "FLOOR_DIV": {"FLOAT32": 2, "INT8": 3, "INT16": 3},
    "GELU": {"INT8": 2, "UINT8": 2},
    "LEAKY_RELU": {"INT16": 2},
    "RANGE": {"INT64": 2},
    "RELU": {"INT8": 2, "UINT8": 2, "INT16": 3},
    "REVERSE_V2": {"INT8": 3, "BOOL": 2},
    "SELECT_V2": {"UINT32": 2},
    "SIGN": {"INT32": 2},
    "TILE": {"INT8": 3},
    "UNPACK": {"INT8": 2, "UINT8": 2, "BOOL": 3, "INT16": 4},
    "WHERE": {"": 2, "BOOL": 1},
}
"""Versions by the type of the first input; the empty type stands for all others, for which it is else 1."""
