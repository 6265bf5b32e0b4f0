"""Accuracy control as a compilation meets it: a net of which one layer is hostile to int8, and what ships."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edgewright.bundle.archive import unpack
from edgewright.compiler.build import Build
from edgewright.compiler.pipeline import compile_model, prepare
from edgewright.compiler.quantize.planfile import write_plan
from edgewright.compiler.repair import repair
from edgewright.compiler.report.progress import SilentStages
from edgewright.compiler.report.schema import Report
from edgewright.compiler.report.terminal import print_report
from edgewright.compiler.request import Request, load_boards
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.trial import Trial, try_variant
from edgewright.targets.board import Board

from .hostile_net import hostile_model, hostile_samples
from .nets import Net

MakeRequest = Callable[..., Request]
UNREACHABLE = "0.0001%"


@pytest.fixture(scope="module")
def hostile_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "hostile.onnx"
    onnx.save(hostile_model(), path)
    return path


@pytest.fixture
def make(make_request: MakeRequest, hostile_net: Path, tmp_path: Path, int8_board: str) -> MakeRequest:
    np.savez(tmp_path / "hostile.npz", x=hostile_samples())

    def request(**changes: object) -> Request:
        defaults = {
            "model": str(hostile_net),
            "data": tmp_path / "hostile.npz",
            "metric": "distortion",
            "max_drop": "5%",
            "targets": (int8_board,),
        }
        return make_request(**(defaults | changes))

    return request


@pytest.fixture
def without_float(int8_board: str, tmp_path: Path) -> str:
    """The same board, whose engine has no float kernels."""
    path = tmp_path / "int8-only.toml"
    text = Path(int8_board).read_text(encoding="utf-8").replace('name = "int8-board"', 'name = "int8-only"')
    engine = '[[engines]]\nname = "onnxruntime"\nprecisions = ["int8"]\nversion = ">=1.31,<2"\n\n[[latency]]'
    path.write_text(text.replace("[[latency]]", engine, 1), encoding="utf-8")
    return str(path)


def shown(report: Report) -> str:
    written = io.StringIO()
    print_report(report, Console(width=200, file=written))
    return written.getvalue()


def test_one_hostile_layer_is_repaired_and_the_rest_ships_in_int8(make: MakeRequest, tmp_path: Path) -> None:
    request = make()
    report = compile_model(request)
    (target,) = report.targets
    plain, repaired = (
        next(row for row in target.candidates if row.name == name)
        for name in ((target.chosen or "").removesuffix("-repaired"), target.chosen)
    )
    assert plain is not repaired
    assert (report.exit_code, target.outcome) == (0, "shipped")
    assert plain.verdict == "over the budget on tune samples"
    assert repaired.verdict == "within the budget"
    assert max(repaired.tune.drop, repaired.test.drop) <= 0.05 < plain.tune.drop
    assert repaired.float_operators["Conv"] == 1
    manifest = unpack(request.out / "int8-board.bundle", tmp_path / "unpacked")
    assert (manifest.precision, manifest.lineage.passes[-1].name) == ("int8", "quantize")
    model = onnx.load(tmp_path / "unpacked" / "model" / "model.onnx")
    assert model.graph.node[0].op_type == "Conv"  # of the loud input, which nobody rounds
    control = target.control
    assert control is not None
    assert (control.outcome, control.evaluations) == ("repaired", len(control.steps))
    assert repaired.tune.drop in {step.drop for step in control.steps}
    assert control.steps[0].drop == plain.tune.drop


@pytest.mark.skipif(find_spec("ziglang") is None, reason="code for the board's processor takes the native extra")
def test_native_code_of_a_repaired_plan_ships_where_nothing_else_may(make: MakeRequest) -> None:
    (target,) = compile_model(make(engines=("native",))).targets
    assert (target.outcome, target.exit_code) == ("shipped", 0), target.reason
    assert (target.chosen or "").startswith("native-int8-")
    assert "-repaired" in (target.chosen or "")
    assert {row.name.partition("-")[0] for row in target.candidates} == {"native"}


def test_repaired_plans_are_the_same_bytes_again(make: MakeRequest, int8_board: str, tmp_path: Path) -> None:
    first = make(targets=("host", int8_board))
    compile_model(first)
    again = make(targets=("host", int8_board), out=tmp_path / "again", measurements=first.out / "measurements.json")
    compile_model(again)
    for path in sorted(first.out.iterdir()):
        assert path.read_bytes() == (again.out / path.name).read_bytes(), path.name


def test_what_no_repair_can_reach_ships_float_and_names_what_repairs_would_cost(make: MakeRequest) -> None:
    report = compile_model(make(max_drop=UNREACHABLE))
    (target,) = report.targets
    assert (report.exit_code, target.outcome, target.chosen) == (3, "budget-missed", "float32")
    control = target.control
    assert control is not None
    assert control.outcome == "missed"
    assert len(control.worst) == 3
    assert all(not row.name.endswith("-repaired") for row in target.candidates)
    text = shown(report)
    for operator in control.worst:
        assert f"{operator.name} {operator.operator}" in text
        for priced in operator.repairs:
            assert np.isfinite([priced.latency_change_ms, priced.snr_gain_db]).all()
    assert "int16" in text
    assert "float ships" in text


def test_where_only_integers_run_the_least_damaged_ships_flagged(make: MakeRequest, without_float: str) -> None:
    report = compile_model(make(max_drop=UNREACHABLE, targets=(without_float,)))
    (target,) = report.targets
    assert (report.exit_code, target.outcome) == (3, "budget-missed")
    assert {"budget-missed", "float-cannot-run"} <= set(target.flags)
    drops = {row.name: row.tune.drop for row in target.candidates}
    assert drops[target.chosen or ""] == min(drops.values())
    assert target.control is not None
    assert target.control.float_latency_ms is None
    assert not any("float" in step.repairs.values() for step in target.control.steps)
    assert "it ships, flagged" in target.reason


def test_where_only_integers_run_a_repair_in_integers_keeps_the_budget(make: MakeRequest, without_float: str) -> None:
    """Less than float operators would gain: the weights of the hostile layer stay int8."""
    report = compile_model(make(max_drop="8%", targets=(without_float,)))
    (target,) = report.targets
    assert (report.exit_code, target.outcome) == (0, "shipped")
    assert (target.chosen or "").endswith("-repaired")
    assert target.control is not None
    assert "int16" in {name for step in target.control.steps for name in step.repairs.values()}


def test_a_plan_of_the_user_is_never_repaired(make: MakeRequest, int8_board: str, tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch:
        _, build = prepare(make(), load_boards((int8_board,)), SilentStages(), scratch)
        (tmp_path / "plan.toml").write_text(write_plan(next(iter(build.plans.by_name.values()))), encoding="utf-8")
    report = compile_model(make(plan=tmp_path / "plan.toml"))
    (target,) = report.targets
    assert (report.exit_code, target.chosen) == (3, "float32")
    assert [row.name for row in target.candidates] == ["float32", "plan"]
    assert target.control is None


def test_targets_repair_the_same_plan_in_their_own_ways(
    make: MakeRequest, int8_board: str, without_float: str, tmp_path: Path
) -> None:
    """Their plans share a name, and nothing else: what is said of one is never taken from the other."""
    both = {target.target: target for target in compile_model(make(targets=(int8_board, without_float))).targets}
    for board in (int8_board, without_float):
        (alone,) = compile_model(make(targets=(board,), out=tmp_path / Path(board).stem)).targets
        assert both[alone.target] == alone
    scores = [{row.name: row.test for row in target.candidates}["int8-s8s8-repaired"] for target in both.values()]
    assert scores[0] != scores[1]


def test_operators_are_ranked_once_for_all_targets(make: MakeRequest, int8_board: str, tmp_path: Path) -> None:
    """Both boards ask for the ranking of their own scheme, and are given the same one."""
    boards = load_boards((int8_board, "raspberry-pi-5"))
    with Scratch(tmp_path / "scratch") as scratch:
        _, build = prepare(make(targets=(int8_board, "raspberry-pi-5")), boards, SilentStages(), scratch)
        rankings = [build.plans.sensitivity(name) for name in build.plans.bases]
    assert len(rankings) > 1
    assert rankings[0] is not None
    assert all(ranking is rankings[0] for ranking in rankings)


def prepared(request: Request, scratch: Scratch) -> tuple[Board, Build, list[Trial]]:
    """The only target of a request, what its run shares, and its candidates as they stand before any repair."""
    boards = load_boards(request.targets)
    _, build = prepare(request, boards, SilentStages(), scratch)
    names = ("float32", *build.offers[boards[0].name])
    variants = [build.variants[name] for name in names if name in build.variants]
    return boards[0], build, [try_variant(variant, variants, boards[0], build) for variant in variants]


def test_repaired_weights_get_a_bias_correction_of_their_own(
    make: MakeRequest, tmp_path: Path, scratch: Scratch
) -> None:
    net = Net((24,), np.random.default_rng(3))
    for _ in range(3):
        net.gemm(24)
        net.node("Relu", net.here)
    net.gemm(4)
    model = net.model()
    for weight in model.graph.initializer:  # one loud row in each matrix: one scale per tensor drowns the others
        if len(weight.dims) == 2:
            array = numpy_helper.to_array(weight).copy()
            array[0] *= 40
            weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, tmp_path / "loud.onnx")
    np.savez(tmp_path / "loud.npz", x=np.random.default_rng(4).normal(size=(240, 24)).astype(np.float32))
    request = make(model=str(tmp_path / "loud.onnx"), data=tmp_path / "loud.npz", max_drop="4%")
    board, build, trials = prepared(request, scratch)
    per_tensor = [trial for trial in trials if trial.variant.name in {"float32", "int8-s8s8-per-tensor"}]
    found = repair(board, build, per_tensor)
    assert found is not None
    plans = [variant.plan for variant in found.variants if variant.plan is not None]
    refined = [
        operator
        for plan in plans
        for operator in plan.operators.values()
        if operator.compute == "int8" and operator.weight is not None and operator.weight.axis is not None
    ]
    assert refined, found.report.reason  # some weight got a scale per channel
    assert all(operator.bias_correction for operator in refined)


def test_a_repaired_plan_that_cannot_be_made_costs_the_repair_and_not_the_target(
    make: MakeRequest, scratch: Scratch
) -> None:
    board, build, trials = prepared(make(), scratch)
    quantized = next(trial.variant for trial in trials if trial.variant.plan is not None)
    found = repair(board, dataclasses.replace(build, graph=quantized.graph), trials)
    assert found is not None
    assert found.variants == ()
    assert found.report.outcome == "missed"
    assert "given up: the model is quantized already" in found.report.reason
