"""Types in which LiteRT's kernels compute where nothing is quantized.

Measured with LiteRT 2.3: a kernel that lacks a type refuses it when the model is loaded, or ends the process.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from .walk import Walk

FLOAT: Final = frozenset({"FLOAT32"})
BOOL: Final = frozenset({"BOOL"})
FLOAT_INT32: Final = frozenset({"FLOAT32", "INT32"})
NUMBERS: Final = frozenset({"FLOAT32", "INT32", "INT64"})
ANY: Final = frozenset({"FLOAT32", "INT32", "INT64", "BOOL"})

TYPES: Final = {
    "ADD": NUMBERS,
    "SUB": NUMBERS,
    "MUL": NUMBERS,
    "DIV": FLOAT_INT32,
    "POW": FLOAT_INT32,
    "MAXIMUM": NUMBERS | {"INT8", "UINT8", "INT16"},
    "MINIMUM": NUMBERS | {"INT8", "UINT8", "INT16"},
    "FLOOR_MOD": NUMBERS | {"INT8", "INT16"},
    "EQUAL": ANY,
    "NOT_EQUAL": ANY,
    "LESS": NUMBERS,
    "LESS_EQUAL": NUMBERS,
    "GREATER": NUMBERS,
    "GREATER_EQUAL": NUMBERS,
    "LOGICAL_AND": BOOL,
    "LOGICAL_OR": BOOL,
    "LOGICAL_NOT": BOOL,
    "SELECT_V2": ANY | {"FLOAT16", "FLOAT64", "INT8", "UINT8", "INT16"},
    "ABS": FLOAT_INT32,
    "NEG": NUMBERS,
    "SIGN": FLOAT_INT32,
    "MEAN": FLOAT,  # integers are divided otherwise than in ONNX where the sum is negative
    "SUM": NUMBERS,
    "REDUCE_MAX": NUMBERS | {"INT8", "UINT8", "INT16"},
    "REDUCE_MIN": NUMBERS | {"INT8", "UINT8", "INT16"},
    "REDUCE_PROD": NUMBERS,
    "ARG_MAX": FLOAT_INT32 | {"INT8", "UINT8"},
    "ARG_MIN": FLOAT_INT32 | {"INT8", "UINT8"},
    "TOPK_V2": NUMBERS | {"INT8", "UINT8", "INT16"},
    "CUMSUM": NUMBERS,
}
"""Operators that are not here compute floats alone."""

MAX_BROADCAST_RANK: Final = 6
"""Of the kernels of binary operators and SELECT_V2 in LiteRT 2.3; older ones stop at 4 or 5 for some."""


def check_type(walk: Walk, node: ir.Node, kind: str, tensor: int) -> None:
    """Refuses a type of numbers for which TFLite's operator has no kernel.

    Raises:
        UnsupportedModel: there is none.
    """
    held = walk.draft.tensors[tensor]
    if held.quantization is None and held.type not in TYPES.get(kind, FLOAT):
        fitting = " or ".join(sorted(TYPES.get(kind, FLOAT))).lower()
        walk.refuse(
            node, f"it computes {held.type.lower()}, and TFLite's {kind} does not", f"cast to {fitting} before it"
        )
