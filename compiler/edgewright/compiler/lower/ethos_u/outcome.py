"""The operators of the file that Vela wrote.

It is no model that the rest of the compiler reads: command streams take scratch tensors that nothing makes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from ...tflite.file.schema import IDENTIFIER, OPERATOR_NAMES
from .faults import VelaFault

MAX_OPERATORS = 200_000


@dataclass(frozen=True)
class Remaining:
    """One operator: a command stream, or one that stays on the CPU."""

    type: str
    custom: str
    output: str
    """Name of its first output."""


def remaining_operators(content: bytes) -> tuple[Remaining, ...]:
    """In the order of the file.

    Raises:
        VelaFault: it is no TFLite file with one graph.
    """
    if content[4:8] != IDENTIFIER:
        raise VelaFault(f"Vela wrote no TFLite file: bytes 4 to 8 are {content[4:8]!r}, expected {IDENTIFIER!r}")
    try:
        root = schema.Model.GetRootAs(content, 0)
        if root.SubgraphsLength() != 1 or root.Subgraphs(0).OperatorsLength() > MAX_OPERATORS:
            raise VelaFault(f"Vela wrote {root.SubgraphsLength()} graphs, expected one")
        graph = root.Subgraphs(0)
        return tuple(_remaining(root, graph, index) for index in range(graph.OperatorsLength()))
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        # What accessors raise where an offset points outside of the file.
        raise VelaFault(f"Vela wrote a damaged TFLite file: {type(error).__name__}: {str(error)[:200]}") from error


def _remaining(root: schema.Model, graph: schema.SubGraph, index: int) -> Remaining:
    operator = graph.Operators(index)
    code = root.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    output = graph.Tensors(operator.Outputs(0)).Name() if operator.OutputsLength() else b""
    return Remaining(OPERATOR_NAMES[number], _text(code.CustomCode()), _text(output))


def _text(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", errors="replace")
