"""The first seeds of the fuzzer, and that it sees what it looks for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgewright.compiler.graph import from_proto, to_proto
from tests.compiler.nets import optimised
from tests.compiler.tflite.fuzz import SCHEMES, check, quantized
from tests.compiler.tflite.fuzz_checks import Cut, cuts_of, integer_problems
from tests.compiler.tflite.fuzz_nets import net_of

SEEDS = 16


@pytest.mark.parametrize("first", range(0, SEEDS, 4))
def test_random_nets_compute_what_onnx_runtime_computes(first: int) -> None:
    counted: Counter[str] = Counter()
    problems = [problem for seed in range(first, first + 4) for problem in check(seed, counted)]
    assert problems == []
    assert counted["float"] >= 3


def test_each_cut_is_what_a_graph_dequantizes() -> None:
    net = net_of(0)
    graph = quantized(optimised(net.model), net, SCHEMES["int8, TFLite's rules"])
    cuts = cuts_of(to_proto(graph))
    read = {node.inputs[0].name for node in graph.graph if node.op_type == "DequantizeLinear" and node.inputs[0]}
    assert {cut.integers for cut in cuts} == read - set(graph.graph.initializers)
    feeds = {name: array[: net.batch] for name, array in net.samples.items()}
    assert integer_problems(from_proto(to_proto(graph)), feeds) == []


def test_more_than_a_step_is_seen_and_less_is_not() -> None:
    cut = Cut("y", "y_real", 0.5, 3, "int8", ("Conv",), 0.5)
    assert cut.steps(9) == 1
    np.testing.assert_array_equal(cut.of(np.asarray([-1.0, 0.0, 100.0])), np.asarray([1, 3, 127], np.int8))
    assert Cut("y", "y_real", 2**-15, 0, "int16", ("Softmax",), 0.1).steps(9) == 22
