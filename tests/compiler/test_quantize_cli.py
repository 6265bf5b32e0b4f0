"""`edgewright quantize`: what it writes loads, keeps to its plan, and is as good as the table says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.faults import NotQuantizable, PlanError
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.planfile import read_plan
from edgewright.compiler.quantize.scheme import ActivationType
from edgewright.compiler.quantize_request import QuantizeRequest, quantize_model, scheme_for
from edgewright.targets.catalog import load_board
from edgewright.targets.faults import EnvironmentFault, UserFault

COMMAND = (sys.executable, "-m", "edgewright.runtime.cli", "quantize")
Make = Callable[..., QuantizeRequest]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def make(model_path: Path, data_path: Path, tmp_path: Path) -> Make:
    def request(**changes: Any) -> QuantizeRequest:
        return QuantizeRequest(**({"model": model_path, "data": data_path, "out": tmp_path / "q.onnx"} | changes))

    return request


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_the_file_is_what_the_report_says(make: Make, pictures: np.ndarray, model_path: Path) -> None:
    request = make()
    report = quantize_model(request)
    onnx.checker.check_model(onnx.load(request.out))
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(request.out)
    assert report.quantized_bytes == request.out.stat().st_size
    assert report.quality is not None
    assert report.quality.snr_db > 25
    assert report.quality.argmax_agreement is not None
    assert report.quality.argmax_agreement > 0.9
    own = snr_db(outputs(request.out, pictures), outputs(model_path, pictures))
    assert own == pytest.approx(report.quality.snr_db, abs=3), "on other samples, but of the same kind"
    assert report.speed is not None
    assert report.speed.time_ratio_interval.low <= report.speed.time_ratio <= report.speed.time_ratio_interval.high
    assert report.worst
    assert list(report.worst) == sorted(report.worst, key=lambda layer: layer.local_snr_db)


def test_the_plan_beside_it_gives_the_same_file_and_can_be_edited(make: Make, tmp_path: Path) -> None:
    first = make()
    quantize_model(first)
    again = make(plan=first.plan_out, out=tmp_path / "again.onnx")
    quantize_model(again)
    assert again.out.read_bytes() == first.out.read_bytes()
    assert again.plan_out.read_bytes() == first.plan_out.read_bytes()
    plan = read_plan(first.plan_out)
    convolution = next(name for name, operator in plan.operators.items() if "conv" in name)
    text = first.plan_out.read_text()
    edited = tmp_path / "edited.toml"
    start = text.index("compute", text.index(convolution))
    edited.write_text(text[:start] + text[start:].replace('"int8"', '"float"', 1))
    report = quantize_model(make(plan=edited, out=tmp_path / "edited.onnx"))
    assert report.operators["float"] == 1
    assert (tmp_path / "edited.onnx").read_bytes() != first.out.read_bytes()


def test_a_plan_of_another_model_is_refused(make: Make, tmp_path: Path) -> None:
    first = make()
    quantize_model(first)
    text = first.plan_out.read_text().replace("conv", "elsewhere")
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(PlanError, match="elsewhere"):
        quantize_model(make(plan=tmp_path / "other.toml", out=tmp_path / "no.onnx"))
    assert not (tmp_path / "no.onnx").exists()


@pytest.mark.parametrize("activations", ["uint8", "int8", "uint16"])
def test_types_of_activations(make: Make, activations: str) -> None:
    report = quantize_model(make(activations=activations))
    assert report.quality is not None
    assert report.quality.exact_snr_db > (42 if activations == "uint16" else 25), "the weights stay int8"


@pytest.mark.parametrize(
    ("method", "weights", "with_data"),
    [("dynamic", "int8", True), ("dynamic", "int8", False), ("weights", "int8", True), ("weights", "int4", False)],
)
def test_methods_that_need_no_data(make: Make, method: str, weights: str, *, with_data: bool) -> None:
    changes: dict[str, object] = {} if with_data else {"data": None}
    report = quantize_model(make(method=method, weights=weights, **changes))
    assert set(report.operators) <= {method, "float"}
    assert report.operators[method] >= 1
    assert (report.quality is not None) == with_data
    assert ("no-data" in {warning.code for warning in report.warnings}) != with_data
    expected = "DynamicQuantizeLinear" if method == "dynamic" else "DequantizeLinear"
    assert expected in operators(make().out)


def test_what_is_suspicious_about_the_data_is_said(make: Make, tmp_path: Path, pictures: np.ndarray) -> None:
    np.savez(tmp_path / "few.npz", x=pictures[:24])
    report = quantize_model(make(data=tmp_path / "few.npz"))
    assert "few-samples" in {warning.code for warning in report.warnings}


def test_a_saturating_target_gets_a_guard_and_its_own_arithmetic(make: Make, model_path: Path) -> None:
    from edgewright.compiler.frontends.onnx import load_onnx

    graph = load_onnx(model_path).graph
    vulnerable = load_board("x86-64-avx2")
    assert scheme_for(make(), vulnerable, graph).guard == "pairs"
    assert scheme_for(make(method="dynamic"), vulnerable, graph).guard == "pairs"
    assert scheme_for(make(activations="uint16"), vulnerable, graph).guard == "none"
    assert scheme_for(make(), load_board("raspberry-pi-5"), graph).guard == "none"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "--data"),
        ({"weights": "int4"}, "--method weights"),
        ({"method": "dynamic", "activations": "int8"}, "--scheme"),
        ({"out": Path("q.bin")}, "onnx"),
        ({"target": "nowhere"}, "nowhere"),
    ],
)
def test_options_that_do_not_go_together(make: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserFault, match=words):
        quantize_model(make(**changes))
    assert not make().out.exists()


def test_the_model_itself_is_never_overwritten(make: Make, model_path: Path) -> None:
    before = model_path.read_bytes()
    with pytest.raises(UserFault, match="model itself"):
        quantize_model(make(out=model_path.parent / "." / model_path.name))
    assert model_path.read_bytes() == before


def test_a_quantized_model_is_not_quantized_again(make: Make, tmp_path: Path) -> None:
    first = make()
    quantize_model(first)
    with pytest.raises(NotQuantizable, match="already"):
        quantize_model(make(model=first.out, out=tmp_path / "twice.onnx"))


def test_a_model_without_products_says_so(make: Make, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["y"], "exp")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    path = tmp_path / "exp.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(NotQuantizable, match="no convolution"):
        quantize_model(make(model=path))


def test_a_place_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        quantize_model(make(out=tmp_path / "file" / "q.onnx"))


def test_the_command(model_path: Path, data_path: Path, tmp_path: Path) -> None:
    table = run(model_path, "--data", data_path, "--out", tmp_path / "q.onnx")
    assert table.returncode == 0, table.stderr
    for words in ("SNR", "same class", "latency here", "worst layers", "q.plan.toml"):
        assert words in table.stdout, words
    answer = run(model_path, "--data", data_path, "--out", tmp_path / "j.onnx", "--json")
    assert json.loads(answer.stdout)["scheme"].startswith("int8-u8s8")
    assert answer.stderr == ""
    assert sorted(path.name for path in tmp_path.glob("[jq].*")) == ["j.onnx", "j.plan.toml", "q.onnx", "q.plan.toml"]
    assert not list(tmp_path.glob(".edgewright*"))


@pytest.mark.parametrize(("activations", "scheme"), [(None, "int8-s8s8-tflite"), ("int16", "int16-s16s8-tflite")])
def test_a_target_that_reads_tflite_gets_its_numbers_and_hears_which_are_forced(
    make: Make, activations: ActivationType | None, scheme: str
) -> None:
    request = make(target="ethos-u55-128", activations=activations)
    report = quantize_model(request)
    assert report.scheme == scheme
    assert report.quality is not None
    assert report.quality.snr_db > 20
    tensors = read_plan(request.plan_out).tensors
    assert report.forced == {name: encoding.reason for name, encoding in tensors.items() if encoding.reason}
    assert any("alone it would have scale" in why for why in report.forced.values())


def test_activations_that_tflite_does_not_have(make: Make) -> None:
    with pytest.raises(UserFault, match=r"--scheme uint8: the target computes int8 or int16"):
        quantize_model(make(target="ethos-u55-128", activations="uint8"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none.onnx", "--out", "q.onnx", "--method", "weights"), 2, "none.onnx"),
        (("none.onnx", "--out", "q.onnx"), 2, "--data"),
        (("none.onnx", "--out", "q.onnx", "--scheme", "int7"), 2, "int7"),
        (("none.onnx",), 2, "--out"),
    ],
)
def test_mistakes_are_told_in_words(arguments: Sequence[str], code: int, words: str) -> None:
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
