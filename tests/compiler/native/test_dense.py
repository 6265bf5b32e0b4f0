"""Dense layers against float64, and their bits over tiles, machines, batch sizes and ways to store weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Accumulator, Beside, Expression, Row, Scalar, call
from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.net import NO_BORDER, Array, Border, Dense, Epilogue, Tensor
from edgewright.targets.board import Arch
from tests.compiler.native.cross import AVX2
from tests.compiler.native.every_tile_of import FUSED, Case, outputs_of
from tests.compiler.native.single_layer import HERE, PLAIN

EXAMPLES = settings(
    max_examples=2, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
"""Not shrunk: every step compiles."""
BORDERS = st.sampled_from([NO_BORDER, NO_BORDER, Border(1, 1, 1, 1), Border(0, 2, 1, 0), Border(2, 0, 0, 3)])


def epilogue(kind: str, channels: int, beside: Tensor, random: np.random.Generator) -> Epilogue:
    """Bias, activation and residual as nets have them."""
    bias = call("add", Accumulator(), Row(0))
    values: dict[str, Expression] = {
        "none": Accumulator(),
        "relu6": call("min", call("max", bias, Scalar(0.0)), Scalar(6.0)),
        "residual": call("max", call("add", bias, Beside(0)), Scalar(0.0)),
    }
    rows = () if kind == "none" else (random.normal(size=channels).astype(np.float32),)
    return Epilogue(values[kind], rows, (beside,) if kind == "residual" else ())


@dataclass(frozen=True)
class Shape:
    """A layer, in few words: Hypothesis prints what it draws."""

    leading: tuple[int, ...]
    depth: int
    channels: int
    borders: tuple[Border, Border, Border]
    epilogue: str
    storage: str
    seed: int

    def case(self) -> Case:
        """With weights and inputs."""
        random = np.random.default_rng(self.seed)
        x, y, beside = (
            Tensor(name, (*self.leading, size), border=border if len(self.leading) == 3 else NO_BORDER)
            for name, size, border in zip(
                ("x", "y", "beside"), (self.depth, self.channels, self.channels), self.borders, strict=True
            )
        )
        scaled = random.normal(size=(self.channels, self.depth)) / np.sqrt(self.depth)
        weight = np.rint(127 * np.tanh(scaled)) if self.storage == "int8" else scaled
        layer = Dense(
            x=x,
            y=y,
            weight=weight.astype(self.storage),
            epilogue=epilogue(self.epilogue, self.channels, beside, random),
        )
        sizes = {"x": 1 / 127 if self.storage == "int8" else 1.0, "beside": 1.0}
        return layer, {
            tensor.name: random.normal(0, sizes[tensor.name], tensor.shape).astype(np.float32)
            for tensor in layer.inputs
        }


SHAPES = st.lists(
    st.builds(
        Shape,
        leading=st.one_of(
            st.tuples(st.integers(1, 50)), st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 17))
        ),
        depth=st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 256, 300])),
        channels=st.one_of(st.integers(1, 70), st.sampled_from([96, 128, 144, 200])),
        borders=st.tuples(BORDERS, BORDERS, BORDERS),
        epilogue=st.sampled_from(["none", "relu6", "residual"]),
        storage=st.sampled_from(["float32", "float16", "int8"]),
        seed=st.integers(0, 1000),
    ),
    min_size=3,
    max_size=3,
)


def reference(case: Case) -> Array:
    layer, arrays = case
    assert isinstance(layer, Dense)
    sums = arrays["x"].astype(np.float64) @ layer.weight.astype(np.float64).T
    if layer.epilogue.rows:
        sums = sums + layer.epilogue.rows[0]
    if layer.epilogue.beside:
        return np.maximum(sums + arrays["beside"], 0)
    return np.clip(sums, 0, 6) if layer.epilogue.rows else sums


def assert_close(found: Array, expected: Array) -> None:
    assert np.abs(found - expected).max() <= 2e-6 * max(np.abs(expected).max(), 1.0)


@EXAMPLES
@given(SHAPES)
def test_all_tiles_and_machines_give_the_same_right_bits(shapes: list[Shape]) -> None:
    drawn = [shape.case() for shape in shapes]
    found = [outputs_of(drawn, machine) for machine in FUSED]
    for index, case in enumerate(drawn):
        first = next(iter(found[0][index].values()))
        assert_close(first, reference(case))
        for outputs in found:
            for tile, output in outputs[index].items():
                np.testing.assert_array_equal(output, first, err_msg=str(tile))


@EXAMPLES
@given(SHAPES)
def test_without_fused_multiply_add_answers_are_right_too(shapes: list[Shape]) -> None:
    drawn = [shape.case() for shape in shapes]
    for case, outputs in zip(drawn, outputs_of(drawn, PLAIN), strict=True):
        for output in outputs.values():
            assert_close(output, reference(case))
            np.testing.assert_array_equal(output, next(iter(outputs.values())))


@EXAMPLES
@given(SHAPES)
def test_units_can_be_computed_one_by_one_in_any_order(shapes: list[Shape]) -> None:
    drawn = [shape.case() for shape in shapes]
    for case, outputs in zip(drawn, outputs_of(drawn, FUSED[-1], unit_by_unit=True), strict=True):
        for output in outputs.values():
            assert_close(output, reference(case))


def long_sum(positions: int, weight: Array) -> tuple[Dense, dict[str, Array]]:
    channels, depth = weight.shape
    layer = Dense(x=Tensor("x", (positions, depth)), y=Tensor("y", (positions, channels)), weight=weight)
    return layer, {"x": np.random.default_rng(1).normal(size=(positions, depth)).astype(np.float32)}


def test_long_sums_stay_exact() -> None:
    random = np.random.default_rng(0)
    drawn: list[Case] = [
        long_sum(positions, random.normal(size=(channels, depth)).astype(np.float32))
        for positions, channels, depth in ((7, 20, 4096), (1, 10, 4096), (3, 64, 2000), (64, 16, 1025))
    ]
    for machine in (HERE, PLAIN):
        for case, outputs in zip(drawn, outputs_of(drawn, machine), strict=True):
            expected = reference(case)
            for output in outputs.values():
                assert np.abs(output - expected).max() <= 1e-6 * np.abs(expected).max()


def test_a_sample_gives_the_same_bits_in_every_batch() -> None:
    weight = np.random.default_rng(0).normal(size=(136, 640)).astype(np.float32)
    large, arrays = long_sum(9, weight)
    found = outputs_of([(large, arrays), *(_first(large, arrays, count) for count in (1, 2, 4))], HERE)
    whole = next(iter(found[0].values()))
    for outputs in found[1:]:
        for tile, output in outputs.items():
            np.testing.assert_array_equal(output, whole[: len(output)], err_msg=str(tile))


def _first(layer: Dense, arrays: dict[str, Array], count: int) -> Case:
    x, y = (replace(tensor, shape=(count, tensor.shape[1])) for tensor in (layer.x, layer.y))
    return replace(layer, x=x, y=y), {"x": arrays["x"][:count]}


@pytest.mark.parametrize("machine", [HERE, AVX2, PLAIN], ids=lambda machine: machine.name)
def test_float16_weights_are_those_numbers(machine: Machine) -> None:
    special = np.array([0, -0.0, 6e-8, -6e-8, 3.1e-5, 6.1e-5, 1, -2, 65504, -65504], np.float16)
    random = np.random.default_rng(0)
    weight = np.concatenate([special, random.normal(size=54).astype(np.float16)]).reshape(1, -1)
    weight = np.concatenate([np.roll(weight, k, 1) for k in range(29)])
    half, arrays = long_sum(6, weight)
    single = replace(half, weight=weight.astype(np.float32))
    outputs = outputs_of([(half, arrays), (single, arrays)], machine)
    for output in (*outputs[0].values(), *outputs[1].values()):
        np.testing.assert_array_equal(output, next(iter(outputs[1].values())))


@pytest.mark.parametrize(
    ("arch", "isa"), [("x86_64", HERE.isa), ("x86_64", AVX2.isa), ("aarch64", ()), ("armv7l", ("vfpv4",))]
)
def test_few_tiles_are_tried_and_their_blocks_fit_the_registers(arch: Arch, isa: tuple[str, ...]) -> None:
    machine = machine_for(arch, frozenset(isa))
    for positions, channels, depth in ((125, 64, 64), (1, 128, 640), (49, 1280, 320), (9, 10, 64), (12544, 16, 32)):
        tiles = tiles_of(long_sum(positions, np.zeros((channels, depth), np.float32))[0], machine)
        assert 1 <= len(tiles) <= 8
        for tile in tiles:
            sums = dict(tile.sizes).get("positions", positions) * tile["vectors"]
            assert sums + tile["vectors"] + 1 <= machine.registers
