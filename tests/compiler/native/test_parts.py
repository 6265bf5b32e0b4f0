"""Calls that threads share: the bits of those that one thread makes, and nobody reads what another still writes."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.bundle.native_threads import Pool
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.lower.native.fusion.fuse import fuse
from edgewright.compiler.lower.native.fusion.separable import fuse_separable
from edgewright.compiler.lower.native.kernel import Kernel
from edgewright.compiler.lower.native.kernels.families import default_kernels
from edgewright.compiler.lower.native.library import nets_of
from edgewright.compiler.lower.native.lowering.lower import lower
from edgewright.compiler.lower.native.machine import Machine
from edgewright.compiler.lower.native.net import Dense, Net, Tensor
from edgewright.compiler.lower.native.parts import LEAST_MULTIPLICATIONS, MAX_PARTS, is_divided
from edgewright.compiler.lower.native.source import Source, make_source
from edgewright.compiler.lower.native.toolchain import build
from edgewright.compiler.lower.native.toolchain_options import PORTABLE, isa_options
from edgewright.compiler.lower.native.work import work
from tests.compiler.native.cross import dense_net, random_inputs
from tests.compiler.native.shared_calls import SharedCalls
from tests.compiler.native.single_layer import HERE, PLAIN
from tests.compiler.nets import Net as Writer
from tests.compiler.nets import optimised
from tests.compiler.quantized_nets import random_net

DATA = Path(__file__).parents[4] / "shared" / "data"
REAL = ("mlperf_tiny/onnx/ic_resnet8_f32.onnx", "mlperf_tiny/onnx/vww_f32.onnx")
INTEGER_NETS = ("conv 3x3", "conv 1x1", "conv in 2 groups", "depthwise", "residual")
PARTS = 4
DRIVER = Path(__file__).with_name("threads.c")
LIMIT_S = 60


def random_chain(seed: int) -> Writer:
    """Convolutions of all kinds, element-wise steps, pools and dense layers, in any order."""
    random = np.random.default_rng(seed)
    net = Writer((int(random.integers(3, 9)), *map(int, random.integers(20, 40, 2))), random)
    net.conv(int(random.integers(16, 40)))
    for _ in range(int(random.integers(4, 9))):
        channels = net.shape[0]
        kind = random.integers(6)
        if kind == 0:
            net.conv(channels, groups=channels)
        elif kind == 1:
            net.node("Add", net.conv(channels), net.node("Sigmoid", net.here))
        elif kind == 2 and min(net.shape[1:]) >= 8:
            net.max_pool()
        elif kind == 3:
            net.node("Relu", net.here)
        else:
            net.conv(int(random.integers(4, 40)), kernel=int(random.choice([1, 3])), stride=int(random.integers(1, 3)))
    net.flatten()
    net.gemm(int(random.integers(2, 50)))
    net.node("Softmax", net.here, axis=-1)
    return net


def shared_source(nets: Mapping[int, Net], machine: Machine, parts: int = PARTS) -> Source:
    kernels = {index: default_kernels(net.layers, machine) for index, net in nets.items()}
    assert all(divided_layers(net, kernels[index]) for index, net in nets.items())
    return make_source("test", nets, kernels, machine, "test", parts)


def divided_layers(net: Net, kernels: tuple[Kernel | None, ...]) -> int:
    return sum(
        kernel is not None and is_divided(layer, kernel) for layer, kernel in zip(net.layers, kernels, strict=True)
    )


def random_nets(count: int, batch: int, machine: Machine) -> dict[int, Net]:
    """By entry. Batches are large, so that small layers are worth dividing."""
    return {
        seed + 1: fuse_separable(fuse(lower(optimised(random_chain(seed).model()), batch)), machine)
        for seed in range(count)
    }


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, Pool]]:
    made = {threads: Pool(threads) for threads in (1, 2, 3, PARTS, PARTS + 1)}
    yield made
    for pool in made.values():
        pool.close()


def check(nets: Mapping[int, Net], machine: Machine, pools: Mapping[int, Pool], calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shared = SharedCalls(build(shared_source(nets, machine).files, machine, Path(folder)))
        for entry, net in enumerate(nets.values()):
            inputs = random_inputs(net)
            expected = shared.run(entry, inputs)
            for threads, pool in pools.items():
                for _ in range(calls):
                    found = shared.run(entry, inputs, pool)
                    for name, array in expected.items():
                        assert array.tobytes() == found[name].tobytes(), (entry, threads, name)


@pytest.mark.parametrize("machine", [HERE, PLAIN], ids=lambda machine: machine.name)
def test_random_nets_have_the_same_bits_for_any_number_of_threads(machine: Machine, pools: dict[int, Pool]) -> None:
    """More threads than cores and than parts too."""
    check(random_nets(3, 8, machine), machine, pools, 2)


def test_integer_nets_have_the_same_bits_for_any_number_of_threads(pools: dict[int, Pool]) -> None:
    models = [random_net(name, 3, "u8s8", per_channel=True)[0] for name in INTEGER_NETS]
    graphs = [ir.from_proto(onnx.load_model_from_string(model)) for model in models]
    check({index + 1: fuse(lower(graph, 256)) for index, graph in enumerate(graphs)}, HERE, pools, 2)


@pytest.mark.parametrize("file", REAL)
def test_nets_of_the_benchmark_have_the_same_bits(file: str, pools: dict[int, Pool]) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"{file} is not here")
    check(nets_of(load_onnx(DATA / file).graph, HERE), HERE, pools, 2)


def threaded(source: Source, machine: Machine, sanitizer: list[str], calls: int) -> subprocess.CompletedProcess[str]:
    """Every entry by threads in C, under a sanitizer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in {**source.files, DRIVER.name: DRIVER.read_bytes()}.items():
            (folder / file).write_bytes(content)
        command = ["gcc", "-g", *sanitizer, *PORTABLE, *isa_options(machine, "gcc"), "-pthread", "-o", "program"]
        built = subprocess.run(
            [*command, *sorted(path.name for path in folder.glob("*.c"))],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr[:3000]
        # The sanitizer's memory map knows only so many places at which a program may be loaded.
        still = ["setarch", "-R"] if shutil.which("setarch") else []
        return subprocess.run(
            [*still, "./program", str(PARTS), str(calls)],
            cwd=folder, env={"TSAN_OPTIONS": "halt_on_error=1", "PATH": "/usr/bin:/bin"}, timeout=LIMIT_S,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip


THREAD_SANITIZER = ["-fsanitize=thread"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_no_thread_reads_what_another_still_writes() -> None:
    done = threaded(shared_source(random_nets(2, 2, PLAIN), PLAIN), PLAIN, THREAD_SANITIZER, 2)
    assert done.returncode == 0, done.stderr[:6000]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_thread_that_does_not_wait_is_found() -> None:
    """Without the waiting and without the order that its loads bring: threads that happen to run one after the other on
    a busy machine would else have waited, as the sanitizer sees it."""
    source = shared_source(random_nets(1, 2, PLAIN), PLAIN)
    hasty = re.sub(rb"__ATOMIC_ACQUIRE\) < turn\) {", b"__ATOMIC_RELAXED) < turn && 0) {", source.files["model.c"])
    assert hasty != source.files["model.c"]
    broken = replace(source, files={**source.files, "model.c": hasty})
    done = threaded(broken, PLAIN, THREAD_SANITIZER, 3)
    assert "data race" in done.stderr


def test_layers_with_little_to_do_are_left_to_one_thread() -> None:
    net = dense_net()
    source = make_source("test", {1: net}, {1: default_kernels(net.layers, HERE)}, HERE, "test", PARTS)
    assert source.max_parts == 1
    assert b"run_part_1" not in source.files["model.c"]


def test_small_layers_between_large_ones_are_computed_once() -> None:
    random = np.random.default_rng(0)
    tensors = [Tensor(f"t{index}", (512, width)) for index, width in enumerate((64, 64, 3, 65, 1000))]
    layers = tuple(
        Dense(x=x, y=y, weight=random.normal(size=(y.shape[-1], x.shape[-1])).astype(np.float32))
        for x, y in itertools.pairwise(tensors)
    )
    net = Net((tensors[0],), (tensors[-1],), layers)
    assert [work(layer) >= LEAST_MULTIPLICATIONS for layer in layers] == [True, False, False, True]
    text = shared_source({1: net}, HERE).files["model.c"].decode()
    walk = text[text.index("static void run_part_1") :]
    assert walk.count("if (part == 0) {") == 2
    assert re.findall(r"ew_arrive\(arrived, part, (\d+)\)", walk) == ["1", "2", "3"]


@pytest.mark.parametrize("parts", [0, -1, MAX_PARTS + 1])
def test_a_number_of_parts_that_cannot_be_is_refused(parts: int) -> None:
    net = dense_net()
    with pytest.raises(ValueError, match="1 to 16 threads"):
        make_source("test", {1: net}, {1: default_kernels(net.layers, HERE)}, HERE, "test", parts)
