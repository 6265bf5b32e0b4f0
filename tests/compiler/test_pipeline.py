"""Whole compilations of a small net: what ships, what is refused, and that the bytes are the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgewright.bundle.archive import unpack, verify
from edgewright.bundle.golden import compare, read_golden
from edgewright.bundle.manifest import Manifest
from edgewright.bundle.reference import read_reference
from edgewright.compiler.faults import DataError, MetricError, ModelError, ReplayError, UnsupportedModel
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import Report
from edgewright.compiler.request import Request, RequestError
from edgewright.targets.cost import RATIO_FACTOR
from edgewright.targets.faults import Fault

MakeRequest = Callable[..., Request]


def unpacked(out: Path, target: str, tmp_path: Path) -> tuple[Manifest, Path]:
    folder = tmp_path / f"{target}.unpacked"
    return unpack(out / f"{target}.bundle", folder), folder


def test_two_targets_give_two_good_bundles_and_one_report(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(targets=("host", "raspberry-pi-5"), version="3", security_epoch=2, threads=1)
    report = compile_model(request)
    assert report.exit_code == 0
    assert sorted(path.name for path in request.out.iterdir()) == [
        "host.bundle",
        "measurements.json",
        "raspberry-pi-5.bundle",
        "report.json",
    ]
    assert msgspec.json.decode((request.out / "report.json").read_bytes(), type=Report) == report
    for target, kind in (("host", "measured"), ("raspberry-pi-5", "estimated")):
        manifest, folder = unpacked(request.out, target, tmp_path)
        assert (manifest.model, manifest.version, manifest.security_epoch) == ("net", "3", 2)
        assert manifest.inputs[0].shape == (-1, 1, 8, 8)
        assert (manifest.inputs[0].datatype, manifest.inputs[0].layout) == ("FP32", "NCHW")
        assert manifest.latency.kind == kind
        assert manifest.latency.interval.low <= manifest.latency.p50_ms <= manifest.latency.interval.high
        assert manifest.accuracy is not None
        assert manifest.accuracy.metric == "top1"
        assert manifest.engine.options["allow_spinning"] is False
        session = open_session((folder / "model" / "model.onnx").read_bytes(), Arithmetic.ENGINE)
        golden = read_golden(folder / "golden.safetensors")
        assert compare(golden, run(session, golden.inputs)).passed
        assert read_reference(folder / "reference.cbor").confidence_table is not None


def test_golden_notices_another_model(make_request: MakeRequest, tmp_path: Path, int8_board: str) -> None:
    request = make_request(targets=(int8_board,))
    compile_model(request)
    _, folder = unpacked(request.out, "int8-board", tmp_path)
    golden = read_golden(folder / "golden.safetensors")
    model = onnx.load(folder / "model" / "model.onnx")
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) == 4:
            weight.raw_data = bytes(len(weight.raw_data))
    session = open_session(model.SerializeToString(), Arithmetic.ENGINE)
    assert not compare(golden, run(session, golden.inputs)).passed


def test_int8_ships_where_it_is_estimated_faster(make_request: MakeRequest, tmp_path: Path, int8_board: str) -> None:
    report = compile_model(make_request(targets=(int8_board,)))
    manifest, folder = unpacked(make_request().out, "int8-board", tmp_path)
    assert manifest.precision == "int8"
    assert "latency-estimated" in manifest.flags
    kinds = {node.op_type for node in onnx.load(folder / "model" / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert [record.name for record in manifest.lineage.passes][-1] == "quantize"
    assert manifest.lineage.measurements_digest is None
    assert report.targets[0].candidates[0].name == "float32"


@pytest.fixture
def half_board(tmp_path: Path) -> str:
    """A board file whose ONNX Runtime computes float16, by far faster than the rest."""
    path = tmp_path / "half-board.toml"
    path.write_text(
        """
inherits = "raspberry-pi-5"
name = "half-board"
vendor = "Test"
description = "Where float16 pays even for tiny nets"

