"""Runs a source on machines that are not here, and here under the eyes of sanitizers and valgrind.

The source is built into one program: with `driver.c`, which needs no C library, for machines that are not here, and
here with the example that ships with exported C. Both read inputs from files and write outputs to files, in buffers of
exactly the size that the model asks for.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.lower.native.export import EXAMPLE_FILE
from edgewright.compiler.lower.native.kernels.families import kernel_of, tiles_of
from edgewright.compiler.lower.native.loaded import Loaded
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import NUMPY, Alias, Array, Dense, Net, Tensor
from edgewright.compiler.lower.native.source import C_FOLDER, Source, make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.compiler.lower.native.toolchain_choice import zig
from edgewright.compiler.lower.native.toolchain_options import PORTABLE, isa_options
from edgewright.compiler.lower.native.toolchain_process import CompilerEnded, run_all

AVX2 = machine_for("x86_64", frozenset({"avx", "avx2", "fma", "f16c"}))
NEON = machine_for("aarch64", frozenset({"fp", "asimd"}))
NEON_DOT = machine_for("aarch64", frozenset({"fp", "asimd", "asimddp"}))
NEON_I8MM = machine_for("aarch64", frozenset({"fp", "asimd", "asimddp", "i8mm"}))
ARM7 = machine_for("armv7l", frozenset({"neon"}))
ARM7_FMA = machine_for("armv7l", frozenset({"neon", "vfpv4"}))
EMULATED = {
    "sse2": ("qemu-x86_64", "qemu64"),
    "avx2": ("qemu-x86_64", "Haswell"),
    "neon": ("qemu-aarch64", "cortex-a72"),
    "neon-dot": ("qemu-aarch64", "cortex-a76"),
    "neon-i8mm": ("qemu-aarch64", "max"),
    "armv7-neon": ("qemu-arm", "cortex-a9"),
    "armv7-neon-fma": ("qemu-arm", "cortex-a7"),
}
"""Emulator and processor by machine: the oldest processor that has the features, so that code that uses more is killed.
QEMU 7.2 has neither AVX-512 nor AVX-VNNI."""
DRIVER = Path(__file__).with_name("driver.c")
LIMIT_S = 280.0

Inputs = Mapping[str, Array]
Outputs = dict[str, Array]


def why_not(machine: Machine) -> str | None:
    """What is missing to run code of a machine here, for a skip; None where nothing is."""
    if machine.name not in EMULATED:
        return f"no emulator knows {machine.name}"
    if zig(machine.arch) is None:
        return "needs zig: pip install 'edgewright[native]'"
    if shutil.which(EMULATED[machine.name][0]) is None:
        return f"needs {EMULATED[machine.name][0]}: apt-get install qemu-user"
    return None


def foreign(*machines: Machine) -> list[object]:
    """Machines as parameters of a test, skipped with a reason where they cannot be run."""
    return [
        pytest.param(
            machine, id=machine.name, marks=pytest.mark.skipif(bool(why_not(machine)), reason=str(why_not(machine)))
        )
        for machine in machines
    ]


def run_foreign(
    source: Source, machine: Machine, net: Net, inputs: Inputs | Sequence[Inputs], batch: int = 0
) -> list[Outputs]:
    """Outputs of a source that was made for a machine, under its emulator: one dictionary for each of the inputs.

    Args:
        source: with the net as one of its entries.
        machine: see `why_not`.
        net: names, types and shapes of inputs and outputs.
        inputs: by name; one set, or several.
        batch: of the entry; 0 for the first.
    """
    toolchain = zig(machine.arch)
    assert toolchain is not None
    emulator, processor = EMULATED[machine.name]
    options = [*toolchain.command, *PORTABLE, "-fno-sanitize=all", "-fno-stack-protector", *isa_options(machine, "zig")]
    with _program(source, DRIVER, options, ["-nostdlib", "-static"], toolchain.command) as program:
        command = [emulator, "-cpu", processor, str(program)]
        return [
            _call([*command, str(batch), *ins, *outs], one, net, program.parent)
            for one, ins, outs in _calls(inputs, net, program.parent)
        ]


def run_sanitized(
    source: Source, machine: Machine, net: Net, inputs: Inputs | Sequence[Inputs], batch: int = 0
) -> list[Outputs]:
    """The same on this machine, under the address and the undefined behaviour sanitizer; what they find fails."""
    return _run_here(
        source, machine, net, inputs, batch, ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], []
    )


def run_valgrind(
    source: Source, machine: Machine, net: Net, inputs: Inputs | Sequence[Inputs], batch: int = 0
) -> list[Outputs]:
    """The same under valgrind, which also finds what depends on memory that was never written. It knows no AVX-512."""
    watch = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full"]
    return _run_here(source, machine, net, inputs, batch, [], watch)


def _run_here(
    source: Source,
    machine: Machine,
    net: Net,
    inputs: Inputs | Sequence[Inputs],
    batch: int,
    watched: list[str],
    before: list[str],
) -> list[Outputs]:
    # Under the sanitizers -O2 takes twice as long to compile and watches no more.
    level = ["-O1"] if watched else []
    options = ["gcc", "-g", *watched, *PORTABLE, *level, *isa_options(machine, "gcc")]
    with _program(source, C_FOLDER / EXAMPLE_FILE, options, watched, ("gcc",)) as program:
        picked = ["-b", str(batch)] if batch else []
        return [
            _call([*before, str(program), *picked, *ins, "-o", *outs], one, net, program.parent)
            for one, ins, outs in _calls(inputs, net, program.parent)
        ]


@contextlib.contextmanager
def _program(
    source: Source, main: Path, options: Sequence[str], link: Sequence[str], linker: Sequence[str]
) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {**source.files, main.name: main.read_bytes()}
        for file, content in files.items():
            (folder / file).write_bytes(content)
        sources = sorted(file for file in files if file.endswith(".c"))
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": name}
        environment |= {"ZIG_GLOBAL_CACHE_DIR": f"{name}/zig", "ZIG_LOCAL_CACHE_DIR": f"{name}/zig"}
        run_all([[*options, "-c", file] for file in sources], folder, environment, LIMIT_S)
        objects = [f"{file[:-2]}.o" for file in sources]
        linked = [*linker, *link, "-o", "program", *objects]
        try:
            run_all([linked], folder, environment, LIMIT_S)
        except CompilerEnded as ended:
            if "__aeabi_" not in ended.output:
                raise
            # Divisions that 32-bit ARM has no instruction for; making them takes seconds.
            run_all([[*linked, "-lcompiler_rt", "-Wl,--gc-sections"]], folder, environment, LIMIT_S)
        yield folder / "program"


def _calls(inputs: Inputs | Sequence[Inputs], net: Net, folder: Path) -> Iterator[tuple[Inputs, list[str], list[str]]]:
    ins = [str(folder / f"in_{index}") for index in range(len(net.inputs))]
    outs = [str(folder / f"out_{index}") for index in range(len(net.outputs))]
    for one in [inputs] if isinstance(inputs, Mapping) else inputs:
        yield one, ins, outs


def _call(command: list[str], inputs: Inputs, net: Net, folder: Path) -> Outputs:
    for index, port in enumerate(net.inputs):
        array = np.ascontiguousarray(inputs[port.name], NUMPY[port.dtype])
        assert array.size == math.prod(port.buffer_shape), port
        (folder / f"in_{index}").write_bytes(array.tobytes())
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)[:200]} ended with {done.returncode}: {done.stderr[:6000]}"
    return {
        port.name: np.frombuffer((folder / f"out_{index}").read_bytes(), NUMPY[port.dtype]).reshape(port.buffer_shape)
        for index, port in enumerate(net.outputs)
    }


def source_of(nets: Mapping[int, Net] | Net, machine: Machine) -> Source:
    """A source with the first tile of every layer."""
    entries = {1: nets} if isinstance(nets, Net) else nets
    kernels = {
        batch: tuple(
            None if isinstance(layer, Alias) else kernel_of(layer, machine, tiles_of(layer, machine)[0])
            for layer in net.layers
        )
        for batch, net in entries.items()
    }
    return make_source("test", entries, kernels, machine, "test")


def run_here(source: Source, machine: Machine, inputs: Inputs, entry: int = 0) -> Outputs:
    """The same on this machine, through the shared library."""
    with tempfile.TemporaryDirectory() as folder:
        return Loaded(build(source.files, machine, Path(folder)), entry).run(inputs)


def random_inputs(net: Net, seed: int = 0) -> Outputs:
    """Normal floats, and integers over all of their range."""
    random = np.random.default_rng(seed)

    def draw(tensor: Tensor) -> Array:
        if tensor.dtype == "f32":
            return random.normal(size=tensor.buffer_shape).astype(np.float32)
        if tensor.dtype == "bool":
            return random.integers(0, 2, tensor.buffer_shape).astype(np.bool_)
        if tensor.dtype == "f16":
            return random.normal(size=tensor.buffer_shape).astype(np.float16)
        limits = np.iinfo(NUMPY[tensor.dtype])
        return random.integers(limits.min, limits.max, tensor.buffer_shape, NUMPY[tensor.dtype], endpoint=True)

    return {tensor.name: draw(tensor) for tensor in net.inputs}


def dense_net(rows: int = 7, widths: Sequence[int] = (19, 33, 16, 5), seed: int = 0) -> Net:
    """Dense layers in a row, with sizes that leave remainders everywhere."""
    random = np.random.default_rng(seed)
    tensors = [Tensor(f"t{index}", (rows, width)) for index, width in enumerate(widths)]
    layers = tuple(
        Dense(
            x=x, y=y, weight=random.normal(size=(y.shape[-1], x.shape[-1])).astype(np.float32), origin=f"dense {y.name}"
        )
        for x, y in itertools.pairwise(tensors)
    )
    return Net((tensors[0],), (tensors[-1],), layers)


def small_source(machine: Machine) -> Source:
    """A source that compiles at once."""
    return source_of(dense_net(), machine)
