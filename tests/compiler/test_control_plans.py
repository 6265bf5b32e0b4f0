"""Groups, repairs and prices of plans, on small nets of every shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.compiler.control.groups import integer_operators, structure_of
from edgewright.compiler.control.price import PriceList
from edgewright.compiler.control.repairs import KEEP, Repair, Workbench, float_repair, menu, repaired
from edgewright.compiler.graph import from_proto
from edgewright.compiler.lower.workload import workload
from edgewright.compiler.quantize.emit import emit
from edgewright.compiler.quantize.placement import computes_in_integers
from edgewright.compiler.quantize.rules.lookup import rules_of
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.weights import rounded
from edgewright.targets.catalog import load_board
from edgewright.targets.cost import estimate_call

from .control_nets import LAYERS, SHAPES, Net, make_net

NETS = st.lists(st.sampled_from(LAYERS), max_size=5).map(lambda layers: ["conv-relu", *layers])
BOARD = load_board("raspberry-pi-5")
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(NETS)
def test_groups_share_out_the_operators_and_roundings_share_out_the_tensors(tmp_path: Path, layers: list[str]) -> None:
    net = make_net(layers, tmp_path)
    structure = structure_of(net.graph, net.plan)
    grouped = [name for group in structure.groups for name in group.operators]
    assert sorted(grouped) == sorted(integer_operators(net.plan))
    rounded_tensors = [tensor for rounding in structure.roundings.values() for tensor in rounding.tensors]
    assert sorted(rounded_tensors) == sorted(net.plan.tensors)
    chosen = [name for group in structure.groups for name in group.roundings]
    assert sorted(chosen) == sorted(structure.roundings)


@FEW
@given(NETS, st.sets(st.integers(0, 5)))
def test_the_price_of_a_plan_is_that_of_the_emitted_graph(tmp_path: Path, layers: list[str], floats: set[int]) -> None:
    net = make_net(layers, tmp_path)
    groups = structure_of(net.graph, net.plan).groups
    changes = tuple(float_repair(net.plan, group) for index, group in enumerate(groups) if index in floats)
    plan = repaired(net.plan, changes)
    prices = PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme))
    assert prices.of(plan) == pytest.approx(estimate_call(BOARD, workload(emit(net.graph, plan), SHAPES)).p50_ms)
    assert prices.float_ms() == pytest.approx(estimate_call(BOARD, workload(net.graph, SHAPES)).p50_ms)


@FEW
@given(NETS, st.sets(st.integers(0, 5)))
def test_the_price_of_16_bits_is_that_of_the_emitted_graph(tmp_path: Path, layers: list[str], wide: set[int]) -> None:
    """Below opset 21, where such quantizers belong to a domain whose shapes nobody infers."""
    net = make_net(layers, tmp_path)
    changes = tuple(lines["int16"] for index, lines in enumerate(menus(net)) if index in wide and "int16" in lines)
    plan = repaired(net.plan, changes)
    prices = PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme))
    assert prices.of(plan) == pytest.approx(estimate_call(BOARD, workload(emit(net.graph, plan), SHAPES)).p50_ms)


def test_a_pool_is_switched_with_the_operator_before_it_and_shares_its_rounding(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "pool", "conv"], tmp_path)
    first, last = structure_of(net.graph, net.plan).groups
    assert (len(first.operators), len(last.operators)) == (2, 1)
    roundings = structure_of(net.graph, net.plan).roundings
    assert [len(rounding.tensors) for rounding in roundings.values()] == [1, 2, 1]
    assert set(first.roundings) == {"x", *(name for name, one in roundings.items() if len(one.tensors) == 2)}


def test_a_rounding_belongs_to_the_group_that_gives_it(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "conv"], tmp_path)
    first, last = structure_of(net.graph, net.plan).groups
    assert ("x" in first.roundings, len(first.roundings), len(last.roundings)) == (True, 2, 1)


def test_what_is_rounded_to_16_bits_behind_its_activation_computes_in_float() -> None:
    graph = from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["" : 21]>
            g (uint8[1, 2, 4, 4] q, int8[2, 2, 1, 1] v, float s, uint8 z, uint16 wide, int8 zero)
            => (uint16[1, 2, 4, 4] y) {
                d = DequantizeLinear(q, s, z)  w = DequantizeLinear(v, s, zero)
                c = Conv(d, w)  r = Relu(c)  y = QuantizeLinear(r, s, wide)
            }"""
        )
    )
    assert not any(map(computes_in_integers, graph.graph))


