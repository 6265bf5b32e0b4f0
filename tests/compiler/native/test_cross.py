"""Code for machines that are not here gives the bits that this machine gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Net, Tensor
from tests.compiler.native.cross import (
    ARM7,
    ARM7_FMA,
    AVX2,
    NEON,
    NEON_DOT,
    NEON_I8MM,
    dense_net,
    foreign,
    random_inputs,
    run_foreign,
    run_here,
    source_of,
)
from tests.compiler.native.single_layer import HERE, PLAIN

pytestmark = pytest.mark.skipif(not HERE.fma, reason="this machine has no fused multiply-add to compare with")


@pytest.mark.parametrize("machine", foreign(AVX2, NEON, NEON_DOT, NEON_I8MM, ARM7_FMA))
def test_machines_with_fused_multiply_add_give_the_same_bits(machine: Machine) -> None:
    net = dense_net()
    inputs = random_inputs(net)
    (found,) = run_foreign(source_of(net, machine), machine, net, inputs)
    assert found["t3"].tobytes() == run_here(source_of(net, HERE), HERE, inputs)["t3"].tobytes()


@pytest.mark.parametrize("machine", foreign(ARM7, PLAIN))
def test_machines_without_it_give_the_same_bits_too(machine: Machine) -> None:
    net = dense_net()
    inputs = random_inputs(net)
    (found,) = run_foreign(source_of(net, machine), machine, net, inputs)
    assert found["t3"].tobytes() == run_here(source_of(net, PLAIN), PLAIN, inputs)["t3"].tobytes()


@pytest.mark.parametrize("machine", foreign(NEON))
def test_an_entry_is_picked_by_its_batch(machine: Machine) -> None:
    nets = {1: dense_net(1), 4: dense_net(4)}
    inputs = random_inputs(nets[4])
    (found,) = run_foreign(source_of(nets, machine), machine, nets[4], inputs, batch=4)
    single = {"t0": inputs["t0"][:1]}
    np.testing.assert_array_equal(found["t3"][:1], run_here(source_of(nets, HERE), HERE, single)["t3"])


@pytest.mark.parametrize("machine", foreign(PLAIN, AVX2, NEON, ARM7, ARM7_FMA))
def test_numbers_are_rounded_half_to_even_everywhere(machine: Machine) -> None:
    random = np.random.default_rng(0)
    some = [0.5, 1.5, 2.5, 0.49999997, 4194303.5, 8388607.5, 8388608.0, 16777217.0, 2147483520.0, 0.0, 1e-30]
    values = np.concatenate([random.normal(size=53), some]).astype(np.float32) * random.choice([-1, 1], 64)
    net = Net((Tensor("x", (64,)),), (Tensor("y", (64,), "s32"),), ())
    body = b"""for (int i = 0; i < 64; i += 4)
        ew_store_s32x4((int32_t *)out[0] + i, ew_to_s32_even_f32x4(ew_load_f32x4((const float *)in[0] + i)));
"""
    source = source_of(net, machine)
    model = b'#define EW_MAX_LANES 4\n#include "ew_vector.h"\n' + source.files["model.c"]
    source = dataclasses.replace(source, files={**source.files, "model.c": model.replace(b"(void)out;\n", body)})
    (found,) = run_foreign(source, machine, net, {"x": values.astype(np.float32)})
    np.testing.assert_array_equal(found["y"], np.rint(values).astype(np.int32))
