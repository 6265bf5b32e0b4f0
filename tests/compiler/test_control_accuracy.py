"""Sensitivity and control on small nets: what is predicted comes true, and what is wrong is found and repaired."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx_ir as ir
import pytest

from edgewright.compiler.control.accuracy import ControlResult, control_accuracy, rank
from edgewright.compiler.control.groups import structure_of
from edgewright.compiler.control.noise import NoiseModel, Sensitivity, tensor_error, weight_error
from edgewright.compiler.control.outcome import ControlReport
from edgewright.compiler.control.planner import Planner
from edgewright.compiler.control.price import PriceList
from edgewright.compiler.control.repairs import Workbench, float_repair, menu, repaired
from edgewright.compiler.control.suffix import behind
from edgewright.compiler.control.wording import repairs_in_words
from edgewright.compiler.graph import Graph
from edgewright.compiler.metrics import snr_of_powers
from edgewright.compiler.quantize.encodings import encoding_for
from edgewright.compiler.quantize.plan import Plan, WeightEncoding
from edgewright.compiler.quantize.rules.lookup import rules_of
from edgewright.targets.catalog import load_board

from .control_nets import SHAPES, Net, make_net

BOARD = load_board("raspberry-pi-5")
DEEP = ["conv-relu", "depthwise-relu", "conv", "residual", "pool", "conv-relu", "conv"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return make_net(DEEP, tmp_path_factory.mktemp("net"), samples=48)


@pytest.fixture(scope="module")
def ranking(net: Net) -> Sensitivity:
    return ranked(net, net.plan)


def ranked(net: Net, plan: Plan, graph: Graph | None = None) -> Sensitivity:
    found = rank(graph or net.graph, plan, net.statistics, net.samples)
    assert found is not None
    return found


def noise_model(net: Net, ranking: Sensitivity) -> NoiseModel:
    bench = Workbench(net.graph, net.statistics)

    def of_weight(operator: str, encoding: WeightEncoding) -> float:
        weight = bench.weight(operator)
        assert weight is not None
        return weight_error(weight, encoding)

    return NoiseModel(
        structure_of(net.graph, net.plan),
        ranking,
        of_weight,
        lambda name, encoding: tensor_error(net.statistics.tensors[name], encoding),
    )


def predicted_db(model: NoiseModel, plan: Plan) -> float:
    return snr_of_powers(model.of(plan), 1.0)


def test_noises_nearly_add(net: Net, ranking: Sensitivity) -> None:
    model = noise_model(net, ranking)
    assert predicted_db(model, net.plan) == pytest.approx(net.score(net.plan).snr_db, abs=1.5)


def test_coarse_weights_are_noise_too(net: Net, ranking: Sensitivity) -> None:
    """Measured where the ranking is of that plan, and scaled by their own error where it is of the plain one."""
    name, operator = next((name, one) for name, one in net.plan.operators.items() if one.weight is not None)
    assert operator.weight is not None
    coarse = msgspec.structs.replace(operator.weight, scale=tuple(30 * scale for scale in operator.weight.scale))
    changed = msgspec.structs.replace(operator, weight=coarse, bias_correction=())
    plan = msgspec.structs.replace(net.plan, operators=net.plan.operators | {name: changed})
    truth_db = net.score(plan).snr_db
    assert truth_db < net.score(net.plan).snr_db - 10
    assert predicted_db(noise_model(net, ranked(net, plan)), plan) == pytest.approx(truth_db, abs=1.5)
    assert predicted_db(noise_model(net, ranking), plan) == pytest.approx(truth_db, abs=3)


def test_other_ranges_are_measured_where_much_depends_on_them(ranking: Sensitivity) -> None:
    total = sum(source.noise for source in (*ranking.weights.values(), *ranking.tensors.values()))
    assert ranking.others
    assert all(ranking.tensors[name].noise > 0.02 * total for name in ranking.others)


def test_each_group_in_float_gains_what_was_predicted(net: Net, ranking: Sensitivity) -> None:
    """Alone in integers: the others are float, so that only its own roundings are left."""
    model, groups = noise_model(net, ranking), structure_of(net.graph, net.plan).groups
    for kept in groups:
        plan = repaired(net.plan, tuple(float_repair(net.plan, group) for group in groups if group is not kept))
        assert predicted_db(model, plan) == pytest.approx(net.score(plan).snr_db, abs=1.5)


def test_a_plan_of_floats_has_no_noise(net: Net, ranking: Sensitivity) -> None:
    groups = structure_of(net.graph, net.plan).groups
    plan = repaired(net.plan, tuple(float_repair(net.plan, group) for group in groups))
    assert noise_model(net, ranking).of(plan) == 0


def test_ranking_takes_half_a_run_for_each_rounding(net: Net, ranking: Sensitivity) -> None:
    structure = structure_of(net.graph, net.plan)
    roundings = len(structure.roundings) + len(ranking.weights) + sum(map(len, ranking.others.values()))
    assert 0 < ranking.sample_runs < 0.7 * (1 + roundings) * ranking.samples


def test_the_part_behind_a_tensor_ends_at_the_outputs(net: Net) -> None:
    part = behind(net.graph, "x")
    assert set(part.nodes) == {node.name for node in net.graph.graph}
    assert behind(net.graph, "y").nodes == ()


def control(net: Net, plan: Plan, ranking: Sensitivity, limit: float, *, float_can_run: bool = True) -> ControlResult:
    return control_accuracy(
        net.graph,
        plan,
        net.statistics,
        ranking,
        PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme)),
        net.score,
        limit,
        len(net.samples),
        float_can_run=float_can_run,
    )


@pytest.mark.parametrize("float_can_run", [True, False])
def test_what_is_proposed_keeps_its_bound_or_there_is_none(net: Net, ranking: Sensitivity, float_can_run: bool) -> None:
    structure, bench = structure_of(net.graph, net.plan), Workbench(net.graph, net.statistics)
    menus = [
        [
            line
            for line in menu(net.plan, group, structure, bench, saturating=False)
            if float_can_run or line.name != "float"
        ]
        for group in structure.groups
    ]
    prices = PriceList(net.graph, BOARD, SHAPES, 1, rules_of(net.plan.scheme))
    planner = Planner(net.plan, structure, menus, noise_model(net, ranking), prices)
    plain = planner.proposal(planner.plain)
    found = [planner.solve(plain.noise * share) for share in (1.0, 0.5, 0.1, 0.01, 0.0)]
    for share, proposal in zip((1.0, 0.5, 0.1, 0.01, 0.0), found, strict=True):
        assert proposal is None or proposal.noise <= plain.noise * share
    assert found[0] is not None
    assert (found[-1] is not None) == float_can_run


def test_a_plan_within_the_budget_stays_as_it_is(net: Net, ranking: Sensitivity) -> None:
    result = control(net, net.plan, ranking, 0.5, float_can_run=False)
    assert result.plan == net.plan
    assert (result.report.outcome, result.report.evaluations) == ("as planned", 1)


def test_a_spoilt_range_is_found_and_repaired_at_no_cost(net: Net) -> None:
    """One tensor gets a range thirty times too wide: another calibrator brings it back, in the second evaluation."""
    structure = structure_of(net.graph, net.plan)
    group = structure.groups[2]
    rounding = structure.roundings[group.roundings[0]]
    old = net.plan.tensors[rounding.name]
    wide = encoding_for(old.low * 30, old.high * 30, old.type)
    spoilt = msgspec.structs.replace(net.plan, tensors=net.plan.tensors | dict.fromkeys(rounding.tensors, wide))
    ranking = ranked(net, spoilt)
    limit = net.score(net.plan).drop.value * 1.5
    assert net.score(spoilt).drop.value > limit * 2
    result = control(net, spoilt, ranking, limit, float_can_run=False)
    assert result.plan is not None
    assert result.comparison is not None
    assert result.comparison.drop.value <= limit
    assert result.report.evaluations == 2
    assert result.report.steps[1].latency_ms == result.report.steps[0].latency_ms
    assert result.report.worst[0].name == group.name
    assert result.plan.tensors[rounding.name].high < wide.high / 10


def test_a_budget_that_nothing_keeps_says_what_each_repair_would_cost(net: Net, ranking: Sensitivity) -> None:
    result = control(net, net.plan, ranking, 0.0)
    assert result.plan is None
    assert result.report.outcome == "missed"
    assert len(result.report.worst) == 3
    shares = [operator.noise_share for operator in result.report.worst]
    assert shares == sorted(shares, reverse=True)
    for operator in result.report.worst:
        assert {"float", "int16"} <= {repair.name for repair in operator.repairs}
    assert msgspec.json.decode(msgspec.json.encode(result.report), type=ControlReport) == result.report


def test_where_float_cannot_run_the_best_integers_are_given(net: Net, ranking: Sensitivity) -> None:
    result = control(net, net.plan, ranking, 0.0, float_can_run=False)
    assert result.report.outcome == "missed"
    assert result.plan is not None
    assert result.comparison is not None
    assert result.comparison.drop.value == pytest.approx(min(step.drop for step in result.report.steps), abs=1e-6)
    assert not any("float" in step.repairs.values() for step in result.report.steps)


def test_the_same_question_has_the_same_answer(net: Net, ranking: Sensitivity) -> None:
    again = ranked(net, net.plan)
    assert msgspec.json.encode(again) == msgspec.json.encode(ranking)
    reports = [control(net, net.plan, ranking, 0.01).report for _ in range(2)]
    assert reports[0] == reports[1]


def test_samples_are_taken_in_whole_batches_where_the_batch_is_fixed(net: Net) -> None:
    fixed = net.graph.clone()
    fixed.graph.inputs[0].shape = ir.Shape([5, *SHAPES["x"][1:]])
    found = ranked(net, net.plan, fixed)
    assert found.samples % 5 == 0
    assert all(np.isfinite(source.noise) for source in found.tensors.values())


def test_repairs_that_cost_nothing_are_told_apart() -> None:
    repairs = {"a": "float", "b": "mse", "c": "int16", "d": "percentile", "e": "float", "f": "per-channel and mse"}
    words = "2 operators in float; 1 operator in int16; 1 operator with other weight scales; 2 other ranges, at no cost"
    assert repairs_in_words(repairs) == words
    assert repairs_in_words({"a": "mse"}) == "1 other range, at no cost"
    assert repairs_in_words({}) == "the plan as it is"
