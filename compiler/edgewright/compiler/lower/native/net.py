"""A net as kernels see it: tensors with a fixed shape in memory order, and layers that know nothing of ONNX.

Axes are in memory order everywhere: a picture is (N, H, W, C). Whoever makes a layer has resolved layouts, shapes,
broadcasting and constants; nothing here depends on a machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .expression import Accumulator, Expression

Dtype = Literal["f32", "f16", "u8", "s8", "s16", "u16", "s32", "s64", "bool"]
"""`bool` is a byte, 0 or 1. `f16` and `s16` are storage only; `s64` holds indices and sizes."""
ITEM_BYTES: dict[Dtype, int] = {
    "f32": 4, "f16": 2, "u8": 1, "s8": 1, "s16": 2, "u16": 2, "s32": 4, "s64": 8, "bool": 1,
}  # fmt: skip
NUMPY: dict[Dtype, Any] = {
    "f32": np.float32, "f16": np.float16, "u8": np.uint8, "s8": np.int8, "s16": np.int16, "u16": np.uint16,
    "s32": np.int32, "s64": np.int64, "bool": np.bool_,
}  # fmt: skip
Array = NDArray[Any]


@dataclass(frozen=True)
class Border:
    """Rows and columns around the picture of a 4-D tensor that hold one value: padding that lies in the buffer."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0
    value: float = 0.0
    """In the tensor's own integers where it is quantized (its zero point)."""

    def __bool__(self) -> bool:
        return bool(self.top or self.left or self.bottom or self.right)


NO_BORDER = Border()


@dataclass(frozen=True)
class Tensor:
    """A value in memory: row-major, innermost axis last, with an optional border around axes 1 and 2 of four.

    A pointer to a tensor points at the first element of its *buffer*, border included; `origin` is where element
    (0, 0, 0, 0) lies in it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "f32"
    border: Border = NO_BORDER

    @property
    def buffer_shape(self) -> tuple[int, ...]:
        """The shape with its border."""
        if not self.border:
            return self.shape
        batch, height, width, channels = self.shape
        border = self.border
        return batch, height + border.top + border.bottom, width + border.left + border.right, channels

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements, one per axis."""
        shape = self.buffer_shape
        return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))

    @property
    def origin(self) -> int:
        """Elements before the first one that is not border."""
        if not self.border:
            return 0
        _, row, column, _ = self.strides
        return self.border.top * row + self.border.left * column

    @property
    def elements(self) -> int:
        """Without the border."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Of the buffer."""
        return math.prod(self.buffer_shape) * ITEM_BYTES[self.dtype]


