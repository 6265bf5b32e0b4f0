"""Bytes to model. The bytes are hostile until checked.

Reading goes through the schema's accessors, which look into the bytes where an offset points: outside of them they
raise, they never crash. What they do not do is bound the work, since a vector of a million offsets may point to one
table: so every vector is measured against the file before it is walked, and all of them together against a budget.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...faults import ModelError, UnsupportedModel
from .model import ABSENT, NUMPY, Array, Model, Operator, OptionValue, Port, Quantization, Tensor
from .schema import IDENTIFIER, OPERATOR_NAMES, OPTION_NAMES, TYPE_NAMES, new_options

MAX_TENSORS = 200_000
MAX_OPERATORS = 200_000
MAX_RANK = 8
MAX_ELEMENTS = 2**31
MAX_NAME_BYTES = 4096
MAX_METADATA_BYTES = 16 << 20
BUDGET_PER_BYTE = 4
LEAST_BUDGET = 1 << 16
"""Elements of all vectors together, numbers of one byte excluded: a file without tricks has fewer than bytes."""


def read(content: bytes, where: str) -> Model:
    """The model of a .tflite file; `where` names it in messages.

    Raises:
        ModelError: these bytes are no TFLite file, or a damaged one.
        UnsupportedModel: several subgraphs, or a type of tensor that nothing here computes.
    """
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{where}: not a TFLite file: bytes 4 to 8 are {content[4:8]!r}, expected {IDENTIFIER!r}")
    try:
        return _Reader(content, where).model()
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, KeyError) as error:
        # What accessors raise where an offset points outside of the file, and numpy where a length does.
        raise ModelError(f"{where}: damaged TFLite file: {type(error).__name__}: {str(error)[:200]}") from error


class _Reader:
    """One file."""

    def __init__(self, content: bytes, where: str) -> None:
        self._content = content
        self._where = where
        self._budget = max(LEAST_BUDGET, BUDGET_PER_BYTE * len(content))

    def model(self) -> Model:
        root = schema.Model.GetRootAs(self._content, 0)
        graphs = self._length(root.SubgraphsLength())
        if graphs != 1:
            raise UnsupportedModel(
                f"{self._where}: {graphs} subgraphs; control flow (IF, WHILE) is not taken: export the model without it"
            )
        graph = root.Subgraphs(0)
        tensors = tuple(self._tensors(root, graph))
        operators = tuple(self._operators(root, graph, len(tensors)))
        inputs = self._checked(self._numbers(graph.InputsLength(), graph.InputsAsNumpy), len(tensors), "input")
        outputs = self._checked(self._numbers(graph.OutputsLength(), graph.OutputsAsNumpy), len(tensors), "output")
        names, key = self._signature(root)
        return Model(
            tensors=tensors,
            operators=operators,
            inputs=tuple(Port(names[0].get(index, tensors[index].name), index) for index in inputs),
            outputs=tuple(Port(names[1].get(index, tensors[index].name), index) for index in outputs),
            description=self._text(root.Description()),
            metadata=dict(self._metadata(root)),
            signature=key,
        )

    def _length(self, length: int) -> int:
        """Counts the elements of a vector against the budget before anything walks them."""
        self._budget -= length
        if self._budget < 0:
            raise ModelError(f"{self._where}: damaged TFLite file: its vectors are longer than the file")
        return length

    def _numbers(self, length: int, numbers: Callable[[], Any]) -> tuple[int, ...]:
        return tuple(int(number) for number in numbers()) if self._length(length) else ()

    def _text(self, text: bytes | None) -> str:
        content = text or b""
        if len(content) > MAX_NAME_BYTES:
            raise ModelError(f"{self._where}: a name of {len(content)} bytes; at most {MAX_NAME_BYTES} are read")
        return content.decode("utf-8", errors="replace")

    def _tensors(self, root: Any, graph: Any) -> Iterator[Tensor]:
        count = self._length(graph.TensorsLength())
        if count > MAX_TENSORS:
            raise ModelError(f"{self._where}: {count} tensors; at most {MAX_TENSORS} are read")
        for index in range(count):
            yield self._tensor(root, graph.Tensors(index), index)

    def _tensor(self, root: Any, table: Any, index: int) -> Tensor:
        kind = TYPE_NAMES.get(table.Type(), str(table.Type()))
        name = self._text(table.Name()) or f"tensor{index}"
        shape = self._shape(self._numbers(table.ShapeLength(), table.ShapeAsNumpy), name)
        free = self._numbers(table.ShapeSignatureLength(), table.ShapeSignatureAsNumpy)
        if kind not in NUMPY:
            raise UnsupportedModel(
                f"{self._where}: tensor {name!r} is {kind}, which nothing here computes; export the model with float "
                "or 8- and 16-bit integer tensors"
            )
        if table.Sparsity() is not None:
            raise UnsupportedModel(
                f"{self._where}: tensor {name!r} is stored sparse; export the model with dense weights"
            )
        return Tensor(
            name=name,
            type=kind,
            shape=shape,
            free=free if -1 in free and len(free) == len(shape) else (),
            data=self._data(root, table, kind, shape, name),
            quantization=self._quantization(table.Quantization(), kind, shape, name),
            variable=bool(table.IsVariable()),
        )

    def _shape(self, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
        if len(shape) > MAX_RANK or any(size < 0 for size in shape) or _product(shape) > MAX_ELEMENTS:
            raise ModelError(
                f"{self._where}: tensor {name!r} has shape {shape}; expected at most {MAX_RANK} sizes of at least "
                f"0 and at most {MAX_ELEMENTS} elements"
            )
        return shape

    def _data(self, root: Any, table: Any, kind: str, shape: tuple[int, ...], name: str) -> Array | None:
        if not 0 <= table.Buffer() < self._length_of_buffers(root):
            raise ModelError(f"{self._where}: tensor {name!r} names buffer {table.Buffer()}, which is not there")
        if not table.Buffer():
            return None
        buffer = root.Buffers(table.Buffer())
        if buffer.Offset() > 1 or table.ExternalBuffer():
            raise UnsupportedModel(
                f"{self._where}: the data of tensor {name!r} lie outside of the model; write it as one"
            )
        if not buffer.DataLength():
            return None
        content = buffer.DataAsNumpy()
        expected = _product(shape) * np.dtype(NUMPY[kind]).itemsize
        if content.nbytes != expected:
            raise ModelError(
                f"{self._where}: tensor {name!r} of shape {shape} and type {kind} takes {expected} bytes, "
                f"its buffer has {content.nbytes}"
            )
        return np.frombuffer(content.tobytes(), np.dtype(NUMPY[kind]).newbyteorder("<")).reshape(shape)

    def _length_of_buffers(self, root: Any) -> int:
        return int(root.BuffersLength())

    def _quantization(self, table: Any, kind: str, shape: tuple[int, ...], name: str) -> Quantization | None:
        if table is None or not table.ScaleLength():
            return None
        count = self._length(table.ScaleLength())
        scales = tuple(float(scale) for scale in table.ScaleAsNumpy())
        zero_points = self._numbers(table.ZeroPointLength(), table.ZeroPointAsNumpy) or (0,) * count
        axis = int(table.QuantizedDimension())
        limits = np.iinfo(np.dtype(NUMPY[kind])) if np.issubdtype(NUMPY[kind], np.integer) else None
        fits = count in (1, *(shape[axis : axis + 1] if 0 <= axis < len(shape) else ()))
        positive = all(np.isfinite(scale) and scale > 0 for scale in scales)
        inside = limits is not None and all(limits.min <= zero <= limits.max for zero in zero_points)
        if not (fits and positive and inside and len(zero_points) == count) or table.DetailsType():
            raise ModelError(
                f"{self._where}: tensor {name!r} ({kind}, shape {shape}) has a quantization that does not fit: {count} "
                f"scales, {len(zero_points)} zero points along axis {axis}; expected positive scales, one or one "
                "per index"
            )
        return Quantization(scales, zero_points, axis if count > 1 else 0)

    def _operators(self, root: Any, graph: Any, tensors: int) -> Iterator[Operator]:
        count = self._length(graph.OperatorsLength())
        if count > MAX_OPERATORS:
            raise ModelError(f"{self._where}: {count} operators; at most {MAX_OPERATORS} are read")
        for index in range(count):
            yield self._operator(root, graph.Operators(index), index, tensors)

    def _operator(self, root: Any, table: Any, index: int, tensors: int) -> Operator:
        if not 0 <= table.OpcodeIndex() < root.OperatorCodesLength():
            raise ModelError(f"{self._where}: operator {index} has code {table.OpcodeIndex()}, which is not there")
        code = root.OperatorCodes(table.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number not in OPERATOR_NAMES:
            raise UnsupportedModel(f"{self._where}: operator {index} has code {number}, which the schema does not name")
        inputs = self._numbers(table.InputsLength(), table.InputsAsNumpy)
        outputs = self._numbers(table.OutputsLength(), table.OutputsAsNumpy)
        what = f"operator {index} ({OPERATOR_NAMES[number]})"
        options = table.CustomOptionsAsNumpy().tobytes() if self._length(table.CustomOptionsLength()) else b""
        return Operator(
            type=OPERATOR_NAMES[number],
            inputs=self._checked(inputs, tensors, f"{what}: input", optional=True),
            outputs=self._checked(outputs, tensors, f"{what}: output"),
            options=self._options(table, what),
            version=int(code.Version()),
            custom=self._text(code.CustomCode()),
            custom_options=options,
        )

    def _checked(self, indices: tuple[int, ...], tensors: int, what: str, *, optional: bool = False) -> tuple[int, ...]:
        for index in indices:
            if not 0 <= index < tensors and not (optional and index == ABSENT):
                raise ModelError(f"{self._where}: {what} is tensor {index}, but there are {tensors}")
        return indices

    def _options(self, table: Any, what: str) -> dict[str, OptionValue]:
        kind = OPTION_NAMES.get(table.BuiltinOptionsType())
        if kind is None:
            raise ModelError(
                f"{self._where}: {what} has options of kind {table.BuiltinOptionsType()}, which is unknown"
            )
        source = table.BuiltinOptions()
        if kind == "NONE" or source is None:
            return {}
        accessor = getattr(schema, kind)()
        accessor.Init(source.Bytes, source.Pos)
        for name in dir(accessor):
            if name.endswith("Length"):
                self._length(getattr(accessor, name)())
        unpacked = new_options(kind)
        unpacked._UnPack(accessor)  # noqa: SLF001 -- the object interface has no public way from a table it is given
        return {
            name: value
            for name, value in ((key, _plain(each)) for key, each in vars(unpacked).items())
            if value is not None
        }

    def _metadata(self, root: Any) -> Iterator[tuple[str, bytes]]:
        total = 0
        for index in range(self._length(root.MetadataLength())):
            table = root.Metadata(index)
            if not 0 <= table.Buffer() < self._length_of_buffers(root):
                raise ModelError(f"{self._where}: metadata {index} names buffer {table.Buffer()}, which is not there")
            buffer = root.Buffers(table.Buffer())
            total += buffer.DataLength()
            if total > MAX_METADATA_BYTES:
                raise ModelError(f"{self._where}: more than {MAX_METADATA_BYTES} bytes of metadata")
            yield self._text(table.Name()), buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""

    def _signature(self, root: Any) -> tuple[tuple[dict[int, str], dict[int, str]], str | None]:
        """Names of input and output tensors in the first signature, and its key."""
        if not self._length(root.SignatureDefsLength()):
            return ({}, {}), None
        table = root.SignatureDefs(0)
        names: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for side, length, item in (
            (names[0], table.InputsLength(), table.Inputs),
            (names[1], table.OutputsLength(), table.Outputs),
        ):
            for index in range(self._length(length)):
                side[int(item(index).TensorIndex())] = self._text(item(index).Name())
        return names, self._text(table.SignatureKey())


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _plain(value: Any) -> OptionValue | None:
    """An option as plain data; tables inside of options (quantSpec) are left out."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return tuple(int(each) for each in value)
    return None
