"""The conformance cases of the onnx package through the emitter and LiteRT: equal numbers, or a refusal that is listed.

A case counts where ONNX Runtime itself gives the expected outputs and the emitter has a function for each of its
operators. Every input but the first becomes a constant, as exporters write weights, shapes and axes; then the case runs
once more as it is, where only an unlisted kind of failure counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import onnx
import pytest
from onnx import numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.operators import OPERATORS
from tests.compiler.test_onnx_backend_cases import Case, all_cases, failures, runs_in_the_engine, same
from tests.compiler.tflite.runs import run_litert

BESIDE = frozenset({"Constant", "DequantizeLinear", "QuantizeLinear", "Shape"})
"""What the walk itself sees to."""

REFUSED = {
    r"test_(add|div|equal|greater|greater_equal|less|less_equal|mul|sub)_u?int(8|16|32|64)(_expanded)?":
        "integers that mean no real numbers, but for int32 and int64",
    r"test_clip_default_int8_(min|max)_expanded": "comparing int8",
    r"test_(max|min)_uint(32|64)": "unsigned integers of 32 and 64 bits",
    r"test_pow_types_int64_(float32|int64)": "powers of int64",
    r"test_reduce_(max|min)_bool_inputs": "maxima of truth values",
    r"test_(isinf|isnan|max|min)_float16|test_attention_.*(fp16|precision)_expanded|test_flexattention_fp16_.*":
        "arithmetic in float16",
    r"test_(max|min)_float64|test_cumsum_(?!.*int32).*|test_flexattention_double_.*|test_operator_add(_.*broadcast|constant)":
        "arithmetic in float64",
    r"test_arg(max|min)_.*_select_last_index": "the last of equal ones; TFLite takes the first",
    r"test_batchnorm_.*_training_mode": "training",
    r"test_(default_|training_)?dropout_.*mask.*": "the mask is an output",
    r"test_layer_normalization_.*(axis|axis[0-9]|negative_[0-9])(_epsilon)?": "mean and deviation are outputs",
    r"test_maxpool_with_argmax_2d_.*": "indices are outputs",
    r"test_(averagepool|convtranspose|maxpool)_3d.*|test_(AvgPool|Conv|MaxPool)3d.*": "three spatial axes",
    r"test_(averagepool|maxpool)_2d_dilations|test_MaxPool[12]d_.*_dilation": "pools with dilations",
    r"test_dynamicquantizelinear.*_expanded": "a scale that is computed",
    r"test_gathernd_example_int32_batch_dim1": "batch_dims",
    r"test_not_[234]d": "opset 1, which is not imported",
    r"test_wrap_pad": "padding by what is at the other side",
    r"test_resize_.*(cubic|antialias|tf_crop|half_pixel_symmetric).*": "interpolation that TFLite does not have",
    r"test_resize_downsample_(scales_linear|sizes_linear_pytorch_half_pixel)":
        "pixels counted as TFLite does not, at scales that are no ratios of sizes, and for a size of 1",
    r"test_rotary_embedding(_no_position_ids)?(_interleaved)?(_3d_input)?_expanded|test_split_zero_size_splits_.*"
    r"|test_slice_start_out_of_bounds": "parts without elements",
    r"test_reduce_.*empty_set.*|test_reshape_allowzero_reordered": "inputs without elements",
}  # fmt: skip
"""Cases that end with exit code 4, by pattern, and what they ask for. It may only shrink."""


pytestmark = pytest.mark.slow


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for case in all_cases() if _is_ours(case) and runs_in_the_engine(case))


def _is_ours(case: Case) -> bool:
    kinds = {node.op_type for node in case.model.graph.node}
    return bool(kinds & OPERATORS.keys()) and kinds <= OPERATORS.keys() | BESIDE


def with_constants(case: Case) -> Case:
    """Every input but the first becomes an initializer."""
    first, *others = case.inputs
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.ir_version = max(model.ir_version, 4)  # before, weights are inputs as well
    model.graph.initializer.extend(numpy_helper.from_array(case.inputs[name], name) for name in others)
    kept = [value for value in model.graph.input if value.name == first]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Case(case.name, model, {first: case.inputs[first]}, case.outputs)


def outcome(case: Case) -> str | None:
    """What is wrong, or None; a refusal is raised."""
    emitted = emit(import_proto(case.model, case.name))
    names = {port.name for port in emitted.model.inputs}
    found = run_litert(emitted.model, {name: array for name, array in case.inputs.items() if name in names})
    arrays = [found[value.name] for value in case.model.graph.output]
    return None if same(arrays, case.outputs) else f"other numbers: {arrays} instead of {case.outputs}"


def with_listed_refusals(case: Case) -> str | None:
    listed = [pattern for pattern in REFUSED if re.fullmatch(pattern, case.name)]
    try:
        found = outcome(with_constants(case))
    except UnsupportedModel as fault:
        return None if listed else f"refused: {fault}"
    return "is written now, and has to go off the list of refused cases" if listed and found is None else found


def as_it_is(case: Case) -> str | None:
    try:
        return outcome(case)
    except UnsupportedModel:
        return None


def test_listed_refusals_are_cases() -> None:
    names = [case.name for case in cases()]
    assert [pattern for pattern in REFUSED if not any(re.fullmatch(pattern, name) for name in names)] == []


def test_cases_give_equal_numbers_or_a_listed_refusal() -> None:
    assert _told(failures(with_listed_refusals, [case for case in cases() if case.inputs])) == []


def test_cases_with_computed_operands_give_equal_numbers_or_a_refusal() -> None:
    assert _told(failures(as_it_is, list(cases()))) == []


def _told(found: dict[str, str]) -> Iterable[str]:
    return [f"{name}: {reason[:400]}" for name, reason in found.items()]
