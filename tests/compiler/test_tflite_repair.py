"""Accuracy control where TFLite files run: on NPUs without float, beside cores with float, and on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import TargetReport
from edgewright.compiler.request import Request
from tests.compiler.hostile_net import hostile_model, hostile_samples

pytest.importorskip("ai_edge_litert")

MakeRequest = Callable[..., Request]
UNREACHABLE = "0.0001%"
WORST = 3


@pytest.fixture
def compiled(make_request: MakeRequest, tmp_path: Path) -> Callable[..., TargetReport]:
    onnx.save(hostile_model(), tmp_path / "hostile.onnx")
    np.savez(tmp_path / "hostile.npz", x=hostile_samples())

    def run(target: str, max_drop: str = UNREACHABLE, engines: tuple[str, ...] | None = None) -> TargetReport:
        request = make_request(
            model=str(tmp_path / "hostile.onnx"), data=tmp_path / "hostile.npz", metric="distortion",
            max_drop=max_drop, targets=(target,), engines=engines,
        )  # fmt: skip
        (found,) = compile_model(request).targets
        return found

    return run


def offered(target: TargetReport) -> set[str]:
    """Names of repairs that were on the menu of the worst operators."""
    assert target.control is not None
    assert len(target.control.worst) == WORST
    return {part for one in target.control.worst for repair in one.repairs for part in repair.name.split(" and ")}


def test_an_npu_without_float_ships_the_nearest_and_says_so(compiled: Callable[..., TargetReport]) -> None:
    pytest.importorskip("ethosu.vela")
    target = compiled("ethos-u55-128")
    assert target.exit_code == 3
    assert target.chosen == "ethos-u-int16-s16s8-tflite"
    assert "float cannot run here" in target.reason
    assert not offered(target) & {"float", "int16"}
    assert all(row.npu is not None and row.npu.left_on_cpu == () for row in target.candidates)


def test_wide_activations_ship_where_eight_bits_miss_the_budget(compiled: Callable[..., TargetReport]) -> None:
    pytest.importorskip("ethosu.vela")
    target = compiled("ethos-u55-128", "10%")
    assert (target.exit_code, target.chosen) == (0, "ethos-u-int16-s16s8-tflite"), target.reason
    narrow = next(row for row in target.candidates if row.name == "ethos-u-int8-s8s8-tflite")
    assert narrow.verdict == "over the budget on tune samples"
    assert target.control is None  # nothing had to be repaired


def test_beside_cores_float_ships(compiled: Callable[..., TargetReport]) -> None:
    pytest.importorskip("ethosu.vela")
    target = compiled("imx93")
    assert (target.exit_code, target.chosen) == (3, "float32"), target.reason
    offered(target)
    assert not [row.name for row in target.candidates if row.name.startswith("int8") and "tflite" in row.name]


def test_litert_on_a_cpu_gets_repaired_plans_of_its_own(compiled: Callable[..., TargetReport], int8_board: str) -> None:
    target = compiled(int8_board, "5%", ("litert",))
    assert (target.exit_code, target.chosen) == (0, "litert-int8-s8s8-tflite-repaired"), target.reason
    assert target.control is not None
    assert target.control.outcome == "repaired"
    assert {row.name.split("-")[0] for row in target.candidates} == {"litert"}
    assert "float" in offered(target)


def test_litert_on_a_cpu_falls_back_to_float(compiled: Callable[..., TargetReport], int8_board: str) -> None:
    target = compiled(int8_board, UNREACHABLE, ("litert",))
    assert (target.exit_code, target.chosen) == (3, "litert-float32"), target.reason
    offered(target)


def test_plans_for_tflite_ship_in_no_other_engine(compiled: Callable[..., TargetReport], int8_board: str) -> None:
    target = compiled(int8_board, "5%", ("litert", "onnxruntime", "native"))
    names = [row.name for row in target.candidates]
    assert [name for name in names if "-tflite" in name and not name.startswith("litert-")] == []
