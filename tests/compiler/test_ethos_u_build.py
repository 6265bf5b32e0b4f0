"""From a .tflite file to a bundle's model and the report's figures, through Vela itself."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edgewright.compiler.faults import ModelError, UnsupportedModel
from edgewright.compiler.lower.ethos_u.build import NpuBuild, optimise, vela_of
from edgewright.compiler.lower.ethos_u.outcome import remaining_operators
from edgewright.compiler.lower.ethos_u.report import NpuReport
from edgewright.compiler.tflite.file.model import Model
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from edgewright.targets.catalog import load_board
from tests.compiler import ethos_u_nets as nets
from tests.compiler.ethos_u_run import outputs_of, random_inputs

needs_vela = pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="needs ethos-u-vela")
U55 = load_board("ethos-u55-128")
SHARED = Path(__file__).resolve().parents[3] / "shared/data/mlperf_tiny/models"


def built(model: Model, scratch: Path, target: str = "ethos-u55-128") -> NpuBuild:
    build = optimise(write(model), load_board(target), scratch)
    assert list(scratch.iterdir()) == []
    return build


def assert_same_outputs(model: Model, build: NpuBuild) -> None:
    source = read(build.source, "source")
    inputs = random_inputs(model, 5)
    for before, after in zip(outputs_of(model, inputs), outputs_of(source, inputs), strict=True):
        assert (before == after).all()


@needs_vela
def test_a_model_that_fits_is_one_command_stream(tmp_path: Path) -> None:
    model = nets.convolution()
    build = built(model, tmp_path)
    assert build.source == write(model)
    assert [one.custom for one in remaining_operators(build.model)] == ["ethos-u"]
    report = build.report
    assert (report.npu_operators, report.cpu_operators) == (1, ())
    assert (report.accelerator_config, report.memory_mode) == ("ethos-u55-128", "Shared_Sram")
    assert report.inference_ms == pytest.approx(report.cycles / 500_000)
    assert min(report.sram_bytes, report.flash_bytes, report.macs, report.encoded_weight_bytes) > 0
    assert report.dram_bytes == 0
    assert report.vela_version.startswith("5.")


REWRITTEN = {
    "strided convolution": nets.convolution(5, kernel=7, size=64),
    "strided depthwise convolution": nets.depthwise(5),
    "gather": nets.gather([2, 0]),
    "mean over channels": nets.mean([3]),
    "mean over everything": nets.mean([1, 2, 3]),
    "nearest neighbours": nets.nearest(24, 16),
    "blocks to channels": nets.blocks("SPACE_TO_DEPTH"),
    "channels to blocks": nets.blocks("DEPTH_TO_SPACE", 3),
}


@needs_vela
@pytest.mark.parametrize("name", sorted(REWRITTEN))
def test_safe_rewrites_are_applied(name: str, tmp_path: Path) -> None:
    model = REWRITTEN[name]
    build = built(model, tmp_path)
    (entry,) = build.report.cpu_operators
    assert entry.applied
    assert (entry.name, entry.type) == ("out", model.operators[0].type)
    assert entry.rewrite
    assert entry.cost_ms
    assert build.report.left_on_cpu == ()
    assert build.report.inference_ms <= entry.cost_ms
    assert build.report.npu_operators == len(read(build.source, "source").operators)
    assert [one.custom for one in remaining_operators(build.model)] == ["ethos-u"]
    assert_same_outputs(model, build)


@needs_vela
def test_what_cannot_be_rewritten_stays_with_its_reason(tmp_path: Path) -> None:
    build = built(nets.float_ports(), tmp_path)
    quantize, dequantize = build.report.left_on_cpu
    assert quantize.reason == "Operation has tensor with unsupported DataType Float32 (in)"
    assert (quantize.name, dequantize.name) == ("quantized", "out")
    assert "integer inputs and outputs" in str(quantize.rewrite)
    assert quantize.cost_ms
    assert build.report.npu_operators == 1


@needs_vela
def test_a_rewrite_that_would_be_slower_is_only_suggested(tmp_path: Path) -> None:
    """The NPU computes 25 outputs for one; Cortex-A55 cores are done before, even with the way there and back."""
    model = nets.convolution(5)
    build = built(model, tmp_path, "imx93")
    (entry,) = build.report.cpu_operators
    assert not entry.applied
    assert "take every n-th output" in str(entry.rewrite)
    assert build.source == write(model)


@needs_vela
def test_a_rewrite_that_stays_on_the_cpu_is_no_gain(tmp_path: Path) -> None:
    """Slices of int32 stay there too; this board has no constants that would tell that they take longer."""
    model = nets.gather([2, 0])
    integers = tuple(replace(tensor, type="INT32") for tensor in model.tensors)
    board = msgspec.structs.replace(U55, latency=())
    build = optimise(write(replace(model, tensors=integers)), board, tmp_path)
    assert [(one.type, one.applied, one.cost_ms) for one in build.report.cpu_operators] == [("GATHER", False, None)]


@needs_vela
def test_where_not_all_rewrites_are_gains_some_are_kept(tmp_path: Path) -> None:
    pooled = nets.pool("MAX_POOL_2D", 4, 5)
    net = nets.Net()
    net.tensors += pooled.tensors
    net.operators += pooled.operators
    place = pooled.outputs[0].tensor
    shape = (*pooled.tensors[place].shape[:3], 2)
    inputs = [place, net.integers("indices", [3, 1])]
    chosen = net.add("GATHER", inputs, net.tensor("chosen", shape), {"axis": 3})
    model = net.model([pooled.inputs[0].tensor], [chosen])
    build = built(model, tmp_path, "imx93")
    assert [(one.name, one.applied) for one in build.report.cpu_operators] == [("chosen", True), ("out", False)]
    assert_same_outputs(model, build)


@needs_vela
def test_some_stay_and_some_go(tmp_path: Path) -> None:
    model = nets.two_on_cpu()
    build = built(model, tmp_path, "ethos-u55-256")
    names = {entry.name: entry.applied for entry in build.report.cpu_operators}
    assert names["normal"] is False
    assert build.report.npu_operators == len(read(build.source, "source").operators) - len(build.report.left_on_cpu)
    assert_same_outputs(model, build)


@needs_vela
def test_a_padded_wide_stride_is_shielded_from_vela(tmp_path: Path) -> None:
    model = nets.padded_convolution()
    build = built(model, tmp_path)
    assert build.report.cpu_operators == ()
    assert [one.custom for one in remaining_operators(build.model)] == ["ethos-u"]
    assert_same_outputs(model, build)


@needs_vela
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_the_same_model_gives_the_same_build(target: str, tmp_path: Path) -> None:
    first, second = (built(nets.two_on_cpu(), tmp_path, target) for _ in range(2))
    assert first == second


@needs_vela
def test_a_report_survives_json(tmp_path: Path) -> None:
    report = built(nets.float_ports(), tmp_path).report
    assert msgspec.json.decode(msgspec.json.encode(report), type=NpuReport) == report


@needs_vela
def test_names_of_ports_stay(tmp_path: Path) -> None:
    model = nets.two_on_cpu("scores")
    source = read(built(model, tmp_path).source, "source")
    assert (source.inputs[0].name, source.outputs[0].name) == ("in", "scores")


def test_a_board_without_an_npu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="board raspberry-pi-5: no engine ethos-u-vela; it has"):
        optimise(b"", load_board("raspberry-pi-5"), tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a TFLite file"):
        optimise(b"x" * 100, U55, tmp_path)


@needs_vela
def test_what_vela_made_is_refused(tmp_path: Path) -> None:
    optimised = built(nets.convolution(), tmp_path).model
    with pytest.raises((ModelError, UnsupportedModel)):
        optimise(optimised, U55, tmp_path)
    model = nets.convolution()
    model = replace(model, operators=(replace(model.operators[0], type="CUSTOM", custom="ethos-u", options={}),))
    with pytest.raises(UnsupportedModel, match="has been through Vela already"):
        optimise(write(model), U55, tmp_path)


def test_without_vela_the_install_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(write(nets.convolution()))
    code = (
        "import sys, pathlib; sys.modules['ethosu'] = None\n"
        "from edgewright.compiler.lower.ethos_u.build import optimise\n"
        "from edgewright.compiler.faults import ToolchainMissing\n"
        "from edgewright.targets.catalog import load_board\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "try:\n    optimise(path.read_bytes(), load_board('ethos-u55-128'), path.parent)\n"
        "except ToolchainMissing as fault:\n    print(fault.exit_code, fault)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "5 Ethos-U needs Arm's compiler Vela, which is not installed here: pip install 'edgewright[ethos-u]'\n"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]


@needs_vela
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("target", ["ethos-u55-64", "ethos-u65-512", "ethos-u85-256", "ethos-u85-512", "imx93"])
def test_the_reference_models_run_on_the_npu_alone(target: str, tmp_path: Path) -> None:
    for path in sorted(SHARED.glob("*int8.tflite")):
        build = optimise(path.read_bytes(), load_board(target), tmp_path)
        assert build.report.cpu_operators == ()
        assert build.source == path.read_bytes()
        assert vela_of(load_board(target)).system_config == build.report.system_config