def menus(net: Net, *, saturating: bool = False) -> list[dict[str, Repair]]:
    structure, bench = structure_of(net.graph, net.plan), Workbench(net.graph, net.statistics)
    return [
        {repair.name: repair for repair in menu(net.plan, group, structure, bench, saturating=saturating)}
        for group in structure.groups
    ]


def test_the_first_line_of_a_menu_changes_nothing(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "conv"], tmp_path)
    for lines in menus(net):
        assert next(iter(lines)) == KEEP
        assert repaired(net.plan, (lines[KEEP],)) == net.plan


def test_other_calibrators_cut_the_range_of_the_groups_own_tensors_only(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "pool", "conv"], tmp_path)
    structure = structure_of(net.graph, net.plan)
    for group, lines in zip(structure.groups, menus(net), strict=True):
        own = {tensor for name in group.roundings for tensor in structure.roundings[name].tensors}
        offered = lines.keys() & {"mse", "percentile", "entropy"}
        assert offered
        for name in offered:
            assert set(lines[name].tensors) <= own
            for tensor, encoding in lines[name].tensors.items():
                assert encoding.scale < net.plan.tensors[tensor].scale


def test_tensors_that_share_their_numbers_share_them_after_every_repair(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "pool", "conv"], tmp_path)
    structure = structure_of(net.graph, net.plan)
    assert max(len(rounding.tensors) for rounding in structure.roundings.values()) > 1
    for repair in (repair for lines in menus(net) for repair in lines.values()):
        tensors = repaired(net.plan, (repair,)).tensors
        for rounding in structure.roundings.values():
            numbers = {(tensors[name].type, tensors[name].scale, tensors[name].zero_point) for name in rounding.tensors}
            assert len(numbers) == 1, repair.name


def test_per_channel_is_offered_where_weights_have_one_scale(tmp_path: Path) -> None:
    net = make_net(["conv-relu"], tmp_path, Scheme(per_channel=False))
    (lines,) = menus(net)
    (operator,) = lines["per-channel"].operators.values()
    assert operator.weight is not None
    assert (operator.weight.axis, len(operator.weight.scale)) == (0, 4)
    assert not any("per-channel" in lines for lines in menus(make_net(["conv-relu"], tmp_path)))


def test_seven_bits_are_offered_where_sums_saturate_and_nothing_guards_them(tmp_path: Path) -> None:
    net = make_net(["conv-relu"], tmp_path)
    (lines,) = menus(net, saturating=True)
    (name,) = lines["seven-bit"].operators
    encoding = lines["seven-bit"].operators[name].weight
    weight = Workbench(net.graph, net.statistics).weight(name)
    assert encoding is not None
    assert weight is not None
    assert np.abs(rounded(weight, encoding).astype(int)).max() == 64
    guarded = make_net(["conv-relu"], tmp_path, Scheme(guard="seven-bit"))
    for other in (*menus(net), *menus(guarded, saturating=True)):
        assert "seven-bit" not in other


def test_int16_widens_what_a_group_gives(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "conv-relu"], tmp_path)
    wide = repaired(net.plan, tuple(lines["int16"] for lines in menus(net)))
    assert {encoding.type for encoding in wide.tensors.values()} == {"uint16"}
    assert net.score(wide).snr_db > net.score(net.plan).snr_db + 3


def test_everything_in_float_is_the_float_model(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "pool", "residual", "conv"], tmp_path)
    plan = repaired(net.plan, tuple(lines["float"] for lines in menus(net)))
    np.testing.assert_allclose(net.outputs(emit(net.graph, plan)), net.outputs(net.graph), rtol=1e-5, atol=1e-6)


def test_factors_make_estimates_equal_to_what_was_measured(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "conv-relu"], tmp_path)
    prices = PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme))
    prices.fit(net.plan, float_ms=0.5, plan_ms=0.3)
    assert prices.float_ms() == pytest.approx(0.5)
    assert prices.of(net.plan) == pytest.approx(0.3)


def test_no_factor_is_negative_however_odd_the_measurements_are(tmp_path: Path) -> None:
    net = make_net(["conv-relu", "conv-relu"], tmp_path)
    half = repaired(net.plan, (float_repair(net.plan, structure_of(net.graph, net.plan).groups[0]),))
    for float_ms, plan_ms in ((50.0, 0.01), (0.0001, 0.0001), (0.01, 50.0)):
        prices = PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme))
        prices.fit(half, float_ms=float_ms, plan_ms=plan_ms)
        assert min(prices.factors.call, prices.factors.floating, prices.factors.integer) > 0
