"""The accumulate table: complete, in agreement with the board files, careful where it knows nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.targets.accumulation import (
    KERNELS,
    ONNX_RUNTIME,
    OPERANDS,
    accumulation,
    exact,
    int8_accumulation,
    neighbours,
    of_board,
    saturating,
)
from edgewright.targets.board import Int8Accumulation
from edgewright.targets.catalog import board_names, load_board

SHIPPED = board_names()[1:]
AVX2 = ("avx2", "fma", "sse4_1")


@pytest.mark.parametrize("name", SHIPPED)
def test_board_files_say_what_the_table_says(name: str) -> None:
    board = load_board(name)
    assert int8_accumulation(board.arch, board.cpu.isa) == board.cpu.int8


def test_every_kernel_on_every_machine_has_one_row_with_evidence() -> None:
    keys = [(row.machine, row.kernel, row.operands) for row in ONNX_RUNTIME]
    assert len(keys) == len(set(keys)) == 4 * len(KERNELS) * len(OPERANDS)
    assert all(row.evidence for row in ONNX_RUNTIME)


def test_only_avx2_without_vnni_saturates() -> None:
    assert {row.machine for row in ONNX_RUNTIME if row.accumulation == "saturating16"} == {"avx2"}
    assert accumulation("x86_64", AVX2, "onnxruntime", "conv", "u8s8") == "saturating16"
    assert accumulation("x86_64", (*AVX2, "avx_vnni"), "onnxruntime", "conv", "u8s8") == "exact"
    assert accumulation("x86_64", (*AVX2, "avx512_vnni"), "onnxruntime", "gemm", "s8s8") == "exact"
    assert accumulation("x86_64", ("sse4_1", "sse4_2"), "onnxruntime", "conv", "u8s8") == "exact"
    assert accumulation("aarch64", ("asimd",), "onnxruntime", "gemm", "u8s8") == "exact"


def test_depthwise_kernels_widen_and_quantized_s8_becomes_u8() -> None:
    assert accumulation("x86_64", AVX2, "onnxruntime", "depthwise", "u8s8") == "exact"
    assert accumulation("x86_64", AVX2, "onnxruntime", "conv", "u8u8") == "exact"
    assert accumulation("x86_64", AVX2, "onnxruntime", "conv", "s8s8") == "saturating16"
    assert accumulation("x86_64", AVX2, "onnxruntime", "integer", "s8s8") == "exact"


def test_an_unknown_x86_is_taken_for_one_that_saturates() -> None:
    assert accumulation("x86_64", (), "onnxruntime", "conv", "u8s8") == "saturating16"


def test_other_engines_add_in_32_bits() -> None:
    assert accumulation("x86_64", AVX2, "ethos-u-vela", "conv", "u8s8") == "exact"


def test_a_board_file_has_the_last_word_on_kernels_that_mix_channels() -> None:
    board = load_board("x86-64-avx2")
    assert of_board(board)("conv", "u8s8") == "saturating16"
    assert of_board(board)("depthwise", "u8s8") == "exact"
    stated = Int8Accumulation(u8s8="exact", s8s8="exact", u8u8="exact")
    corrected = msgspec.structs.replace(board, cpu=msgspec.structs.replace(board.cpu, int8=stated))
    assert of_board(corrected)("gemm", "u8s8") == "exact"


def test_the_two_reference_lookups() -> None:
    assert exact("conv", "u8s8") == "exact"
    assert saturating("gemm", "u8s8") == "saturating16"
    assert saturating("gemm", "u8u8") == "exact"


@given(channels=st.integers(1, 12), positions=st.integers(1, 9))
def test_products_pair_along_channels_first(channels: int, positions: int) -> None:
    pairs = neighbours(channels, positions)
    order = [divmod(index, positions)[::-1] for pair in pairs for index in pair]
    assert order == sorted(order)
    assert len({index for pair in pairs for index in pair}) == 2 * len(pairs) == channels * positions // 2 * 2