SUM = Accumulator()


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What becomes of a sum before it is stored: bias, activation, residual, requantization.

    `value` is of kind f32 for f32 and f16 outputs, of kind s32 (in the output's range) for integers.
    """

    value: Expression = SUM
    rows: tuple[Array, ...] = ()
    """float32 or int32, one number per output channel each."""
    beside: tuple[Tensor, ...] = ()
    """Of the shape of the layer's output."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution:
    """x (N, H, W, C), weight (K, KH, KW, C / groups) -> y (N, OH, OW, K).

    f32: sums of products. Integers: sums of (x - x_zero_point) * weight in int32, exact. The window of output (0, 0)
    begins at row -top, column -left of x; x has a border wide enough, so that no window leaves its buffer.
    """

    x: Tensor
    y: Tensor
    weight: Array
    """float32 or int8."""
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    top: int = 0
    left: int = 0
    groups: int = 1
    x_zero_point: int = 0
    epilogue: Epilogue = Epilogue()
    origin: str = ""
    """Names of the nodes it comes from."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.x, *self.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel reads one input channel, its own."""
        return self.groups == self.x.shape[-1] == self.weight.shape[0] and self.groups > 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense:
    """x (..., C), weight (K, C) -> y (..., K): matrix products and pointwise convolutions of stride 1 alike.

    Leading axes of x and y are the same; four-axis tensors may have borders.
    """

    x: Tensor
    y: Tensor
    weight: Array
    """float32, float16 (converted when it is read) or int8."""
    x_zero_point: int = 0
    epilogue: Epilogue = Epilogue()
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.x, *self.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Separable:
    """A depthwise convolution and the pointwise product that reads it, row by row, so that rows between stay in cache.

    `depthwise.y` has no memory of its own.
    """

    depthwise: Convolution
    pointwise: Dense

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.depthwise.x, *self.depthwise.epilogue.beside, *self.pointwise.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.pointwise.y,)

    @property
    def origin(self) -> str:
        return f"{self.depthwise.origin} + {self.pointwise.origin}"


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul:
    """a (..., M, C) or, transposed, (..., C, M); b (..., C, K) or (..., K, C) -> y (..., M, K); neither is constant.

    Leading axes of a and b are those of y, or 1. Rows of the epilogue are per K.
    """

    a: Tensor
    b: Tensor
    y: Tensor
    a_transposed: bool = False
    b_transposed: bool = False
    epilogue: Epilogue = Epilogue()
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.a, self.b, *self.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False)
class Operand:
    """What an element-wise layer reads: a tensor or a constant, and how far it moves per step of each axis of y."""

    value: Tensor | Array
    strides: tuple[int, ...]
    """In elements, 0 where it is broadcast; for tensors counted from their origin."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Map:
    """y = value, element by element; `Beside(i)` in the expression is `operands[i]`, converted to its kind."""

    y: Tensor
    value: Expression
    operands: tuple[Operand, ...]
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(operand.value for operand in self.operands if isinstance(operand.value, Tensor))

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One strided copy: for every index i below `extents`, y[y_start + i * y_strides] = x[x_start + i * x_strides].

    Starts and strides are in elements from the origin; an x stride may be 0 (expand) or negative (reverse).
    """

    x: Tensor | Array
    extents: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    x_start: int = 0
    y_start: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Move:
    """Data that only changes its place: transpose, slice, split, concat, pad, expand, tile, depth to space.

    Where `fill` is given, all of y (border included) is set to it first.
    """

    y: Tensor
    parts: tuple[Part, ...]
    fill: float | None = None
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(part.x for part in self.parts if isinstance(part.x, Tensor))

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Alias:
    """The same bytes under another shape; no code. Neither has a border."""

    x: Tensor
    y: Tensor
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.x,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """Window maxima or means of x (N, H, W, C) -> y (N, OH, OW, C).

    A mean divides by the window's size, or, with `count_border` false, by the part of it that lies inside x. Maxima of
    a bordered x read the border (its value is the lowest of the type).
    For integers a mean's accumulator is the s32 sum of (x - x_zero_point) and the epilogue does the rest; for maxima it
    is the raw integer.
    """

    kind: Literal["max", "mean"]
    x: Tensor
    y: Tensor
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    top: int = 0
    left: int = 0
    count_border: bool = True
    x_zero_point: int = 0
    epilogue: Epilogue = Epilogue()
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.x, *self.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduce:
    """Over some axes of x, kept with size 1 in y; integers are summed in int32 after x_zero_point is taken off."""

    kind: Literal["sum", "mean", "max", "min", "prod", "sum_square", "argmax", "argmin"]
    x: Tensor
    y: Tensor
    axes: tuple[int, ...]
    x_zero_point: int = 0
    epilogue: Epilogue = Epilogue()
    """Rows are per innermost axis of y. A mean of floats is divided before the epilogue, of integers by it."""
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.x, *self.epilogue.beside

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax:
    """Along the last axis; float32."""

    x: Tensor
    y: Tensor
    logarithm: bool = False
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.x,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalize:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift along the last `axes` axes; float32.

    `centred` false leaves the mean out (RMS norm). scale and shift have the shape of those axes, flattened.
    """

    x: Tensor
    y: Tensor
    axes: int
    epsilon: float
    scale: Array | None = None
    shift: Array | None = None
    centred: bool = True
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.x,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather:
    """y (outer, indices, inner) = x (outer, rows, inner) at indices s64 or s32; negative ones count from the end.

    An index outside is held to the nearest row: a device must not read beyond a buffer.
    """

    x: Tensor | Array
    indices: Tensor
    y: Tensor
    outer: int
    rows: int
    inner: int
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.indices,) if not isinstance(self.x, Tensor) else (self.x, self.indices)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Resize:
    """x (N, H, W, C) -> y (N, OH, OW, C): per output row (column) two source rows (columns) and the second's weight."""

    x: Tensor
    y: Tensor
    rows: tuple[tuple[int, int, float], ...]
    columns: tuple[tuple[int, int, float], ...]
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.x,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.y,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recurrent:
    """LSTM or GRU of one direction; x (T, N, C) -> y (T, N, H), last state(s) (N, H).

    Weights are in ONNX's gate order: LSTM iofc, GRU zrh. `initial` are h (and c), None for zeros.
    """

    kind: Literal["lstm", "gru"]
    x: Tensor
    y: Tensor | None
    last: tuple[Tensor | None, ...]
    weight: Array
    """(gates * H, C) float32."""
    recurrence: Array
    """(gates * H, H) float32."""
    bias: Array
    """(2, gates * H) float32: of the input and of the recurrence."""
    initial: tuple[Tensor | None, ...] = ()
    reverse: bool = False
    linear_before_reset: bool = False
    origin: str = ""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.x, *(tensor for tensor in self.initial if tensor is not None)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in (self.y, *self.last) if tensor is not None)


Layer = (
    Convolution
    | Dense
    | Separable
    | MatMul
    | Map
    | Move
    | Alias
    | Pool
    | Reduce
    | Softmax
    | Normalize
    | Gather
    | Resize
    | Recurrent
)


@dataclass(frozen=True)
class Net:
    """A whole model for one batch size; layers in the order in which they run."""

    inputs: tuple[Tensor, ...]
    """In the caller's shape and order, without borders."""
    outputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
