"""A file that is read and written again computes the same bits, and what was written once is written so again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgewright.compiler.graph import operator_counts, signature
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Array
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from edgewright.compiler.tflite.reader.read_graph import graph_of
from tests.compiler.tflite.stand_ins import STAND_INS

MODELS = Path(__file__).parents[4] / "shared/data/mlperf_tiny/models"
NAMES = (
    "ad01_fp32", "ad01_int8", "kws_ref_model_float32", "kws_ref_model_int8", "pretrainedResnet_float",
    "pretrainedResnet_int8", "vww_96_float", "vww_96_int8",
)  # fmt: skip
REFERENCE_INPUTS = 1000
STAND_IN_INPUTS = 50


def run(content: bytes, samples: Array) -> Array:
    """Outputs for one sample after the other, as devices call it."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in samples:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"]).copy())
    return np.concatenate(found)


def check_lossless(content: bytes, count: int) -> None:
    """Same bits, same operators; the second time, same bytes."""
    model = read(content, "original")
    graph = graph_of(model, "original")
    assert signature(graph).inputs[0].shape[0] == -1
    emitted = emit(graph, Ports(integer=True)).model
    again = write(emitted)
    samples = random_samples(content, count)
    np.testing.assert_array_equal(run(again, samples), run(content, samples))
    assert [operator.type for operator in emitted.operators] == [operator.type for operator in model.operators]
    assert write(emit(graph_of(read(again, "again"), "again"), Ports(integer=True)).model) == again


def random_samples(content: bytes, count: int) -> Array:
    """Normal floats, or all integers alike."""
    model = read(content, "original")
    tensor, random = model.tensors[model.inputs[0].tensor], np.random.default_rng(count)
    shape = (count, *tensor.shape[1:])
    if tensor.type == "INT8":
        return random.integers(-128, 128, shape, dtype=np.int8)
    return random.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", STAND_INS)
def test_small_nets_of_each_kind_come_back_bit_by_bit(name: str) -> None:
    check_lossless(write(STAND_INS[name]()), STAND_IN_INPUTS)


@pytest.mark.parametrize("name", NAMES)
def test_reference_models_come_back_bit_by_bit(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.is_file():
        pytest.skip("needs ../shared/data, which is no part of the project")
    check_lossless(path.read_bytes(), REFERENCE_INPUTS)


@pytest.mark.parametrize("name", STAND_INS)
def test_only_the_input_is_transposed(name: str) -> None:
    graph, _ = optimise(graph_of(STAND_INS[name](), name), None)
    counts = operator_counts(graph)
    assert counts.get("Transpose", 0) == (0 if name.startswith("ad") else 1)


def test_a_shape_for_one_sample_fixes_the_batch() -> None:
    model = STAND_INS["resnet-float"]()
    tensors = tuple(
        replace(tensor, data=np.abs(tensor.data)) if tensor.type == "INT32" and tensor.data is not None else tensor
        for tensor in model.tensors
    )
    operators = tuple(
        replace(operator, options={"newShape": (1, 6)}) if operator.type == "RESHAPE" else operator
        for operator in model.operators
    )
    fixed = replace(model, tensors=tensors, operators=operators)
    assert signature(graph_of(fixed, "net")).inputs[0].shape[0] == 1
