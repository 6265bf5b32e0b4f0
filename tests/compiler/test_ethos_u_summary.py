"""Vela's summary: units, and files that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.lower.ethos_u.faults import VelaFault
from edgewright.compiler.lower.ethos_u.summary import MAX_BYTES, read_summary

FIGURES = {
    "experiment": "default",
    "network": "network",
    "accelerator_configuration": "Ethos_U55_128",
    "system_config": "Ethos_U55_High_End_Embedded",
    "memory_mode": "Shared_Sram",
    "core_clock": "500000000.0",
    "inference_time": "0.0001798",
    "sram_memory_used": "21.671875",
    "dram_memory_used": "0.0",
    "on_chip_flash_memory_used": "0.5",
    "off_chip_flash_memory_used": "30.375",
    "total_npu_encoded_weights": "24032",
    "nn_macs": "2664792",
    "cycles_npu": "88902",
    "cycles_total": "89900",
}


def content(**changes: str | None) -> bytes:
    row = {key: value for key, value in {**FIGURES, **changes}.items() if value is not None}
    return f"{','.join(row)}\r\n{','.join(row.values())}\r\n".encode()


def test_figures_have_units() -> None:
    summary = read_summary(content())
    assert summary.accelerator == "Ethos_U55_128"
    assert summary.clock_hz == 500_000_000
    assert summary.inference_s == 0.0001798
    assert (summary.npu_cycles, summary.total_cycles) == (88_902, 89_900)
    assert summary.sram_bytes == 22_192
    assert summary.dram_bytes == 0
    assert (summary.on_chip_flash_bytes, summary.off_chip_flash_bytes, summary.flash_bytes) == (512, 31_104, 31_616)
    assert summary.encoded_weight_bytes == 24_032
    assert summary.macs == 2_664_792


@pytest.mark.parametrize("column", sorted(set(FIGURES) - {"experiment", "network"}))
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(VelaFault, match=f"column {column} is missing"):
        read_summary(content(**{column: None}))


@pytest.mark.parametrize("figure", ["", "many", "nan", "inf", "-1"])
def test_a_figure_must_be_one(figure: str) -> None:
    with pytest.raises(VelaFault, match=f"column cycles_total: expected a number from zero, got '{figure}'"):
        read_summary(content(cycles_total=figure))


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (b"", "got none"),
        (content() + b"1,2\r\n", "got 15 and 15 and 2"),
        (b"a,b\n1\n", "got 2 and 1"),
        (b"\xff\xfe", "not CSV in UTF-8"),
        (b"a" * (MAX_BYTES + 1), "expected at most"),
    ],
)
def test_other_files_are_refused(damaged: bytes, words: str) -> None:
    with pytest.raises(VelaFault, match=words):
        read_summary(damaged)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(damaged: bytes) -> None:
    with pytest.raises(VelaFault):
        read_summary(damaged)
