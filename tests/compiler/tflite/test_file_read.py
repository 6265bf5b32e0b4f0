"""What a reader refuses, and that it says what, where and what helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgewright.compiler.faults import ModelError, UnsupportedModel
from edgewright.compiler.tflite.file.model import NUMPY, Model, Operator, Port, Quantization, Tensor
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.schema import IDENTIFIER, TYPES
from edgewright.compiler.tflite.file.write import write
from tests.compiler.tflite.file_models import dense, same

NET = dense(np.ones((5, 7), np.float32), np.ones(5, np.float32))
Change = Callable[[Any], object]


def changed(model: Model, change: Change) -> bytes:
    """The file of a model after a change of its tables."""
    table = schema.ModelT.InitFromPackedBuf(write(model), 0)
    change(table)
    builder = flatbuffers.Builder(0)
    builder.Finish(table.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def setting(path: str, value: object) -> Change:
    """Sets `subgraphs.0.tensors.1.type` and the like."""

    def change(table: Any) -> None:
        *steps, last = path.split(".")
        for step in steps:
            table = table[int(step)] if step.isdigit() else getattr(table, step)
        if last.isdigit():
            table[int(last)] = value
        else:
            setattr(table, last, value)

    return change


def sparse() -> schema.SparsityParametersT:
    return schema.SparsityParametersT()


def quantized(**fields: object) -> schema.QuantizationParametersT:
    table = schema.QuantizationParametersT()
    for name, value in fields.items():
        setattr(table, name, value)
    return table


def blockwise() -> schema.QuantizationParametersT:
    return quantized(scale=[1.0], zeroPoint=[0], detailsType=2, details=schema.BlockwiseQuantizationT())


WEIGHT = "subgraphs.0.tensors.1"
STEP = "subgraphs.0.operators.0"


@pytest.mark.parametrize("kind", sorted(set(TYPES) - set(NUMPY)))
def test_types_that_take_no_whole_bytes_or_are_no_numbers_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"net: tensor 'w' is {kind}, which nothing here computes; export"):
        read(changed(NET, setting(f"{WEIGHT}.type", TYPES[kind])), "net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.subgraphs.append(t.subgraphs[0]), r"net: 2 subgraphs; control flow .* export the model without"),
        (setting(f"{WEIGHT}.sparsity", sparse()), "'w' is stored sparse; export the model with dense weights"),
        (setting(f"{WEIGHT}.quantization", blockwise()), "'w' is quantized in blocks or a custom way; quantize per"),
        (setting("buffers.1.offset", 4096), "'w' has its data outside of the model; write the model as one"),
        (setting(f"{STEP}.builtinOptions2Type", 17), r"operator 0 \(FULLY_CONNECTED\) is of StableHLO"),
        (setting(f"{STEP}.intermediates", [1]), "integer LSTM"),
        (setting("operatorCodes.0.builtinCode", 9999), "operator code 9999 is none of the schema's"),
    ],
)
def test_what_is_sound_but_not_taken(change: Change, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read(changed(NET, change), "net")


def drop_options(table: Any) -> None:
    table.subgraphs[0].operators[0].builtinOptionsType = 0
    table.subgraphs[0].operators[0].builtinOptions = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(f"{WEIGHT}.shape", [5, -7]), r"'w' has shape \(5, -7\); expected at most 8 sizes"),
        (setting(f"{WEIGHT}.shape", [1] * 9), "expected at most 8 sizes"),
        (setting(f"{WEIGHT}.shape", [2**30, 2**30]), "at most 2147483648 elements"),
        (setting(f"{WEIGHT}.shape", [5, 6]), r"of shape \(5, 6\) and type FLOAT32 takes 120 bytes, its buffer has 140"),
        (setting(f"{WEIGHT}.buffer", 99), "'w' names buffer 99, which is not there"),
        (setting(f"{WEIGHT}.name", "w" * 5000), "a name of 5000 bytes; at most 4096 are read"),
        (setting(f"{STEP}.inputs", [0, 1, 7]), r"operator 0 \(FULLY_CONNECTED\): input is tensor 7, but there are 4"),
        (setting(f"{STEP}.outputs", [-1]), "output is tensor -1"),
        (setting(f"{STEP}.opcodeIndex", 3), "operator 0 has code 3, which is not there"),
        (setting(f"{STEP}.builtinOptionsType", 1), "options of kind Conv2DOptions, expected FullyConnectedOptions"),
        (setting(f"{STEP}.builtinOptions.fusedActivationFunction", 77), "fusedActivationFunction is 77, expected one"),
        (setting("subgraphs.0.inputs", [9]), "input is tensor 9"),
        (setting("signatureDefs.0.subgraphIndex", 1), "signature is of subgraph 1"),
    ],
)
def test_what_is_damaged(change: Change, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(changed(NET, change), "net")


@pytest.mark.parametrize(
    "table",
    [
        quantized(scale=[0.5, 0.5], zeroPoint=[0, 0], quantizedDimension=0),
        quantized(scale=[0.5], zeroPoint=[0, 0]),
        quantized(scale=[0.5], zeroPoint=[200]),
        quantized(scale=[-0.5], zeroPoint=[0]),
        quantized(scale=[float("nan")], zeroPoint=[0]),
        quantized(scale=[0.5] * 7, zeroPoint=[0] * 7, quantizedDimension=-1),
    ],
)
def test_a_quantization_that_does_not_fit(table: schema.QuantizationParametersT) -> None:
    integers = replace(NET, tensors=(*NET.tensors, Tensor("i", "INT8", (7, 3), data=np.ones((7, 3), np.int8))))
    with pytest.raises(ModelError, match=r"'i' \(INT8, shape \(7, 3\)\) has a quantization that does not fit"):
        read(changed(integers, setting("subgraphs.0.tensors.4.quantization", table)), "net")


@pytest.mark.parametrize(
    ("kind", "table"),
    [("FLOAT32", quantized(scale=[0.5], zeroPoint=[0])), ("INT8", quantized(scale=[0.0], zeroPoint=[0]))],
)
def test_a_quantization_that_runtimes_do_not_look_at(kind: str, table: schema.QuantizationParametersT) -> None:
    more = replace(NET, tensors=(*NET.tensors, Tensor("more", kind, (2,))))
    found = read(changed(more, setting("subgraphs.0.tensors.4.quantization", table)), "net")
    assert found.tensors[4].quantization is None


def test_names_that_are_no_utf_8_can_be_written_again() -> None:
    content = write(replace(NET, description="d" * 1500))
    broken = content.replace(b"d" * 1500, b"\xff" * 1500)
    with pytest.raises(ModelError, match="a name of 4500 bytes"):
        read(broken, "net")
    found = read(content.replace(b"d" * 1500, b"\xff" * 1000 + b"d" * 500), "net")
    same(found, read(write(found), "net"))


def test_truth_values_are_zero_or_one() -> None:
    flags = replace(NET, tensors=(*NET.tensors, Tensor("f", "BOOL", (4,), data=np.array([True, False, True, True]))))
    assert read(write(flags), "net").tensors[4].data is not None
    with pytest.raises(ModelError, match="'f' is BOOL but has bytes other than 0 and 1"):
        read(changed(flags, setting("buffers.3.data", [1, 0, 2, 1])), "net")


def test_options_that_a_file_leaves_out_have_their_defaults() -> None:
    options = read(changed(NET, drop_options), "net").operators[0].options
    assert options["fusedActivationFunction"] == 0
    assert options["keepNumDims"] is False


def test_per_channel_scales_and_free_sizes_stay() -> None:
    scales = Quantization((0.5, 0.25, 0.125), (0, 0, 0), 1)
    model = replace(NET, tensors=(*NET.tensors, Tensor("i", "INT8", (7, 3), quantization=scales, free=(-1, 3))))
    same(model, read(write(model), "net"))


def _two(first: Operator, second: Operator) -> Model:
    tensors = tuple(Tensor(name, "FLOAT32", (2,)) for name in "xyz")
    return Model(tensors, (first, second), (Port("x", 0),), (Port("z", 2),))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_two(Operator("ADD", (0, 2), (1,)), Operator("ADD", (0, 1), (2,))), r"0 \(ADD\) reads tensor 'z' before any"),
        (_two(Operator("RELU", (1,), (1,)), Operator("RELU", (0,), (2,))), "reads tensor 'y' before anything makes it"),
        (_two(Operator("RELU", (0,), (2,)), Operator("RELU", (0,), (2,))), r"1 \(RELU\) writes tensor 'z'.*before"),
        (_two(Operator("RELU", (0,), (2, 2)), Operator("RELU", (0,), (1,))), r"0 \(RELU\) writes tensor 'z'.*before"),
        (_two(Operator("RELU", (0,), (0,)), Operator("RELU", (0,), (2,))), "writes tensor 'x': a constant, an input"),
        (_two(Operator("RELU", (0,), (1,)), Operator("RELU", (0,), ())), "nothing makes output tensor 'z'"),
        (replace(NET, inputs=(Port("w", 1),)), "an input is a constant, or is given twice"),
        (replace(NET, inputs=(Port("x", 0), Port("again", 0))), "an input is a constant, or is given twice"),
        (replace(NET, operators=(Operator("FULLY_CONNECTED", (0, 1, 2), (1,)),)), "writes tensor 'w'"),
    ],
)
def test_cycles_and_other_orders_that_cannot_be_computed(model: Model, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(write(model), "net")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 4 + b"TFL2" + b"\x00" * 100, b"GGUF" * 9])
def test_other_files(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"net: not a TFLite file: bytes 4 to 8 are .*, expected b'TFL3'"):
        read(content, "net")
