"""What a .tflite file says, without flatbuffers: tensors, operators in order, and who sees which of them.

Names of types, operators and option fields are those of the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs).
One subgraph: control flow is not taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
OptionValue = int | float | bool | str | tuple[int, ...] | tuple[float, ...]
Options = Mapping[str, OptionValue]

ABSENT: Final = -1
"""Index of an optional input that is not given."""

NUMPY: Final[dict[str, type[np.generic]]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
}
"""Types whose elements take whole bytes; tensors of others are refused on reading."""
TYPE_OF_NUMPY: Final[Mapping[str, str]] = {np.dtype(kind).name: name for name, kind in NUMPY.items()}


@dataclass(frozen=True)
class Quantization:
    """real = (integer - zero_point) * scale; one pair, or one per index of `axis`."""

    scales: tuple[float, ...]
    """As float32 holds them."""
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor: an activation, or a constant with its data."""

    name: str
    type: str
    shape: tuple[int, ...]
    free: tuple[int, ...] = ()
    """`shape_signature`: the shape with -1 where a caller may resize; empty where nothing is free."""
    data: Array | None = None
    quantization: Quantization | None = None
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator; inputs and outputs are indices of tensors."""

    type: str
    """`CONV_2D` and so on; `CUSTOM` has its name in `custom`."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options = field(default_factory=dict)
    """Fields of the operator's option table that differ from their defaults, at least."""
    version: int = 1
    custom: str = ""
    custom_options: bytes = b""


@dataclass(frozen=True)
class Port:
    """A tensor by the name under which callers know it."""

    name: str
    tensor: int


@dataclass(frozen=True)
class Model:
    """All of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    description: str = ""
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    signature: str | None = None
    """Key of the signature; None where the file has none, and ports are named as their tensors."""
