"""Whole nets, float and int8, and random graphs on machines that are not here: the answers of this one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Net
from tests.compiler.native.cross import (
    ARM7,
    ARM7_FMA,
    AVX2,
    NEON,
    NEON_DOT,
    NEON_I8MM,
    Inputs,
    Outputs,
    foreign,
    random_inputs,
    run_foreign,
    run_here,
    source_of,
)
from tests.compiler.native.fuzz import built, joined
from tests.compiler.native.fuzz_cases import cases_of, difference
from tests.compiler.native.single_layer import HERE
from tests.compiler.native.small_nets import WRITERS, float_nets, quantized_nets

pytestmark = pytest.mark.slow
FIRST_SEED = 3600
GRAPHS = 8
WITH_WINOGRAD = {list(WRITERS).index("ic")}
"""Float nets in which machines choose algorithms of their own by their vectors; all others give the same bits."""
TOLERANCE = 2e-5
"""Of the largest output of a whole net: where a machine takes another algorithm or has no fused multiply-add."""


def nets(machine: Machine) -> Net:
    """All float nets, then all int8 ones, as one."""
    return joined([*float_nets(machine), *quantized_nets(machine)])


@cache
def answers() -> tuple[Inputs, Outputs]:
    """Of this machine."""
    net = nets(HERE)
    inputs = random_inputs(net)
    return inputs, run_here(source_of(net, HERE), HERE, inputs)


@pytest.mark.parametrize("machine", foreign(NEON, NEON_DOT, NEON_I8MM, ARM7, ARM7_FMA))
def test_nets_give_the_answers_of_this_machine(machine: Machine) -> None:
    net = nets(machine)
    (found,) = run_foreign(source_of(net, machine), machine, net, answers()[0])
    compare(machine, net, found)


@pytest.mark.skipif(not set(AVX2.isa) <= set(HERE.isa), reason="needs AVX2")
def test_nets_give_the_answers_of_wider_vectors() -> None:
    """Not emulated: qemu 7.2 faults where a masked load ends before a page that is not there; processors do not."""
    net = nets(AVX2)
    compare(AVX2, net, run_here(source_of(net, AVX2), AVX2, answers()[0]))


def compare(machine: Machine, net: Net, found: Outputs) -> None:
    """Bits, where both machines compute in the same way."""
    wanted = answers()[1]
    for index, tensor in enumerate(net.outputs):
        exact = index >= len(WRITERS) and "softmax" not in tensor.name
        if exact or (machine.fma and index not in WITH_WINOGRAD):
            np.testing.assert_array_equal(found[tensor.name], wanted[tensor.name], err_msg=tensor.name)
        else:
            largest = float(np.abs(wanted[tensor.name]).max())
            np.testing.assert_allclose(
                found[tensor.name], wanted[tensor.name], rtol=0, atol=TOLERANCE * largest, err_msg=tensor.name
            )


@pytest.mark.parametrize("machine", foreign(NEON_DOT, ARM7))
def test_random_graphs_give_what_they_must(machine: Machine) -> None:
    all_built = [built(case, machine, np.random.default_rng(5)) for case in cases_of(FIRST_SEED, GRAPHS)]
    net = joined([each.net for each in all_built])
    feeds = {
        f"{index}:{name}": array for index, each in enumerate(all_built) for name, array in each.case.feeds.items()
    }
    (found,) = run_foreign(source_of(net, machine), machine, net, feeds)
    for index, each in enumerate(all_built):
        outputs = {name: found[f"{index}:{name}"] for name in each.case.wanted}
        assert difference(each.case, outputs, fused=machine.fma) is None, each.case.seed
