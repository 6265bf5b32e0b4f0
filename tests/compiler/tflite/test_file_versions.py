"""Versions of operators are those that upstream's rules give, and that converters wrote into real files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright.compiler.tflite.file.model import ABSENT, Model, Operator, OptionValue, Quantization, Tensor
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.schema import OPERATORS
from edgewright.compiler.tflite.file.version_rules import RULES
from edgewright.compiler.tflite.file.versions import version_of, versioned

REFERENCES = Path(__file__).resolve().parents[4] / "shared/data/mlperf_tiny/models"
HIGHER = {"kws_ref_model_float32.tflite": {"FULLY_CONNECTED": (1, 3)}}
"""Ours and theirs: when its converter wrote the version, the weights were still integers."""


def tensor(text: str) -> Tensor:
    """`int8`, `int8:4` (rank), `int8*` (one scale), `int8**` (one for each of 2 along the last axis)."""
    kind, _, rank = text.replace("*", "").partition(":")
    shape = (2,) * int(rank or 1)
    count = {0: 0, 1: 1, 2: 2}[text.count("*")]
    quantization = Quantization((0.5,) * count, (0,) * count, len(shape) - 1 if count > 1 else 0) if count else None
    return Tensor(text, kind.upper(), shape, quantization=quantization)


def version(kind: str, inputs: str, outputs: str, options: Mapping[str, OptionValue]) -> int:
    named = [*inputs.split(), *outputs.split()]
    tensors = tuple(tensor(text) for text in named if text != "-")
    places = iter(range(len(tensors)))
    indices = [ABSENT if text == "-" else next(places) for text in named]
    count = len(inputs.split())
    operator = Operator(kind, tuple(indices[:count]), tuple(indices[count:]), options)
    return version_of(Model(tensors, (operator,), (), ()), operator)


CONV = "float32:4 float32:4 float32", "float32:4"
CONV_8 = "int8:4* int8:4** int32**", "int8:4*"
CONV_16 = "int16:4* int8:4** int64**", "int16:4*"
HYBRID = "float32:4 int8:4* float32", "float32:4"
HYBRID_PER_CHANNEL = "float32:4 int8:4** float32", "float32:4"
DENSE = "float32:2 float32:2 float32", "float32:2"
DENSE_8 = "int8:2* int8:2* int32*", "int8:2*"
DENSE_16 = "int16:2* int8:2* int64*", "int16:2*"


@pytest.mark.parametrize(
    ("kind", "tensors", "options", "expected"),
    [
        ("CONV_2D", CONV, {}, 1),
        ("CONV_2D", CONV_8, {}, 3),
        ("CONV_2D", CONV_16, {}, 1),
        ("CONV_2D", CONV_16, {"quantizedBiasType": 4}, 8),
        ("CONV_2D", HYBRID, {}, 2),
        ("CONV_2D", HYBRID_PER_CHANNEL, {}, 5),
        ("DEPTHWISE_CONV_2D", CONV, {}, 1),
        ("DEPTHWISE_CONV_2D", CONV, {"dilationWFactor": 2}, 2),
        ("DEPTHWISE_CONV_2D", CONV_8, {"dilationWFactor": 2}, 3),
        ("DEPTHWISE_CONV_2D", CONV_16, {}, 1),
        ("DEPTHWISE_CONV_2D", HYBRID, {}, 4),
        ("DEPTHWISE_CONV_2D", HYBRID_PER_CHANNEL, {}, 6),
        ("FULLY_CONNECTED", DENSE, {}, 1),
        ("FULLY_CONNECTED", DENSE_8, {}, 4),
        ("FULLY_CONNECTED", DENSE_8, {"keepNumDims": True}, 5),
        ("FULLY_CONNECTED", ("int8:2* int8:2*", "int8:2*"), {}, 6),
        ("FULLY_CONNECTED", ("int8:2* int8:2* -", "int8:2*"), {}, 4),
        ("FULLY_CONNECTED", DENSE_16, {}, 1),
        ("FULLY_CONNECTED", DENSE_16, {"quantizedBiasType": 4}, 11),
        ("FULLY_CONNECTED", ("float32:2 int8:2* float32", "float32:2"), {}, 3),
        ("FULLY_CONNECTED", ("float32:2 int8:2* float32", "float32:2"), {"asymmetricQuantizeInputs": True}, 9),
        ("FULLY_CONNECTED", ("float32:2 int8:2** float32", "float32:2"), {}, 12),
        ("TRANSPOSE_CONV", ("int32 float32:4 float32:4", "float32:4"), {}, 1),
        ("TRANSPOSE_CONV", ("int32 int8:4** int8:4*", "int8:4*"), {}, 2),
        ("TRANSPOSE_CONV", ("int32 int8:4** int8:4* int32**", "int8:4*"), {}, 3),
        ("TRANSPOSE_CONV", ("int32 float32:4 float32:4 float32", "float32:4"), {"fusedActivationFunction": 1}, 4),
        ("BATCH_MATMUL", ("int8:3* int8:3*", "int8:3*"), {}, 2),
        ("BATCH_MATMUL", ("int16:3* int16:3*", "int16:3*"), {}, 3),
        ("ADD", ("float32 float32", "float32"), {}, 1),
        ("ADD", ("int8* int8*", "int8*"), {}, 2),
        ("ADD", ("int16* int16*", "int16*"), {"potScaleInt16": False}, 3),
        ("ADD", ("int16* int16*", "int16*"), {}, 1),
        ("ADD", ("int64 int64", "int64"), {}, 4),
        ("ADD", ("int16 int16", "int16"), {}, 5),
        ("SUB", ("int8* int8*", "int8*"), {}, 2),
        ("SUB", ("float32:5 float32", "float32:5"), {}, 3),
        ("SUB", ("int16* int16*", "int16*"), {"potScaleInt16": False}, 5),
        ("MUL", ("float32 float32", "float32"), {}, 1),
        ("MUL", ("int8* int8*", "int8*"), {}, 2),
        ("MUL", ("int16* int16*", "int16*"), {}, 4),
        ("MUL", ("int64 int64", "int64"), {}, 5),
        ("MUL", ("int16 int16", "int16"), {}, 7),
        ("DIV", ("float32:5 float32", "float32:5"), {}, 2),
        ("DIV", ("float32:5 float32:5", "float32:5"), {}, 1),
        ("MAXIMUM", ("float32:5 float32", "float32:5"), {}, 3),
        ("MINIMUM", ("int16* int16*", "int16*"), {}, 4),
        ("AVERAGE_POOL_2D", ("int8:4*", "int8:4*"), {}, 2),
        ("MAX_POOL_2D", ("int16:4*", "int16:4*"), {}, 3),
        ("SOFTMAX", ("int8:2*", "int8:2*"), {}, 2),
        ("LOGISTIC", ("int16*", "int16*"), {}, 3),
        ("RELU", ("int8*", "int8*"), {}, 2),
        ("RELU6", ("int16*", "int16*"), {}, 3),
        ("HARD_SWISH", ("int8*", "int8*"), {}, 1),
        ("LEAKY_RELU", ("int16*", "int16*"), {}, 2),
        ("RESHAPE", ("int8* int32", "int8*"), {}, 1),
        ("CONCATENATION", ("int8* int8*", "int8*"), {}, 2),
        ("TRANSPOSE", ("int8:4* int32", "int8:4*"), {}, 2),
        ("TRANSPOSE", ("float32:5 int32", "float32:5"), {}, 4),
        ("TRANSPOSE", ("float32:6 int32", "float32:6"), {}, 6),
        ("PAD", ("int8:4* int32:2", "int8:4*"), {}, 2),
        ("PADV2", ("float32:5 int32:2 float32", "float32:5"), {}, 4),
        ("SLICE", ("float32:5 int32 int32", "float32:5"), {}, 5),
        ("STRIDED_SLICE", ("int8:4* int32 int32 int32", "int8:4*"), {}, 2),
        ("STRIDED_SLICE", ("int8:4* int32 int32 int32", "int8:4*"), {"newAxisMask": 1}, 6),
        ("SPLIT", ("int32 int8*", "int8* int8*"), {}, 2),
        ("GATHER", ("float32 int32", "float32"), {"batchDims": 1}, 5),
        ("RESIZE_BILINEAR", ("int8:4* int32", "int8:4*"), {}, 2),
        ("RESIZE_BILINEAR", ("float32:4 int32", "float32:4"), {"halfPixelCenters": True}, 3),
        ("RESIZE_NEAREST_NEIGHBOR", ("float32:4 int32", "float32:4"), {"alignCorners": True}, 3),
        ("RESIZE_NEAREST_NEIGHBOR", ("int16:4* int32", "int16:4*"), {"alignCorners": True}, 4),
        ("SPACE_TO_BATCH_ND", ("float32:3 int32 int32", "float32:3"), {}, 3),
        ("DEQUANTIZE", ("uint8*", "float32"), {}, 1),
        ("DEQUANTIZE", ("int8*", "float32"), {}, 2),
        ("DEQUANTIZE", ("float16", "float32"), {}, 3),
        ("DEQUANTIZE", ("int8**", "float32"), {}, 5),
        ("QUANTIZE", ("float32", "int8*"), {}, 1),
        ("QUANTIZE", ("int8*", "int16*"), {}, 2),
        ("QUANTIZE", ("float32", "int8**"), {}, 3),
        ("CAST", ("float32", "int8"), {}, 3),
        ("CAST", ("float16", "float32"), {}, 5),
        ("CAST", ("bool", "float32"), {}, 1),
        ("ABS", ("int16*", "int16*"), {}, 3),
        ("ABS", ("int16", "int16"), {}, 4),
        ("MEAN", ("int8:4* int32", "int8:4*"), {}, 2),
        ("BROADCAST_TO", ("float32 int32", "float32"), {}, 2),
        ("TILE", ("int8* int32", "int8*"), {}, 3),
        ("SELECT", ("bool:5 float32:5 float32:5", "float32:5"), {}, 3),
        ("FILL", ("int32 bool", "bool"), {}, 2),
        ("GATHER_ND", ("int16 int32", "int16"), {}, 3),
        ("TOPK_V2", ("int16 int32", "int16 int32"), {}, 3),
        ("WHERE", ("bool", "int64"), {}, 1),
    ],
)
def test_versions(kind: str, tensors: tuple[str, str], options: Mapping[str, OptionValue], expected: int) -> None:
    assert version(kind, *tensors, options) == expected


def test_grouped_convolutions() -> None:
    grouped = Model(
        (Tensor("x", "FLOAT32", (1, 5, 5, 8)), Tensor("w", "FLOAT32", (8, 3, 3, 2)), Tensor("y", "FLOAT32", (8,))),
        (Operator("CONV_2D", (0, 1), (2,)),),
        (),
        (),
    )
    assert versioned(grouped).operators[0].version == 6


def test_a_product_whose_step_is_larger_than_that_of_the_result() -> None:
    tensors = tuple(
        Tensor(name, "INT8", (2,), quantization=Quantization((scale,), (0,)))
        for name, scale in (("x", 2.0), ("y", 2.0), ("z", 4.0))
    )
    assert version_of(Model(tensors, (), (), ()), Operator("MUL", (0, 1), (2,))) == 3


def test_all_operators_of_a_type_have_the_version_that_one_needs() -> None:
    tensors = (tensor("float32"), tensor("int8*"), tensor("float32"), tensor("int8*"))
    model = Model(tensors, (Operator("RELU6", (0,), (2,)), Operator("RELU6", (1,), (3,))), (), ())
    assert [operator.version for operator in versioned(model).operators] == [2, 2]


def test_versions_are_never_lowered_and_custom_operators_keep_theirs() -> None:
    tensors = (tensor("float32"), tensor("float32"))
    steps = (Operator("RELU6", (0,), (1,), version=9), Operator("CUSTOM", (0,), (1,), version=7, custom="Mine"))
    assert [operator.version for operator in versioned(Model(tensors, steps, (), ())).operators] == [9, 7]


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_operators_without_tensors_raise_nothing(kind: str) -> None:
    assert version_of(Model((), (), (), ()), Operator(kind, (), ())) >= 1


def test_rules_are_of_operators_that_there_are() -> None:
    assert set(RULES) <= set(OPERATORS)


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*.tflite")) or [REFERENCES], ids=lambda path: path.name)
def test_versions_in_files_that_tensorflow_wrote(path: Path) -> None:
    if not path.is_file():
        pytest.skip("needs ../shared/data")
    theirs = read(path.read_bytes(), path.name)
    plain = replace(theirs, operators=tuple(replace(operator, version=1) for operator in theirs.operators))
    pairs = zip(versioned(plain).operators, theirs.operators, strict=True)
    different = {one.type: (one.version, other.version) for one, other in pairs if one.version != other.version}
    assert different == HIGHER.get(path.name, {})
