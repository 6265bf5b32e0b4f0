"""Generated code under the sanitizers and valgrind; and the sanitizers find what is planted."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from edgewright.compiler.lower.native.machine import Machine
from tests.compiler.native.cross import (
    AVX2,
    dense_net,
    random_inputs,
    run_here,
    run_sanitized,
    run_valgrind,
    source_of,
)
from tests.compiler.native.single_layer import HERE, PLAIN

MACHINES = [
    pytest.param(machine, id=machine.name)
    for machine in (HERE, AVX2, PLAIN)
    if machine.arch == HERE.arch and set(machine.isa) <= set(HERE.isa)
]
UNDER_VALGRIND = [parameter for parameter in MACHINES if "avx512" not in str(parameter.id)]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: apt-get install gcc libc6-dev")
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind: apt-get install valgrind")


@needs_gcc
@pytest.mark.parametrize("machine", MACHINES)
def test_dense_layers_are_clean_under_the_sanitizers(machine: Machine) -> None:
    net = dense_net()
    inputs = random_inputs(net)
    source = source_of(net, machine)
    (found,) = run_sanitized(source, machine, net, inputs)
    assert found["t3"].tobytes() == run_here(source, machine, inputs)["t3"].tobytes()


@needs_gcc
@needs_valgrind
@pytest.mark.parametrize("machine", UNDER_VALGRIND)
def test_dense_layers_are_clean_under_valgrind(machine: Machine) -> None:
    net = dense_net()
    inputs = random_inputs(net)
    source = source_of(net, machine)
    (found,) = run_valgrind(source, machine, net, inputs)
    assert found["t3"].tobytes() == run_here(source, machine, inputs)["t3"].tobytes()


@needs_gcc
def test_a_write_behind_an_output_is_found() -> None:
    net = dense_net()
    source = source_of(net, PLAIN)
    planted = source.files["model.c"].replace(b"    (void)out;\n", b"    ((float *)out[0])[7 * 5] = 1;\n")
    broken = dataclasses.replace(source, files={**source.files, "model.c": planted})
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        run_sanitized(broken, PLAIN, net, random_inputs(net))


@needs_gcc
@needs_valgrind
def test_a_decision_on_memory_never_written_is_found() -> None:
    net = dense_net()
    source = source_of(net, PLAIN)
    planted = source.files["model.c"].replace(
        b"    (void)out;\n", b"    if (((float *)out[0])[0] > 0) ((float *)out[0])[1] = 1;\n"
    )
    broken = dataclasses.replace(source, files={**source.files, "model.c": planted})
    with pytest.raises(AssertionError, match="ended with 9"):
        run_valgrind(broken, PLAIN, net, random_inputs(net))
