"""The emulator is right where a real ONNX Runtime, on this CPU and on an emulated one, gives the same bits."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.lower.convolution import Window, convolve
from edgewright.compiler.lower.emulator import Emulator
from edgewright.compiler.lower.matrices import multiply
from edgewright.targets.accumulation import Lookup, exact, of_board, saturating
from edgewright.targets.host import detect_host

from .quantized_nets import NETS, Samples, random_net

QEMU = shutil.which("qemu-x86_64")
OPERANDS = ("u8s8", "s8s8", "u8u8")
DATATYPES = {"u8": np.uint8, "s8": np.int8}
CASES = [(name, operands, per_channel) for name in NETS for operands in OPERANDS for per_channel in (True, False)]


def emulated(model: bytes, samples: Samples, accumulation: Lookup) -> NDArray[Any]:
    return next(iter(Emulator(model, accumulation).call(samples).values()))


def here(model: bytes, samples: Samples) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: NDArray[Any] = session.run(None, samples)[0]
    return result


@settings(max_examples=60, deadline=None)
@given(case=st.sampled_from(CASES), seed=st.integers(0, 2**32 - 1))
def test_random_nets_give_the_bits_of_this_cpu(case: tuple[str, str, bool], seed: int) -> None:
    name, operands, per_channel = case
    model, samples = random_net(name, seed, operands, per_channel=per_channel)
    np.testing.assert_array_equal(emulated(model, samples, of_board(detect_host())), here(model, samples))


def written_model(node: onnx.NodeProto, x: NDArray[Any], constants: list[NDArray[Any]]) -> bytes:
    """One integer operator that stands in the model as such."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    named = zip(constants, node.input[1:], strict=True)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", kind, [None] * x.ndim)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(array), name) for array, name in named],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def written_cases() -> dict[str, tuple[bytes, Samples]]:
    """Operators that no optimiser made: s8 activations stay s8, and their kernels widen."""
    random = np.random.default_rng(5)
    cases: dict[str, tuple[bytes, Samples]] = {}
    for operands in OPERANDS:
        activation, weight = DATATYPES[operands[:2]], DATATYPES[operands[2:]]
        limits = np.iinfo(activation)
        weights = np.array([127, -127, 64, 3] if weight is np.int8 else [255, 1, 128, 7], weight)
        for label, (operator, domain, shape, constants) in written_operators(
            random, activation, weight, weights
        ).items():
            x = random.choice(np.array([limits.max, limits.max - 3, limits.min, 5], activation), shape)
            names = [f"c{index}" for index in range(len(constants))]
            node = helper.make_node(operator, ["x", *names], ["y"], operator, domain=domain)
            cases[f"{label} {operands}"] = written_model(node, x, constants), {"x": x}
    return cases


def written_operators(
    random: np.random.Generator, activation: type[Any], weight: type[Any], weights: NDArray[Any]
) -> dict[str, tuple[str, str, tuple[int, ...], list[Any]]]:
    """Operator, domain, shape of the activation, and all further inputs."""
    filters, matrix = random.choice(weights, (5, 3, 3, 3)), random.choice(weights, (33, 9))
    zero = weight(0 if weight is np.int8 else 128)
    first, second = [np.float32(0.01), activation(3)], [np.float32(0.01), zero]
    result = [np.float32(0.4), activation(7)]
    bias = random.integers(-999, 999, 9).astype(np.int32)
    scales = [np.float32(0.01), random.uniform(0.1, 1, 9).astype(np.float32)]
    ours = "com.microsoft"
    return {
        "QLinearConv": ("QLinearConv", "", (2, 3, 6, 6), [*first, filters, *second, *result]),
        "QLinearMatMul": ("QLinearMatMul", "", (5, 33), [*first, matrix, *second, *result]),
        "QGemm": ("QGemm", ours, (5, 33), [*first, matrix, *second, bias, *result]),
        "to float": ("MatMulIntegerToFloat", ours, (5, 33), [matrix, *scales, activation(3), np.full(9, zero)]),
        "MatMulInteger": ("MatMulInteger", "", (5, 33), [matrix, activation(3), zero]),
        "MatMulInteger of rank 3": ("MatMulInteger", "", (1, 4, 33), [matrix, activation(3), zero]),
        "ConvInteger": ("ConvInteger", "", (2, 3, 6, 6), [filters, activation(3), zero]),
    }


WRITTEN = written_cases()


@pytest.mark.parametrize("name", WRITTEN)
def test_integer_operators_give_the_bits_of_this_cpu(name: str) -> None:
    model, samples = WRITTEN[name]
    np.testing.assert_array_equal(emulated(model, samples, of_board(detect_host())), here(model, samples))


