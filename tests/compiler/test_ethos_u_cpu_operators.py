"""Which operators Vela left, by the model that it wrote, and why, by its warnings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.lower.ethos_u.cpu_operators import (
    MAX_DETAIL_CHARACTERS,
    MAX_REASON_CHARACTERS,
    NO_REASON,
    NPU_OPERATOR,
    CpuOperator,
    cpu_operators,
)
from edgewright.compiler.lower.ethos_u.faults import VelaFault
from edgewright.compiler.lower.ethos_u.outcome import Remaining, remaining_operators
from edgewright.compiler.tflite.file.model import Model, Operator
from edgewright.compiler.tflite.file.write import write
from tests.compiler.ethos_u_nets import convolution, float_ports

LOG = """
Warning (supported operators) operator: DEQUANTIZE, ofm: 'out'
Reason: Unsupported opType

Warning (supported operators) operator: QUANTIZE, ofm: 'quantized'
Reason: Operation has tensor with unsupported DataType Float32 (in)
Feature-map dataTypes must be one of {"INT16", "INT8"}
  - and more

Network summary for network
"""


def optimised(source: Model, *left: int) -> tuple[Remaining, ...]:
    """One command stream and those operators of the source."""
    kept = [source.operators[index] for index in left]
    names = [source.tensors[each.outputs[0]].name for each in kept]
    return (
        Remaining("CUSTOM", NPU_OPERATOR, "stream"),
        *(Remaining(each.type, each.custom, name) for each, name in zip(kept, names, strict=True)),
    )


def test_reasons_and_constraints() -> None:
    source = float_ports()
    quantize, dequantize = cpu_operators(source, optimised(source, 2, 0), LOG)
    assert quantize == CpuOperator(
        index=0,
        name="quantized",
        tflite_type="QUANTIZE",
        reason="Operation has tensor with unsupported DataType Float32 (in)",
        details='Feature-map dataTypes must be one of {"INT16", "INT8"}\n  - and more',
    )
    assert dequantize == CpuOperator(2, "out", "DEQUANTIZE", "Unsupported opType")


def test_damaged_files_are_refused() -> None:
    content = write(float_ports())
    assert len(remaining_operators(content)) == 3
    with pytest.raises(VelaFault, match="what Vela wrote: not a TFLite file"):
        remaining_operators(b"")
    for at in range(8, len(content), 4):
        with suppress(VelaFault):
            remaining_operators(content[:at])
        with suppress(VelaFault):
            remaining_operators(content[:at] + b"\xff" * 4 + content[at + 4 :])


def test_only_what_the_model_still_has_is_left() -> None:
    source = float_ports()
    assert [one.name for one in cpu_operators(source, optimised(source, 0), LOG)] == ["quantized"]
    assert cpu_operators(source, optimised(source), LOG) == ()


def test_an_operator_without_a_warning_is_left_all_the_same() -> None:
    source = float_ports()
    assert [one.reason for one in cpu_operators(source, optimised(source, 0, 2), "")] == [NO_REASON] * 2


def test_equal_names_are_told_apart_by_their_order() -> None:
    one = float_ports()
    source = replace(one, operators=one.operators * 2)
    log = LOG + LOG.replace("Unsupported opType", "again")
    found = cpu_operators(source, optimised(source, 2, 5), log)
    assert [(each.index, each.reason) for each in found] == [(2, "Unsupported opType"), (5, "again")]


def test_custom_operators_go_by_their_own_name() -> None:
    source = convolution()
    source = replace(source, operators=(Operator("CUSTOM", (0,), (3,), custom="Mine"),))
    assert [one.tflite_type for one in cpu_operators(source, optimised(source, 0), LOG)] == ["Mine"]


def test_words_are_bounded_and_printable() -> None:
    source = float_ports()
    log = f"Warning (supported operators) operator: None, ofm: 'out'\nReason: \x1b[31m{'x' * 999}\n{'y' * 9_999}\n"
    (one,) = cpu_operators(source, optimised(source, 2), log)
    assert one.reason.startswith("?[31mxx")
    assert len(one.reason) == MAX_REASON_CHARACTERS
    assert len(one.details) == MAX_DETAIL_CHARACTERS


@given(st.lists(st.sampled_from([*LOG.splitlines(), "Reason: ", "Warning (supported operators) operator: X, ofm: ''"])))
def test_any_order_of_lines_is_read(lines: list[str]) -> None:
    source = float_ports()
    found = cpu_operators(source, optimised(source, 0, 1, 2), "\n".join(lines))
    assert [one.index for one in found] == [0, 1, 2]
