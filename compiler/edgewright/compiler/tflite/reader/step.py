"""One operator of a file while it is read: its inputs and options, checked before anything is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...faults import ModelError, UnsupportedModel
from ..file.model import ABSENT, Operator
from ..file.schema import ACTIVATIONS
from .orders import Order, identity
from .reading import Reading

MAX_PARAMETERS = 64
"""Elements of a constant that says axes, sizes or pads."""
MAX_OPTION = 1 << 30
PICTURE_RANK = 4
_ACTIVATION_NAMES = {number: name for name, number in ACTIVATIONS.items()}
BOUNDS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


@dataclass(frozen=True)
class Step:
    """An operator whose numbers of inputs and outputs are right."""

    reading: Reading
    operator: Operator
    index: int
    pads: tuple[tuple[int, int], tuple[int, int]] | None = None
    """Of a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, over height and width."""

    # -- messages

    @property
    def place(self) -> str:
        """Where the operator is."""
        names = ", ".join(self.reading.model.tensors[tensor].name for tensor in self.operator.outputs)
        return f"{self.reading.draft.where}: {self.operator.type} (operator {self.index}, gives {names})"

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Says that the operator has no form here.

        Raises:
            UnsupportedModel: always.
        """
        raise UnsupportedModel(f"{self.place}: {reason}; {remedy}")

    def wrong(self, reason: str) -> NoReturn:
        """Says that the file contradicts itself.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.place}: {reason}; the file is damaged, export it again")

    # -- what the file says

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.operator.inputs) and self.operator.inputs[index] != ABSENT

    def input(self, index: int) -> int:
        """The tensor of an input that the operator cannot do without."""
        if not self.has(index):
            self.wrong(f"input {index} is missing")
        return self.operator.inputs[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """Of an input, in the file's order; a free batch is 1."""
        return self.reading.model.tensors[self.input(index)].shape

    def type(self, index: int) -> str:
        """Of an input as it is computed with: constants behind DEQUANTIZE are floats."""
        return self.reading.model.tensors[self.input(index)].type

    def result_shape(self, index: int = 0) -> tuple[int, ...]:
        """Of a result as the file declares it."""
        return self.reading.model.tensors[self.operator.outputs[index]].shape

    def result_type(self) -> str:
        """Of the first result."""
        return self.reading.model.tensors[self.operator.outputs[0]].type

    def picture(self, index: int = 0) -> tuple[int, int, int, int]:
        """The shape (N, H, W, C) of an input that must be one."""
        shape = self.shape(index)
        if len(shape) != PICTURE_RANK:
            self.wrong(f"input {index} has shape {shape}, expected four axes")
        return shape[0], shape[1], shape[2], shape[3]

    def integer(self, name: str, least: int, most: int = MAX_OPTION, default: int = 0) -> int:
        """A whole number among the options."""
        value = self.operator.options.get(name, default)
        if not isinstance(value, int) or not least <= value <= most:
            self.wrong(f"option {name} is {value!r}, expected {least} to {most}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number among the options."""
        value = self.operator.options.get(name, default)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            self.wrong(f"option {name} is {value!r}, expected a finite number")
        return float(value)

    def flag(self, name: str) -> bool:
        """A switch among the options."""
        return bool(self.operator.options.get(name, False))

    def row_option(self, name: str) -> tuple[int, ...]:
        """A row of whole numbers among the options; empty where it is not given."""
        value = self.operator.options.get(name, ())
        if not isinstance(value, tuple) or len(value) > MAX_PARAMETERS or not all(isinstance(n, int) for n in value):
            self.wrong(f"option {name} is not a short row of whole numbers")
        return tuple(int(each) for each in value)

    def numbers(self, index: int) -> tuple[int, ...]:
        """The whole numbers of a constant input, in one row."""
        array = self.reading.known(self.input(index))
        if array is None:
            self.refuse(f"input {index} is computed", "export the model with constant shapes and axes")
        if array.dtype.kind not in "iu" or array.size > MAX_PARAMETERS:
            self.wrong(f"input {index} is {array.dtype} of shape {array.shape}, expected a few whole numbers")
        return tuple(int(each) for each in array.reshape(-1))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < rank:
            self.wrong(f"axis {axis} of {rank} axes")
        return axis % rank

    def axes(self, index: int, rank: int) -> tuple[int, ...]:
        """Axes of a constant input, sorted."""
        return tuple(sorted({self.axis(each, rank) for each in self.numbers(index)}))

    def one_type(self, *indices: int) -> None:
        """Checks that inputs have one type."""
        kinds = {self.type(index) for index in indices}
        if len(kinds) > 1:
            self.wrong(f"its inputs are {', '.join(sorted(kinds))}, expected one type")

    # -- making

    def native(self, index: int) -> Order:
        """The order in which an input was made."""
        return self.reading.native(self.input(index))

    def real(self, index: int, order: Order | None = None) -> str:
        """The numbers of an input in an order, that of the file by default."""
        return self.reading.real(self.input(index), order)

    def weights(self, index: int, order: Order) -> str:
        """The weights of a product, in an order; of the type of the data (input 0 or 2), or int8."""
        data = 2 if self.operator.type == "TRANSPOSE_CONV" else 0
        if self.type(index) != "INT8":
            self.one_type(data, index)
        value = self.real(index, order)
        if (self.type(data), self.type(index)) == ("FLOAT32", "INT8"):
            self.reading.hybrid.add(value)
        return value

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node; returns its result."""
        return self.reading.draft.node(op_type, inputs, self._label, **attributes)

    def row(self, *numbers: int) -> str:
        """Axes, sizes or pads as a constant."""
        return self.reading.draft.integers(numbers, f"{self._label}_parameter")

    def scalar(self, number: float) -> str:
        """A float32 constant."""
        return self.reading.draft.small(np.asarray(number, np.float32), f"{self._label}_number")

    def rounded(self, value: str, like: int) -> str:
        """A value between two steps of one operator that only moves: rounded as this tensor is, where it is."""
        encoding, kind = self.reading.encoding(like), self.reading.tensor(like).type
        if encoding is None:
            return value
        integers = self.reading.quantized(value, kind, encoding, self._label)
        return self.reading.dequantized(integers, kind, encoding, self._label)

    def finish(self, value: str, order: Order | None = None, index: int = 0) -> None:
        """Says that a value is a result, as long as it is not rounded."""
        shape = self.result_shape(index)
        order = identity(len(shape)) if order is None else order
        if len(order) != len(shape):
            self.wrong(f"its result has shape {shape}, expected {len(order)} axes")
        self.reading.give(self.operator.outputs[index], value, order)

    def activated(self, value: str) -> str:
        """The value with the operator's own activation behind it."""
        number = self.integer("fusedActivationFunction", 0, 127)
        name = _ACTIVATION_NAMES.get(number, str(number))
        return self.activation(name, value)

    def activation(self, name: str, value: str) -> str:
        """One of the clamps that operators have built in."""
        if name == "NONE":
            return value
        if name == "RELU":
            return self.node("Relu", value)
        if name not in BOUNDS:
            self.refuse(f"its activation {name} is not taken", "export the model with the activation as an operator")
        low, high = BOUNDS[name]
        return self.node("Clip", value, self.scalar(low), self.scalar(high))

    @property
    def _label(self) -> str:
        outputs = self.operator.outputs
        return self.reading.model.tensors[outputs[0]].name if outputs else self.operator.type
