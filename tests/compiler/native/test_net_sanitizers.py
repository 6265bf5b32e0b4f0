"""Whole nets and random graphs under the sanitizers and valgrind: clean, and the bits of the shared library."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest

from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Net
from tests.compiler.native.cross import (
    Inputs,
    Outputs,
    random_inputs,
    run_here,
    run_sanitized,
    run_valgrind,
    source_of,
)
from tests.compiler.native.fuzz import built, joined
from tests.compiler.native.fuzz_cases import cases_of
from tests.compiler.native.several_layers import MACHINES
from tests.compiler.native.small_nets import float_nets, quantized_nets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: apt-get install gcc libc6-dev"),
]
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind: apt-get install valgrind")
PLAINEST = MACHINES[-1]
FIRST_SEED = 2400
GRAPHS = 10
Drawn = Callable[[Machine], tuple[Net, Inputs]]


def nets(machine: Machine) -> tuple[Net, Inputs]:
    """Keyword spotting, image classification, visual wake words, anomalies, digits, MobileNetV2; float and int8."""
    net = joined([*float_nets(machine), *quantized_nets(machine)])
    return net, random_inputs(net)


def graphs(machine: Machine) -> tuple[Net, Inputs]:
    """Of the fuzz, on their own inputs: indices must be such."""
    all_built = [built(case, machine, None) for case in cases_of(FIRST_SEED, GRAPHS)]
    feeds = {
        f"{index}:{name}": array for index, each in enumerate(all_built) for name, array in each.case.feeds.items()
    }
    return joined([each.net for each in all_built]), feeds


def check_same(found: Outputs, wanted: Outputs) -> None:
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("machine", MACHINES[:1], ids=lambda machine: machine.name)
@pytest.mark.parametrize("drawn", [nets, graphs], ids=lambda drawn: drawn.__name__)
def test_clean_under_the_sanitizers(machine: Machine, drawn: Drawn) -> None:
    net, inputs = drawn(machine)
    source = source_of(net, machine)
    (found,) = run_sanitized(source, machine, net, inputs)
    check_same(found, run_here(source, machine, inputs))


@needs_valgrind
@pytest.mark.parametrize("drawn", [nets, graphs], ids=lambda drawn: drawn.__name__)
def test_clean_under_valgrind(drawn: Drawn) -> None:
    net, inputs = drawn(PLAINEST)
    source = source_of(net, PLAINEST)
    (found,) = run_valgrind(source, PLAINEST, net, inputs)
    check_same(found, run_here(source, PLAINEST, inputs))
