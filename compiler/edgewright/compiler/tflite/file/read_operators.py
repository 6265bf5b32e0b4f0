"""Operators of a file that may be hostile, with all fields of their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...faults import ModelError, UnsupportedModel
from .bounds import Bounds
from .model import ABSENT, Operator, OptionValue
from .schema import ACTIVATIONS, OPERATOR_NAMES, OPTION_NAMES, PADDING, TYPES, enumeration, new_options, options_of

MAX_OPERATORS: Final = 50_000
_ENUMERATIONS: Final[Mapping[str, frozenset[int]]] = {
    "padding": frozenset(PADDING.values()),
    "fusedActivationFunction": frozenset(ACTIVATIONS.values()),
    "mode": frozenset(enumeration("MirrorPadMode").values()),
    "weightsFormat": frozenset(enumeration("FullyConnectedOptionsWeightsFormat").values()),
    **dict.fromkeys(
        ("inDataType", "outDataType", "outType", "outputType", "idxOutType", "quantizedBiasType"),
        frozenset(TYPES.values()),
    ),
}
"""Options whose numbers stand for names; others mean nothing."""


@dataclass(frozen=True)
class _Code:
    """An entry of the model's list of operator codes."""

    type: str
    custom: str
    version: int


def read_operators(root: Any, graph: Any, tensors: int, bounds: Bounds) -> Iterator[Operator]:
    """The operators of a subgraph of so many tensors, in order.

    Raises:
        ModelError: one is damaged.
        UnsupportedModel: one is none that a Model can say.
    """
    codes = [_code(root.OperatorCodes(index), bounds) for index in range(bounds.length(root.OperatorCodesLength()))]
    for index in range(bounds.length(graph.OperatorsLength(), MAX_OPERATORS)):
        table = graph.Operators(index)
        if not 0 <= table.OpcodeIndex() < len(codes):
            raise ModelError(f"{bounds.where}: operator {index} has code {table.OpcodeIndex()}, which is not there")
        yield _operator(table, codes[table.OpcodeIndex()], index, tensors, bounds)


def _code(table: Any, bounds: Bounds) -> _Code:
    number = max(table.BuiltinCode(), table.DeprecatedBuiltinCode())
    if number not in OPERATOR_NAMES:
        raise UnsupportedModel(f"{bounds.where}: operator code {number} is none of the schema's")
    return _Code(OPERATOR_NAMES[number], bounds.text(table.CustomCode()), int(table.Version()))


def _operator(table: Any, code: _Code, index: int, tensors: int, bounds: Bounds) -> Operator:
    where = f"{bounds.where}: operator {index} ({code.type})"
    if table.BuiltinOptions2Type() or table.IntermediatesLength() or table.LargeCustomOptionsSize():
        raise UnsupportedModel(
            f"{where} is of StableHLO, an integer LSTM or has large custom options, which is not taken: export the "
            "model with TFLite's builtin operators"
        )
    inputs = bounds.numbers(table.InputsLength(), table.InputsAsNumpy)
    outputs = bounds.numbers(table.OutputsLength(), table.OutputsAsNumpy)
    return Operator(
        type=code.type,
        inputs=checked(inputs, tensors, f"{where}: input", optional=True),
        outputs=checked(outputs, tensors, f"{where}: output"),
        options=_options(table, code.type, where, bounds),
        version=code.version,
        custom=code.custom,
        custom_options=table.CustomOptionsAsNumpy().tobytes() if bounds.length(table.CustomOptionsLength()) else b"",
    )


def checked(indices: tuple[int, ...], tensors: int, what: str, *, optional: bool = False) -> tuple[int, ...]:
    """Indices of tensors that are there.

    Raises:
        ModelError: one is not.
    """
    for index in indices:
        if not 0 <= index < tensors and not (optional and index == ABSENT):
            raise ModelError(f"{what} is tensor {index}, but there are {tensors}")
    return indices


def _options(table: Any, operator: str, where: str, bounds: Bounds) -> dict[str, OptionValue]:
    """All fields of the operator's table, with the schema's defaults where the file has none."""
    kind = OPTION_NAMES.get(table.BuiltinOptionsType(), str(table.BuiltinOptionsType()))
    expected = options_of(operator)
    if kind not in ("NONE", expected):
        raise ModelError(f"{where} has options of kind {kind}, expected {expected}")
    if expected is None:
        return {}
    options = new_options(expected)
    source = table.BuiltinOptions() if kind != "NONE" else None
    if source is not None:
        accessor = getattr(schema, expected)()
        accessor.Init(source.Bytes, source.Pos)
        for name in _vectors(expected):
            bounds.length(getattr(accessor, name)())
        options._UnPack(accessor)  # noqa: SLF001 -- the object interface has no public way from a table it is given
    if getattr(options, "quantSpec", None) is not None:
        raise UnsupportedModel(f"{where} has a quantization of its own (quantSpec); quantize its tensors instead")
    plain = ((name, _plain(value, bounds)) for name, value in vars(options).items())
    return {name: _known(name, value, where) for name, value in plain if value is not None}


@cache
def _vectors(kind: str) -> tuple[str, ...]:
    """Methods that tell how long vectors of an option table are."""
    return tuple(name for name in dir(getattr(schema, kind)) if name.endswith("Length"))


def _known(name: str, value: OptionValue, where: str) -> OptionValue:
    if name in _ENUMERATIONS and value not in _ENUMERATIONS[name]:
        raise ModelError(f"{where}: {name} is {value}, expected one of {sorted(_ENUMERATIONS[name])}")
    return value


def _plain(value: Any, bounds: Bounds) -> OptionValue | None:
    """An option as plain data."""
    if isinstance(value, bytes):
        return bounds.text(value)
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return value if isinstance(value, (bool, int, float)) else None