[[engines]]
name = "onnxruntime"
precisions = ["float32", "float16", "int8"]
version = ">=1.31,<2"
"""
        + "".join(
            f"""
[[latency]]
precision = "{precision}"
processor = "cpu"
macs_per_cycle = {{ conv = 1, depthwise = 1, matmul = 1 }}
activation_bytes_per_s = 10_000_000_000
weight_bytes_per_s = 10_000_000_000
operator_overhead_us = {overhead_us}
low_factor = 2.0
high_factor = 2.0
source = "made up"
"""
            for precision, overhead_us in (("float32", 500), ("float16", 1), ("int8", 500))
        )
    )
    return str(path)


def test_half_precision_ships_where_the_engine_has_it_and_is_faster(
    make_request: MakeRequest, tmp_path: Path, half_board: str
) -> None:
    report = compile_model(make_request(targets=(half_board, "raspberry-pi-5")))
    manifest, folder = unpacked(make_request().out, "half-board", tmp_path)
    assert (report.targets[0].chosen, manifest.precision) == ("float16", "float16")
    assert manifest.inputs[0].datatype == "FP32"
    golden = read_golden(folder / "golden.safetensors")
    session = open_session((folder / "model" / "model.onnx").read_bytes(), Arithmetic.ENGINE)
    assert compare(golden, run(session, golden.inputs)).passed
    assert [row.name for row in report.targets[1].candidates if row.precision == "float16"] == []


def test_all_bundles_of_a_release_have_one_signature(
    make_request: MakeRequest, tmp_path: Path, int8_board: str, half_board: str
) -> None:
    compile_model(make_request(targets=(int8_board, half_board, "raspberry-pi-5")))
    manifests = [
        unpacked(make_request().out, name, tmp_path)[0] for name in ("int8-board", "half-board", "raspberry-pi-5")
    ]
    assert len({manifest.precision for manifest in manifests}) == 3
    assert all(manifest.inputs == manifests[0].inputs for manifest in manifests)
    assert all(manifest.outputs == manifests[0].outputs for manifest in manifests)


def test_int8_stays_behind_where_its_advantage_is_within_the_error_of_the_estimate(make_request: MakeRequest) -> None:
    target = compile_model(make_request()).targets[0]
    assert (target.chosen, target.outcome) == ("float32", "shipped")
    interval = target.candidates[1].time_ratio_interval
    assert interval.low < 1 <= interval.high
    assert interval.high / interval.low == pytest.approx(RATIO_FACTOR**2, rel=1e-3)


def test_the_same_inputs_and_measurements_give_the_same_bytes(make_request: MakeRequest, tmp_path: Path) -> None:
    targets = ("host", "raspberry-pi-5")
    first = make_request(targets=targets)
    compile_model(first)
    again = make_request(targets=targets, out=tmp_path / "again", measurements=first.out / "measurements.json")
    compile_model(again)
    for path in sorted(first.out.iterdir()):
        assert path.read_bytes() == (again.out / path.name).read_bytes(), path.name


def test_measurements_of_another_build_are_refused(make_request: MakeRequest, tmp_path: Path) -> None:
    first = make_request(targets=("host",))
    compile_model(first)
    other = make_request(
        targets=("host",), out=tmp_path / "other", threads=2, measurements=first.out / "measurements.json"
    )
    report = compile_model(other)
    assert report.exit_code == ReplayError.exit_code
    assert "measure again" in report.targets[0].reason


def test_a_missed_budget_ships_float_and_exits_3(make_request: MakeRequest, tmp_path: Path, int8_board: str) -> None:
    request = make_request(metric="distortion", max_drop="0.0001%", targets=(int8_board,))
    report = compile_model(request)
    assert report.exit_code == 3
    assert report.targets[0].outcome == "budget-missed"
    manifest, _ = unpacked(request.out, "int8-board", tmp_path)
    assert manifest.precision == "float32"
    assert manifest.accuracy is not None
    assert manifest.accuracy.drop == 0


def test_one_target_s_trouble_does_not_stop_the_others(make_request: MakeRequest) -> None:
    request = make_request(targets=("ethos-u55-128", "raspberry-pi-5"))
    report = compile_model(request)
    assert [target.exit_code for target in report.targets] == [5, 0]
    assert report.exit_code == 5
    assert "--engine leaves none of its engines (ethos-u-vela)" in report.targets[0].reason
    verify(request.out / "raspberry-pi-5.bundle")
    assert not (request.out / "ethos-u55-128.bundle").exists()


def test_raw_bytes_come_in_where_mean_and_scale_are_folded(
    make_request: MakeRequest, tmp_path: Path, pictures: np.ndarray, labels: np.ndarray
) -> None:
    raw = np.clip(np.round(pictures * 32 + 128), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "raw.npz", x=raw, y=labels)
    request = make_request(data=tmp_path / "raw.npz", mean=(128.0,), scale=(1 / 32,))
    compile_model(request)
    manifest, folder = unpacked(request.out, "raspberry-pi-5", tmp_path)
    assert manifest.inputs[0].datatype == "UINT8"
    nodes = [node.op_type for node in onnx.load(folder / "model" / "model.onnx").graph.node]
    assert nodes[:3] == ["Cast", "Sub", "Mul"]
    assert manifest.accuracy is not None
    assert manifest.accuracy.float_value > 0.7


def test_a_fixed_batch_stays_fixed(make_request: MakeRequest, tmp_path: Path, fixed_batch_model: Path) -> None:
    request = make_request(model=str(fixed_batch_model))
    compile_model(request)
    manifest, folder = unpacked(request.out, "raspberry-pi-5", tmp_path)
    assert manifest.inputs[0].shape == (1, 1, 8, 8)
    assert read_golden(folder / "golden.safetensors").inputs["x"].shape[0] == 1


@pytest.mark.parametrize(("metric", "found"), [(None, "agreement"), ("snr", "distortion")])
def test_without_labels_the_float_model_is_the_reference(
    make_request: MakeRequest, tmp_path: Path, pictures: np.ndarray, metric: str | None, found: str
) -> None:
    np.savez(tmp_path / "unlabelled.npz", x=pictures)
    report = compile_model(make_request(data=tmp_path / "unlabelled.npz", metric=metric))
    assert report.metric == found
    int8 = report.targets[0].candidates[1].test
    assert int8.snr_db is not None
    assert int8.snr_db > 20
    assert int8.argmax_agreement is not None


def test_an_operator_that_no_engine_has_is_named(make_request: MakeRequest, tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    agraph (float[N, 1, 8, 8] x) => (float[N, 1, 8, 8] y) { y = com.microsoft.NoSuchOperator(x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "odd.onnx")
    with pytest.raises(UnsupportedModel, match=r"NoSuchOperator at node .*gives y"):
        compile_model(make_request(model=str(tmp_path / "odd.onnx")))


@pytest.mark.parametrize(
    ("changes", "fault", "message"),
    [
        ({"targets": ("host", "host")}, RequestError, "twice"),
        ({"targets": ("no-such-board",)}, Fault, "no-such-board"),
        ({"name": "a/b"}, RequestError, "--name"),
        ({"version": ""}, RequestError, "--release-version"),
        ({"max_drop": "1dB"}, MetricError, "--max-drop"),
        ({"metric": "mse"}, MetricError, "--metric mse"),
        ({"weights": Path("w.safetensors")}, DataError, "--weights"),
        ({"data": Path("none.npz")}, DataError, "no such file"),
        ({"mean": (1.0, 2.0, 3.0)}, DataError, "channel"),
        ({"scale": (0.0,)}, DataError, "--scale 0"),
        ({"data": Path("/dev/zero")}, DataError, "not a file"),
    ],
)
def test_bad_requests_are_refused_and_leave_nothing(
    make_request: MakeRequest, changes: dict[str, object], fault: type[Fault], message: str
) -> None:
    request = make_request(**changes)
    with pytest.raises(fault, match=message):
        compile_model(request)
    assert not request.out.exists()


@pytest.mark.parametrize("stray", [-1, 4])
def test_a_label_that_is_no_class_is_refused_wherever_it_stands(
    make_request: MakeRequest, tmp_path: Path, pictures: np.ndarray, labels: np.ndarray, stray: int
) -> None:
    for part in ("calibrate", "test"):
        split = np.array((["calibrate", "tune", "test", "test"] * len(labels))[: len(labels)])
        wrong = labels.copy()
        wrong[np.flatnonzero(split == part)[0]] = stray
        np.savez(tmp_path / "wrong.npz", x=pictures, y=wrong, split=split)
        with pytest.raises(MetricError, match=f"holds {stray}, but the output scores 4 classes, 0 to 3"):
            compile_model(make_request(data=tmp_path / "wrong.npz"))


def embedding() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N, 6] ids) => (float[N, 3] scores) {
            rows = Gather(table, ids) flat = ReduceMean<axes = [1], keepdims = 0>(rows) scores = MatMul(flat, w)
        }"""
    )
    random = np.random.default_rng(3)
    for name, shape in (("table", (50, 8)), ("w", (8, 3))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    return model


def test_an_index_beyond_its_table_is_the_data_s_fault(make_request: MakeRequest, tmp_path: Path) -> None:
    onnx.save(embedding(), tmp_path / "embedding.onnx")
    ids = np.random.default_rng(0).integers(0, 50, (40, 6))
    np.savez(tmp_path / "good.npz", ids=ids)
    model = str(tmp_path / "embedding.onnx")
    assert compile_model(make_request(model=model, data=tmp_path / "good.npz")).exit_code == 0
    np.savez(tmp_path / "bad.npz", ids=ids + 50)
    with pytest.raises(DataError, match=r"cannot run on samples 0 to .*out of data bounds"):
        compile_model(make_request(model=model, data=tmp_path / "bad.npz"))


def half_precision() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float16[N, 8] x) => (float16[N, 3] scores) { scores = MatMul(x, w) }"""
    )
    weights = np.random.default_rng(3).normal(size=(8, 3)).astype(np.float16)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


def test_half_precision_ships_as_it_is_and_says_why_not_in_int8(make_request: MakeRequest, tmp_path: Path) -> None:
    onnx.save(half_precision(), tmp_path / "half.onnx")
    np.savez(tmp_path / "half.npz", x=np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    request = make_request(model=str(tmp_path / "half.onnx"), data=tmp_path / "half.npz", max_drop=None)
    target = compile_model(request).targets[0]
    assert (target.chosen, target.exit_code) == ("float32", 0)
    assert "MatMul" in target.reason
    assert "FLOAT16" in target.reason
    assert unpacked(request.out, "raspberry-pi-5", tmp_path)[0].inputs[0].datatype == "FP16"


@pytest.mark.parametrize(
    "nodes", ["d = Concat<axis = 0>(x, x) y = MatMul(d, w)", "z = MatMul(x, w) y = Transpose<perm = [1, 0]>(z)"]
)
def test_an_output_whose_first_axis_is_not_the_batch_is_refused(
    make_request: MakeRequest, tmp_path: Path, nodes: str
) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[A, B] y) {{ {nodes} }}'
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    model.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=(4, 3)).astype(np.float32), "w"))
    onnx.save(model, tmp_path / "odd.onnx")
    np.savez(tmp_path / "odd.npz", x=random.normal(size=(300, 4)).astype(np.float32))
    with pytest.raises(ModelError, match=r"'y' has .* rows for .* samples; its first axis must be the batch"):
        compile_model(make_request(model=str(tmp_path / "odd.onnx"), data=tmp_path / "odd.npz"))
