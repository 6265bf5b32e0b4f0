"""The matrix as a person sees it: it fits the terminal, and says what repairs would cost."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgewright.bundle.manifest import Accuracy, Interval, Latency
from edgewright.compiler.control.outcome import ControlReport, OperatorReport, RepairPrice
from edgewright.compiler.report.schema import CandidateReport, Report, SourceReport, TargetReport
from edgewright.compiler.report.terminal import print_report

LONG = "functional_1/activation/Relu;functional_1/batch_normalization/FusedBatchNormV3;functional_1/conv2d_17/Conv2D"


def interval(low: float, high: float) -> Interval:
    return Interval(low=low, high=high)


def candidate(name: str) -> CandidateReport:
    accuracy = Accuracy(
        metric="distortion",
        value=0.00851,
        interval=interval(0.00699, 0.0102),
        float_value=0.0,
        drop=0.00851,
        drop_interval=interval(0.00699, 0.0102),
        samples=502,
        snr_db=40.7,
        argmax_agreement=0.99,
    )
    return CandidateReport(
        name=name,
        precision="int8",
        model_bytes=100_000,
        latency=Latency(p50_ms=0.0605, interval=interval(0.0604, 0.0606), kind="measured", method=""),
        time_ratio=0.9,
        time_ratio_interval=interval(0.8, 0.95),
        tune=accuracy,
        test=accuracy,
        verdict="over the budget on test samples",
        float_operators={},
    )


def report(outcome: str, names: tuple[str, ...] = ("float32", "int8-u8s8-repaired")) -> Report:
    repairs = (
        RepairPrice(name="mse", latency_change_ms=0.0, snr_gain_db=0.8),
        RepairPrice(name="percentile", latency_change_ms=0.0, snr_gain_db=-0.5),
        RepairPrice(name="float", latency_change_ms=0.0077, snr_gain_db=1.2),
    )
    control = ControlReport(
        outcome="missed",
        reason="no plan keeps the budget",
        float_latency_ms=0.0655,
        evaluations=3,
        ranking_runs=2.5,
        steps=(),
        worst=(OperatorReport(name=LONG, operator="Conv", noise_share=0.3, repairs=repairs),),
    )
    target = TargetReport(
        target="host",
        target_digest="sha256:0",
        outcome="shipped" if outcome == "shipped" else "budget-missed",
        exit_code=0,
        reason="because",
        chosen="float32",
        candidates=tuple(map(candidate, names)),
        control=control,
    )
    samples = {"calibrate": 1, "tune": 1, "test": 1}
    source = SourceReport(
        format="onnx", model_digest="", data_digest="", samples=samples, split_by="hash", ignored_arrays=()
    )
    return Report(
        model="kws",
        version="1",
        source=source,
        metric="distortion",
        budget="1 %",
        passes=(),
        targets=(target,),
        tools={},
        exit_code=0,
    )


NATIVE = ("float32", "native-float32-half-weights", "native-int8-s8s8", "native-int8-u8s8-per-tensor-repaired")


def printed(
    columns: int, outcome: str = "budget-missed", names: tuple[str, ...] = ("float32", "int8-u8s8-repaired")
) -> list[str]:
    console = Console(file=io.StringIO(), width=columns)
    print_report(report(outcome, names), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_eighty_columns_break_no_figure_and_no_name() -> None:
    lines = printed(80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for whole in ("> float32", "int8-u8s8-repaired", "0.0604..0.0606", "0.00699..0.0102", "0.70..1.02"):
        assert whole in text


def test_long_names_break_at_a_dash_where_the_terminal_is_narrow() -> None:
    lines = printed(80, names=NATIVE)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\n  native-float32- " in text
    assert "\n    half-weights " in text
    assert "\n    per-tensor- " in text
    assert "\n  native-int8-s8s8 " in text
    for whole in ("0.0604..0.0606", "0.00699..0.0102", "0.70..1.02"):
        assert text.count(whole) == len(NATIVE), "no figure breaks"


def test_names_stay_whole_where_there_is_room() -> None:
    lines = printed(120, names=NATIVE)
    assert all(any(line[2:].startswith(f"{name} ") for line in lines) for name in NATIVE)


def test_equal_verdicts_take_one_line_and_what_is_long_stays_indented() -> None:
    lines = printed(80, names=NATIVE)
    start = next(index for index, line in enumerate(lines) if line.startswith("  native") and "," in line)
    verdict = " ".join(line.strip() for line in lines[start : start + 3])
    assert verdict.startswith(f"{', '.join(NATIVE[1:])}: over the budget on test samples")
    assert all(line.startswith("  ") for line in lines[start : start + 3])


@pytest.mark.parametrize("columns", [60, 100])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    assert max(map(len, printed(columns))) <= columns


def test_a_missed_budget_names_the_worst_operators_with_repairs_that_help() -> None:
    lines = printed(100)
    operator = next(line for line in lines if "30 %" in line)
    assert operator.startswith("functional_1/act")
    assert "conv2d_17/Conv2D Conv" in operator, "names are told apart by their ends"
    assert operator.split()[-3:] == ["mse", "+0.8", "free"]
    assert any(line.split() == ["float", "+1.2", "+7.7"] for line in lines)
    assert not any("percentile" in line for line in lines), "it would make things worse"


def test_what_ships_needs_no_list_of_repairs() -> None:
    text = "\n".join(printed(100, "shipped"))
    assert "accuracy control: no plan keeps the budget" in text
    assert "worst operators" not in text
