"""What bench/emit.py decides and counts, without its data."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from bench.emitters.agreement import equal_answers, parts, per_operator
from bench.emitters.lossless import as_printed, equal_samples
from bench.emitters.promises import promises
from bench.quantizers.promises import kept
from edgewright.compiler.graph import Graph, to_proto
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from tests.compiler.nets import Net, optimised, statistics_of

GOOD: dict[str, Any] = {
    "nets": {
        "kws": {
            "read_and_written": {"samples": 10, "optimised": 10, "reference": 10},
            "boards": {"1.1 NUCLEO": {"reference": 9, "ours": 9}},
            "vela": {"ours": {"on_cpu": []}, "cycles_ratio": 1.05},
            "steps": {"Conv a": 0, "Add b": 1},
            "end_to_end": {"equal_answers": 0.97},
            "speed": {"theirs_over_ours": {"float, 1 threads": {"value": 0.97}}},
        }
    },
    "zoo": {
        "resnet": {
            "float_error": 1e-5,
            "transposes": 0,
            "qdq_snr_db": {"y": 30.0},
            "int8_snr_db": {"y": 29.5},
            "reference_kernels_snr_db": {"y": 29.1},
        }
    },
}
BAD: dict[tuple[str, ...], Any] = {
    ("nets", "kws", "read_and_written", "optimised"): 9,
    ("nets", "kws", "read_and_written", "reference"): 9,
    ("nets", "kws", "boards", "1.1 NUCLEO", "ours"): 8,
    ("nets", "kws", "vela", "ours", "on_cpu"): ["SOFTMAX"],
    ("nets", "kws", "vela", "cycles_ratio"): 1.06,
    ("nets", "kws", "steps", "Conv a"): 2,
    ("nets", "kws", "end_to_end", "equal_answers"): 0.96,
    ("nets", "kws", "speed", "theirs_over_ours", "float, 1 threads", "value"): 0.96,
    ("zoo", "resnet", "float_error"): 2e-4,
    ("zoo", "resnet", "transposes"): 1,
    ("zoo", "resnet", "int8_snr_db", "y"): 28.9,
}


def test_figures_within_their_limits_are_kept() -> None:
    judged = list(promises(GOOD))
    assert all(map(kept, judged))
    assert len(judged) == 11


@pytest.mark.parametrize("place", BAD, ids=".".join)
def test_each_figure_beyond_its_limit_is_one_that_is_missed(place: tuple[str, ...]) -> None:
    figures = copy.deepcopy(GOOD)
    at = figures
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = BAD[place]
    assert [kept(one) for one in promises(figures)].count(False) == 1


def test_samples_are_equal_where_every_output_is() -> None:
    first, second = np.zeros((3, 2), np.int8), np.zeros((3, 1, 4), np.int8)
    other = second.copy()
    other[1, 0, 2] = 1
    assert equal_samples([first, second], [first, other]) == 2
    assert equal_samples([first], [first.astype(np.float32)]) == 0


def test_boards_print_three_decimals() -> None:
    scores = np.array([[243 / 256, 13 / 256]])
    assert as_printed(scores, np.array([[0.949, 0.051]])) == 1
    assert as_printed(scores, np.array([[0.949, 0.047]])) == 0


def test_answers_are_classes_or_elements() -> None:
    exact = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert equal_answers(np.add(exact, [0.3, 0.0]), exact, 0.1) == 1.0
    assert equal_answers(exact[::-1], exact, 0.1) == 0.0
    rebuilt = np.zeros((1, 200))
    rebuilt[0, :50] = 0.25
    assert equal_answers(rebuilt, np.zeros((1, 200)), 0.125) == 0.75


def quantized_net() -> tuple[Graph, np.ndarray]:
    net = Net((3, 9, 7), np.random.default_rng(0))
    net.conv(4, 3, 2)
    net.node("Relu", net.here)
    net.conv(5, 1)
    graph = optimised(net.model(net.here))
    x = np.random.default_rng(1).normal(size=(6, 3, 9, 7)).astype(np.float32)
    plan = propose(graph, statistics_of(graph, {"x": x}), Scheme(activations="int8", rules="tflite"))
    return emit_qdq(graph, plan), x


def test_a_net_is_cut_at_its_quantizers() -> None:
    graph, _ = quantized_net()
    found = list(parts(to_proto(graph)))
    operators = [part.operators for part in found]
    assert operators[0] == "QuantizeLinear"
    assert [each.split("+")[0] for each in operators[1:]] == ["Conv", "Conv"]
    assert [part.inputs for part in found[1:]] == [(part.output,) for part in found[:-1]]


def test_every_operator_of_a_small_net_is_within_one_step() -> None:
    graph, x = quantized_net()
    steps = per_operator(graph, x[:2])
    assert len(steps) == 3
    assert max(steps.values()) <= 1
