"""Whole nets from PyTorch with odd sizes and its paddings: the numbers stay, and nothing is transposed inside."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.data import Samples
from edgewright.compiler.graph import Graph
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.tflite.emitter.emit import Emitted, emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Array, Model
from tests.compiler.tflite.runs import run_litert, run_onnx
from tests.compiler.zoo.catalog import ZOO, exported, optimised, pictures

MAX_FLOAT_ERROR = 1e-4
"""Of the largest output."""
WITHIN_DB = 1.0
CALIBRATION, TEST = 8, 6

pytestmark = pytest.mark.slow


@cache
def floating(name: str) -> Graph:
    return optimised(exported(ZOO[name]))


@cache
def quantized(name: str) -> Graph:
    graph = floating(name)
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
        samples = Samples({input_of(graph): pictures(ZOO[name].small, CALIBRATION)}, None)
        statistics = collect(graph, samples, scratch)
    return emit_qdq(graph, propose(graph, statistics, Scheme(activations="int8", rules="tflite")))


def input_of(graph: Graph) -> str:
    return graph.graph.inputs[0].name or ""


def on_litert(emitted: Emitted, x: Array) -> dict[str, Array]:
    """Outputs in the graph's own order of axes."""
    name = emitted.model.inputs[0].name
    rows = [run_litert(emitted.model, {name: each[None]}) for each in _turned(emitted, name, x)]
    return {output: np.concatenate([row[output] for row in rows]) for output in rows[0]}


def _turned(emitted: Emitted, name: str, x: Array) -> Array:
    return x.transpose(0, 2, 3, 1) if name in emitted.channels_last else x


def transposed_inside(model: Model) -> list[str]:
    """Names of what a TRANSPOSE reads that is neither an input nor one that was rounded, and makes no output."""
    outer = {port.tensor for port in (*model.inputs, *model.outputs)}
    outer |= {each.outputs[0] for each in model.operators if each.type == "QUANTIZE" and each.inputs[0] in outer}
    outer |= {each.inputs[0] for each in model.operators if each.type == "DEQUANTIZE" and each.outputs[0] in outer}
    return [
        model.tensors[operator.inputs[0]].name
        for operator in model.operators
        if operator.type == "TRANSPOSE" and not outer & {operator.inputs[0], *operator.outputs}
    ]


@pytest.mark.parametrize("channels_last", [False, True], ids=["as in the graph", "channels last"])
@pytest.mark.parametrize("name", ZOO)
def test_float_says_what_onnx_runtime_says(name: str, channels_last: bool) -> None:
    graph = floating(name)
    emitted = emit(graph, Ports(channels_last=channels_last))
    x = pictures(ZOO[name].small, 1, seed=5)
    expected = run_onnx(graph, {input_of(graph): x})
    found = on_litert(emitted, x)
    assert found.keys() == expected.keys()
    for output, wanted in expected.items():
        assert np.abs(found[output] - wanted).max() <= MAX_FLOAT_ERROR * np.abs(wanted).max(), output


@pytest.mark.parametrize("kind", [floating, quantized])
@pytest.mark.parametrize("name", ZOO)
def test_nothing_is_transposed_inside(name: str, kind: type) -> None:
    graph = kind(name)
    assert transposed_inside(emit(graph).model) == []
    operators = emit(graph, Ports(channels_last=True)).model.operators
    assert [operator.type for operator in operators].count("TRANSPOSE") == 0


@pytest.mark.parametrize("name", ZOO)
def test_int8_is_as_near_to_float_as_the_qdq_graph(name: str) -> None:
    graph, rounded = floating(name), quantized(name)
    x = pictures(ZOO[name].small, TEST, seed=5)
    truth = run_onnx(graph, {input_of(graph): x})
    reference = run_onnx(rounded, {input_of(graph): x})
    found = on_litert(emit(rounded, Ports(channels_last=True)), x)
    for output, wanted in truth.items():
        assert snr_db(found[output], wanted) >= snr_db(reference[output], wanted) - WITHIN_DB, output


@pytest.mark.parametrize("name", ZOO)
def test_int8_computes_in_integers(name: str) -> None:
    model = emit(quantized(name), Ports(integer=True)).model
    products = {"CONV_2D", "DEPTHWISE_CONV_2D"}
    kinds = {model.tensors[each.inputs[0]].type for each in model.operators if each.type in products}
    assert kinds == {"INT8"}
