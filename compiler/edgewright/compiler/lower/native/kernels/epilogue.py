"""Writes an epilogue: what becomes of a vector of sums until it lies in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..expression import Accumulator, Beside, Leaf, Row, statements, vector_type
from ..net import ITEM_BYTES, Array, Dtype, Epilogue, Tensor

Address = Callable[[Tensor], str]
"""C text: how far the vector's first element lies in a tensor's buffer, in elements."""


STORED: frozenset[Dtype] = frozenset({"f32", "s32", "u8", "s8"})
"""Types of outputs that an epilogue can end in."""


def row_constants(epilogue: Epilogue, pad_to: int) -> dict[str, Array]:
    """The rows as constants `row0`, `row1`, …, padded with zeros to a whole number of vectors."""
    padded = {}
    for index, row in enumerate(epilogue.rows):
        padded[f"row{index}"] = np.concatenate([row, np.zeros(-len(row) % pad_to, row.dtype)])
    return padded


def load(pointer: str, dtype: Dtype, kind: str, lanes: int, count: int) -> str:
    """C text: `count` elements at a pointer as a vector of `kind`, zeros beyond."""
    part = "" if count == lanes else "part_"
    tail = "" if count == lanes else f", {count}"
    if dtype == "f32":
        return f"ew_load_{part}f32x{lanes}({pointer}{tail})"
    if dtype == "s32":
        loaded = f"ew_load_{part}s32x{lanes}({pointer}{tail})"
    elif dtype in ("u8", "s8", "bool"):
        small = "s8" if dtype == "s8" else "u8"
        loaded = f"ew_widen_{small}x{lanes}(ew_load_{part}{small}x{lanes}({pointer}{tail}))"
    else:
        raise ValueError(f"no vector load of {dtype}")
    return f"ew_to_f32_s32x{lanes}({loaded})" if kind == "f32" else loaded


def store(pointer: str, dtype: Dtype, value: str, lanes: int, count: int) -> str:
    """A C statement: the first `count` elements of a vector to a pointer."""
    part = "" if count == lanes else "part_"
    tail = "" if count == lanes else f", {count}"
    if dtype in ("f32", "s32"):
        return f"ew_store_{part}{dtype}x{lanes}({pointer}, {value}{tail});"
    if dtype in ("u8", "s8", "bool"):
        small = "s8" if dtype == "s8" else "u8"
        return f"ew_store_{part}{small}x{lanes}({pointer}, ew_narrow_{small}x{lanes}({value}){tail});"
    raise ValueError(f"no vector store of {dtype} ({ITEM_BYTES[dtype]} bytes)")


def finish(
    epilogue: Epilogue,
    y: Tensor,
    accumulator: str,
    address: Address,
    channel: str,
    lanes: int,
    count: int,
    first: int = 1,
) -> list[str]:
    """C lines that apply an epilogue to `accumulator` (a vector name) and store it to `y0`.

    `channel` is the C text of the vector's first output channel; `first` the parameter number x<first> of the first
    tensor beside.
    """

    def leaf(part: Leaf) -> str:
        if isinstance(part, Accumulator):
            return accumulator
        if isinstance(part, Row):
            return f"ew_load_{vector_type(part.kind, lanes)}(row{part.index} + {channel})"
        if isinstance(part, Beside):
            tensor = epilogue.beside[part.index]
            pointer = f"x{first + part.index} + {address(tensor)}"
            return load(pointer, tensor.dtype, part.kind, lanes, count)
        raise AssertionError(f"{part} is no leaf of an epilogue")

    lines, result = statements(epilogue.value, lanes, leaf)
    return ["{", *lines, store(f"y0 + {address(y)}", y.dtype, result, lanes, count), "}"]
