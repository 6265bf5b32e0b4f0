"""The C that is put together: files, sharing, text that nobody can break out of, and no warnings anywhere."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.lower.native.description import c_string
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Dense, Net, Tensor
from edgewright.compiler.lower.native.source import C_FOLDER, FILE_CHARACTERS
from edgewright.compiler.lower.native.toolchain import build
from edgewright.compiler.lower.native.toolchain_choice import Toolchain, toolchains
from edgewright.compiler.lower.native.toolchain_options import PORTABLE, isa_options
from tests.compiler.native.cross import (
    ARM7,
    ARM7_FMA,
    AVX2,
    NEON,
    NEON_DOT,
    NEON_I8MM,
    dense_net,
    random_inputs,
    run_here,
    source_of,
)
from tests.compiler.native.single_layer import HERE, PLAIN

COMPILERS = [
    pytest.param(machine, toolchain, id=f"{machine.name}-{toolchain.name}")
    for machine in (HERE, AVX2, PLAIN, NEON, NEON_DOT, NEON_I8MM, ARM7, ARM7_FMA)
    for toolchain in toolchains(machine.arch)
]


@pytest.mark.parametrize(("machine", "toolchain"), COMPILERS)
def test_no_compiler_has_a_warning_for_the_headers(machine: Machine, toolchain: Toolchain, tmp_path: Path) -> None:
    text = f'#define EW_MAX_LANES {machine.lanes}\n#include "ew_math.h"\n#include "ew_dot.h"\n'
    (tmp_path / "all.c").write_text(text)
    options = [*PORTABLE, "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *isa_options(machine, toolchain.name)]
    environment = {"PATH": "/usr/bin:/bin", "ZIG_GLOBAL_CACHE_DIR": str(tmp_path), "ZIG_LOCAL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [*toolchain.command, *options, f"-I{C_FOLDER}", "-c", "-o", "all.o", "all.c"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]


def test_layers_with_the_same_text_share_a_function_and_the_same_weights_lie_once() -> None:
    weight = np.ones((8, 8), np.float32)
    x, y, z = (Tensor(name, (4, 8)) for name in "xyz")
    net = Net((x,), (z,), (Dense(x=x, y=y, weight=weight), Dense(x=y, y=z, weight=weight)))
    source = source_of(net, HERE)
    assert source.files["kernels.h"].count(b"void ew_dense_") == 1
    assert source.files["model.c"].count(b"ew_dense_0(") == 2
    assert len(source.files["weights.bin"]) <= 8 * HERE.lanes * 4 * max(1, 16 // HERE.lanes) * 4


def test_much_code_is_shared_out_to_several_files_and_computes_the_same() -> None:
    net = dense_net(9, [width + 40 for width in range(1, 40, 2)])
    source = source_of(net, HERE)
    files = [name for name in source.files if name.startswith("kernels_")]
    assert len(files) > 1
    assert all(len(source.files[name]) < 2 * FILE_CHARACTERS for name in files)
    inputs = random_inputs(net)
    expected = inputs["t0"].astype(np.float64)
    for layer in net.layers:
        assert isinstance(layer, Dense)
        expected = expected @ layer.weight.T.astype(np.float64)
    (found,) = run_here(source, HERE, inputs).values()
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ['a"b\\', "*/ #error x", "??/\nint x;", "ünïcode", "%s\0"[:2], "a" * 3000])
def test_names_stay_text(name: str, tmp_path: Path) -> None:
    net = dense_net()
    x, y = (dataclasses.replace(port, name=name + role) for port, role in ((net.inputs[0], "i"), (net.outputs[0], "o")))
    (first, *middle, last) = net.layers
    assert isinstance(first, Dense)
    assert isinstance(last, Dense)
    layers = (dataclasses.replace(first, x=x, origin=name), *middle, dataclasses.replace(last, y=y, origin=name))
    source = source_of(Net((x,), (y,), layers), PLAIN)
    loaded = Loaded(build(source.files, PLAIN, tmp_path))
    assert [port.name for port in loaded.entry.inputs] == [name + "i"]


def test_a_c_string_cannot_be_left() -> None:
    assert c_string('"\\??/\n') == r'"\042\134\077\077/\012"'
