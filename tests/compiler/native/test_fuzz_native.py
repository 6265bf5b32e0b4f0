"""Two minutes of random graphs as native code; `fuzz.py` runs as long as one likes."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.interpret import run
from edgewright.compiler.lower.native.lowering.operators import OPERATORS
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Alias, Move, Net, Part, Tensor
from tests.compiler.native.fuzz import ROUND, fuzz_round
from tests.compiler.native.fuzz_cases import cases_of, difference
from tests.compiler.native.random_graphs import random_writer
from tests.compiler.native.several_layers import MACHINES

FIRST_SEED = 0
"""The same graphs every time; `fuzz.py` looks at new ones."""
ROUNDS = 6
"""Per machine; about six seconds each."""
NOT_DRAWN = {
    "CastLike", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "Swish",
    "Upsample",
}  # fmt: skip
"""Of ONNX: what quantized graphs have, what ONNX Runtime lacks, and what is only in old models."""


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_random_graphs_give_what_they_must(machine: Machine, turn: int) -> None:
    seed = FIRST_SEED + ROUND * (turn * len(MACHINES) + MACHINES.index(machine))
    done, problems = fuzz_round(seed, machine)
    assert not problems, "\n\n".join(problems)
    assert done >= ROUND // 2


def test_every_operator_is_drawn() -> None:
    drawn = {node.op_type for seed in range(700) for node in random_writer(seed)[0].nodes}
    known = {op_type for domain, op_type in OPERATORS if not domain}
    assert known - drawn <= NOT_DRAWN


def test_wrong_answers_are_found() -> None:
    cases = cases_of(0, 4)
    floats = next(case for case in cases if not case.quantized and any(case.allowed.values()))
    name, allowed = next((name, allowed) for name, allowed in floats.allowed.items() if allowed)
    right = {key: array.copy() for key, array in floats.wanted.items()}
    assert difference(floats, right) is None
    right[name].reshape(-1)[-1] += 1.5 * allowed
    assert name in str(difference(floats, right))
    right[name].reshape(-1)[-1] = np.nan
    assert name in str(difference(floats, right))


def test_a_view_of_the_same_shape_is_no_riddle() -> None:
    """It was taken for what made its own source, and fusion went round for ever."""
    x, same, moved = Tensor("x", (2, 1, 3)), Tensor("same", (2, 1, 3)), Tensor("moved", (2, 3))
    made, turned = Tensor("made", (2, 1, 3)), Tensor("y", (3, 2))
    copy = Move(
        y=made, parts=(Part(x=x, extents=x.shape, x_strides=x.strides, y_strides=x.strides, x_start=0),), fill=0.0
    )
    turn = Part(x=moved, extents=(3, 2), x_strides=(1, 3), y_strides=turned.strides)
    net = Net(
        (x,),
        (turned,),
        (copy, Alias(x=made, y=same), Alias(x=same, y=moved), Move(y=turned, parts=(turn,))),
    )
    fused = fuse(net)
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 1, 3)}
    np.testing.assert_array_equal(run(fused, feeds)["y"], feeds["x"].reshape(2, 3).T)
    assert not any(isinstance(layer, Alias) and layer.x.name == layer.y.name for layer in fused.layers)


def test_errors_of_a_layer_are_a_millionth_of_what_it_makes() -> None:
    """What is allowed stays small: no graph lets a wrong answer through."""
    shares = [
        allowed / max(float(np.abs(case.wanted[name]).max(initial=0)), 1e-30)
        for case in cases_of(0, 60)
        if not case.quantized
        for name, allowed in case.allowed.items()
    ]
    assert float(np.median(shares)) < 3e-5
    assert float(np.quantile(shares, 0.95)) < 1e-3