@pytest.fixture(scope="session")
def haswell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """What ONNX Runtime itself answers on an emulated CPU with AVX2 and without VNNI, by case."""
    if QEMU is None:
        pytest.skip("qemu-x86_64 is not installed (Debian package qemu-user)")
    if platform.machine() != "x86_64":
        pytest.skip("this Python is not an x86_64 program, which is what qemu-x86_64 could run")
    folder = tmp_path_factory.mktemp("haswell")
    cases = haswell_cases()
    for index, (model, samples) in enumerate(cases.values()):
        (folder / f"{index:03}.onnx").write_bytes(model)
        np.savez(folder / f"{index:03}.npz", allow_pickle=False, **samples)
    python, packages = os.path.realpath(sys.executable), str(Path(np.__file__).parents[1])
    script = str(Path(__file__).with_name("run_nets.py"))
    command = [QEMU, "-cpu", "Haswell", python, script, str(folder), packages]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    return {name: np.load(folder / f"{index:03}.npy") for index, name in enumerate(cases)}


@cache
def haswell_cases() -> dict[str, tuple[bytes, Samples]]:
    nets = {
        f"{name} {operands} {per_channel}": random_net(name, index, operands, per_channel=per_channel)
        for index, (name, operands, per_channel) in enumerate(CASES)
    }
    return nets | WRITTEN


@pytest.mark.parametrize("name", haswell_cases())
def test_saturating_sums_are_those_of_a_cpu_without_vnni(name: str, haswell: dict[str, NDArray[Any]]) -> None:
    model, samples = haswell_cases()[name]
    np.testing.assert_array_equal(emulated(model, samples, saturating), haswell[name])


def test_saturation_changes_most_of_these_nets(haswell: dict[str, NDArray[Any]]) -> None:
    """Else the test above could not fail."""
    differ = {
        name
        for name, (model, samples) in haswell_cases().items()
        if (emulated(model, samples, exact) != haswell[name]).any()
    }
    saturated = {f"{name} {operands} True" for name in NETS for operands in ("u8s8", "s8s8")}
    assert len(differ & saturated) > len(saturated) * 0.8
    assert not any("u8u8" in name and "dynamic" not in name for name in differ)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), groups=st.sampled_from([1, 2]), inside=st.integers(1, 5), kernel=st.integers(1, 3),
    stride=st.integers(1, 2), dilation=st.integers(1, 2), padding=st.integers(0, 2), saturates=st.booleans(),
)  # fmt: skip
def test_convolutions_are_those_of_the_definition(
    seed: int, groups: int, inside: int, kernel: int, stride: int, dilation: int, padding: int, saturates: bool
) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (2, groups * inside, 6), dtype=np.uint8)
    w = random.integers(-128, 128, (groups * 2, inside, kernel), dtype=np.int8)
    window = Window((kernel,), (stride,), (dilation,), (padding,), (padding,), groups)
    found = convolve(x, np.array(9), w, np.array(0), window, saturating=saturates)
    padded = np.pad(x.astype(int), [(0, 0), (0, 0), (padding, padding)], constant_values=9)
    for sample, output, at in np.ndindex(*found.shape):
        group = output // 2
        seen = padded[sample, group * inside : (group + 1) * inside, at * stride :][:, : kernel * dilation : dilation]
        products = (seen * w[output]).T.reshape(-1)
        pairs = np.add.reduceat(products, range(0, len(products), 2))
        expected = (np.clip(pairs, -32768, 32767) if saturates else pairs).sum() - 9 * w[output].astype(int).sum()
        assert found[sample, output, at] == expected


def test_long_sums_stay_exact() -> None:
    """Beyond 2**24, where float32 no longer holds every integer."""
    x, w = np.full((1, 1001, 2), 255, np.uint8), np.full((3, 1001, 1), 127, np.int8)
    window = Window((1,), (1,), (1,), (0,), (0,), 1)
    sums = convolve(x, np.array(0), w, np.array(0), window, saturating=False)
    assert (sums == 255 * 127 * 1001).all()
    product = multiply(x[:, :, 0], np.array(0), w[:, :, 0].T, np.array(0), saturating=False)
    assert (product == 255 * 127 * 1001).all()


def test_samples_run_in_batches() -> None:
    model, samples = random_net("conv 3x3", 3, "u8s8", per_channel=True)
    many = {name: np.concatenate([array] * 50) for name, array in samples.items()}
    emulator = Emulator(model, saturating)
    for name, array in emulator.run(many).items():
        np.testing.assert_array_equal(array, np.concatenate([emulator.call(samples)[name]] * 50))


def test_products_inside_a_subgraph_are_refused() -> None:
    inner = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["inside"], "product")],
        "then", [], [helper.make_tensor_value_info("inside", TensorProto.INT32, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.INT32)],
        "else", [], [helper.make_tensor_value_info("cast", TensorProto.INT32, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("If", ["choice"], ["y"], "choose", then_branch=inner, else_branch=other)],
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.UINT8, [2, 2]),
            helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(np.eye(2, dtype=np.int8), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedModel, match="node 'choose': int8 MatMulInteger cannot be emulated"):
        Emulator(model.SerializeToString(), exact)
