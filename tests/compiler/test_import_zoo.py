"""Nets that are not plain pictures-to-classes: each compiles, or ends with the right exit code and words to act on."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import helper, numpy_helper

from edgewright.bundle.archive import unpack
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import signature
from edgewright.compiler.lower.model_file import LargeModel, size_bytes, write_model
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, preflight, run
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.report.schema import Report
from edgewright.compiler.request import Request
from edgewright.compiler.scratch import Scratch
from edgewright.targets.faults import Fault

SAMPLES = 120
BOARD = "raspberry-pi-5"
Arrays = dict[str, np.ndarray]


def random() -> np.random.Generator:
    return np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    array: np.ndarray = random().normal(size=shape) / np.sqrt(shape[-1])
    return array.astype(np.float32)


def model_of(text: str, weights: Arrays, opset: int = 17) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def compiled(folder: Path, model: onnx.ModelProto, data: Arrays) -> Report:
    path = folder / "net.onnx"
    onnx.save(model, path)
    np.savez(folder / "data.npz", **data)  # type: ignore[arg-type]
    return compile_model(
        Request(
            model=str(path),
            targets=(BOARD,),
            data=folder / "data.npz",
            out=folder / "out",
            max_drop="50%",
            engines=("onnxruntime",),
        )
    )


def shipped(folder: Path) -> tuple[dict[str, object], Path]:
    """The manifest of the bundle, and the folder that it was unpacked to."""
    unpack(folder / "out" / f"{BOARD}.bundle", folder / "unpacked")
    return json.loads((folder / "unpacked" / "manifest.json").read_bytes()), folder / "unpacked"


def check_shipped(folder: Path, report: Report, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> None:
    assert report.exit_code in (0, 3), report.targets[0].reason
    manifest, unpacked = shipped(folder)
    for role, expected in (("inputs", inputs), ("outputs", outputs)):
        found = {spec["name"]: list(spec["shape"]) for spec in manifest[role]}  # type: ignore[attr-defined]
        assert found == expected
    open_session((unpacked / "model" / "model.onnx").read_bytes(), Arithmetic.ENGINE)


def refused(folder: Path, model: onnx.ModelProto, data: Arrays) -> Fault:
    with pytest.raises(Fault) as caught:
        compiled(folder, model, data)
    assert not list(folder.glob("out/*")), "a refused model leaves nothing behind"
    return caught.value


WIDTH = 16
ENCODER = f"""encoder (int64[batch, length] tokens) => (float[batch, length, {WIDTH}] y) {{
    e = Gather(table, tokens) q = MatMul(e, wq) k = MatMul(e, wk) v = MatMul(e, wv)
    kt = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, kt) d = Div(s, root) p = Softmax(d) a = MatMul(p, v)
    r = Add(e, a) n = LayerNormalization(r, gain, shift) f = MatMul(n, w1) g = Relu(f) h = MatMul(g, w2)
    y = Add(n, h) }}"""


def encoder_weights() -> Arrays:
    squares = {name: floats(WIDTH, WIDTH) for name in ("wq", "wk", "wv", "w1", "w2")}
    return squares | {
        "table": floats(50, WIDTH),
        "root": np.array(4, np.float32),
        "gain": np.ones(WIDTH, np.float32),
        "shift": np.zeros(WIDTH, np.float32),
    }


def test_a_transformer_encoder_keeps_batch_and_length_free(tmp_path: Path) -> None:
    tokens = random().integers(0, 50, (SAMPLES, 7))
    report = compiled(tmp_path, model_of(ENCODER, encoder_weights()), {"tokens": tokens})
    check_shipped(tmp_path, report, {"tokens": [-1, -1]}, {"y": [-1, -1, WIDTH]})
    session = open_session((tmp_path / "unpacked" / "model" / "model.onnx").read_bytes(), Arithmetic.ENGINE)
    assert session.run(None, {"tokens": tokens[:3, :5]})[0].shape == (3, 5, WIDTH)


LSTM = """rnn (float[batch, length, 4] x, float[batch, 3] h, float[batch, 3] c)
    => (float[batch, length, 3] y, float[batch, 3] h_out, float[batch, 3] c_out) {
    t = Transpose<perm = [1, 0, 2]>(x) h0 = Unsqueeze(h, zero) c0 = Unsqueeze(c, zero)
    ys, hs, cs = LSTM<hidden_size = 3>(t, w, r, , , h0, c0)
    y1 = Squeeze(ys, one) y = Transpose<perm = [1, 0, 2]>(y1)
    h_out = Squeeze(hs, zero) c_out = Squeeze(cs, zero) }"""


def test_a_stateful_rnn_keeps_its_state_as_inputs_and_outputs(tmp_path: Path) -> None:
    weights = {"w": floats(1, 12, 4), "r": floats(1, 12, 3), "zero": np.array([0]), "one": np.array([1])}
    data = {"x": floats(SAMPLES, 5, 4), "h": floats(SAMPLES, 3), "c": floats(SAMPLES, 3)}
    report = compiled(tmp_path, model_of(LSTM, weights), data)
    check_shipped(
        tmp_path,
        report,
        {"x": [-1, -1, 4], "h": [-1, 3], "c": [-1, 3]},
        {"y": [-1, -1, 3], "h_out": [-1, 3], "c_out": [-1, 3]},
    )


LOOP = """accumulate (float[batch, 4] x) => (float[batch, 4] y) {
    three = Constant<value = int64 {3}>() yes = Constant<value = bool {1}>()
    m = MatMul(x, w)
    y = Loop (three, yes, m) <body = step (int64 i, bool go, float[batch, 4] before)
        => (bool again, float[batch, 4] after) { again = Identity(go) p = MatMul(before, w) after = Tanh(p) }> }"""


def test_a_loop_runs_as_it_is(tmp_path: Path) -> None:
    report = compiled(tmp_path, model_of(LOOP, {"w": floats(4, 4)}), {"x": floats(SAMPLES, 4)})
    check_shipped(tmp_path, report, {"x": [-1, 4]}, {"y": [-1, 4]})


def test_a_scan_runs_as_it_is(tmp_path: Path) -> None:
    step = onnx.parser.parse_graph(
        "step (float[4] sum, float[4] row) => (float[4] next, float[4] out) { next = Add(sum, row) out = Tanh(next) }"
    )
    nodes = [
        helper.make_node("Scan", ["start", "x"], ["last", "y"], "scan", body=step, num_scan_inputs=1),
    ]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    start = numpy_helper.from_array(np.zeros(4, np.float32), "start")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [start])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    report = compiled(tmp_path, model, {"x": floats(SAMPLES, 4)})
    check_shipped(tmp_path, report, {"x": [-1, 4]}, {"y": [-1, 4]})


def test_a_net_with_two_inputs(tmp_path: Path) -> None:
    text = """two (float[batch, 6] left, float[batch, 3] right) => (float[batch, 4] y) {
        a = MatMul(left, w) b = MatMul(right, v) s = Add(a, b) r = Relu(s) y = MatMul(r, o) }"""
    weights = {"w": floats(6, 8), "v": floats(3, 8), "o": floats(8, 4)}
    report = compiled(tmp_path, model_of(text, weights), {"left": floats(SAMPLES, 6), "right": floats(SAMPLES, 3)})
    check_shipped(tmp_path, report, {"left": [-1, 6], "right": [-1, 3]}, {"y": [-1, 4]})


def test_an_empty_net_is_refused(tmp_path: Path) -> None:
    model = model_of("empty (float[batch, 4] x) => (float[batch, 4] x) { }", {})
    fault = refused(tmp_path, model, {"x": floats(SAMPLES, 4)})
    assert fault.exit_code == 2
    assert "no operators" in str(fault)
    assert "Export the trained model" in str(fault)


def test_a_net_that_passes_its_input_on_compiles(tmp_path: Path) -> None:
    model = model_of("same (float[batch, 4] x) => (float[batch, 4] y) { y = Identity(x) }", {})
    report = compiled(tmp_path, model, {"x": floats(SAMPLES, 4)})
    check_shipped(tmp_path, report, {"x": [-1, 4]}, {"y": [-1, 4]})


def test_a_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    model = model_of("g (float[batch, 4] x) => (float[batch, 4] y) { y = acme.Magic(x) }", {})
    model.opset_import.append(helper.make_opsetid("acme", 1))
    fault = refused(tmp_path, model, {"x": floats(SAMPLES, 4)})
    assert fault.exit_code == 4
    assert "acme:Magic" in str(fault)
    assert "standard ONNX operators" in str(fault)


@pytest.mark.parametrize("as_attribute", [False, True])
def test_weights_that_are_not_numbers_are_refused_by_name(tmp_path: Path, as_attribute: bool) -> None:
    bad = floats(4, 4)
    bad[1, 2:] = np.nan
    text = "g (float[batch, 4] x) => (float[batch, 4] y) { %s y = MatMul(x, w) }"
    model = model_of(text % "", {"w": bad})
    if as_attribute:
        node = helper.make_node("Constant", [], ["w"], value=model.graph.initializer.pop())
        model.graph.node.insert(0, node)
    fault = refused(tmp_path, model, {"x": floats(SAMPLES, 4)})
    assert fault.exit_code == 2
    assert "weights 'w': 2 of 16 values are NaN" in str(fault)
    assert "earlier checkpoint" in str(fault)


CNTK = """CNTKGraph (float[1, 1, 8, 8] Input, float[4, 1, 3, 3] w, float[4, 1, 1] b, float[64, 5] dense, int64[2] flat,
    float[1, 5] e) => (float[1, 5] Plus) {
    c = Conv<auto_pad = "SAME_UPPER", kernel_shape = [3, 3], strides = [1, 1], dilations = [1, 1], group = 1>(Input, w)
    a = Add(c, b) r = Relu(a)
    p = MaxPool<auto_pad = "NOTSET", kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0]>(r)
    f = Reshape(p, flat) m = MatMul(f, dense) Plus = Add(m, e) }"""


def test_opset_8_as_cntk_writes_it(tmp_path: Path) -> None:
    weights = {
        "w": floats(4, 1, 3, 3),
        "b": floats(4, 1, 1),
        "dense": floats(64, 5),
        "flat": np.array([1, 64]),
        "e": floats(1, 5),
    }
    model = model_of(CNTK, weights, opset=8)
    model.ir_version = 3
    report = compiled(tmp_path, model, {"Input": floats(SAMPLES, 1, 8, 8)})
    check_shipped(tmp_path, report, {"Input": [1, 1, 8, 8]}, {"Plus": [1, 5]})


def test_opset_23(tmp_path: Path) -> None:
    text = """g (float[batch, 8] x) => (float[batch, 4] y) {
        n = RMSNormalization(x, gain) m = MatMul(n, w) a = Gelu(m) y = MatMul(a, v) }"""
    weights = {"gain": np.ones(8, np.float32), "w": floats(8, 16), "v": floats(16, 4)}
    model = model_of(text, weights, opset=23)
    model.ir_version = 11
    report = compiled(tmp_path, model, {"x": floats(SAMPLES, 8)})
    check_shipped(tmp_path, report, {"x": [-1, 8]}, {"y": [-1, 4]})


ROWS, COLUMNS = 540_000, 1024


def huge(folder: Path) -> Path:
    """2.2 GB of weights in a file of zeros, which takes no room on the disk; one row at its end is not zero."""
    size_bytes = ROWS * COLUMNS * 4
    with (folder / "table.bin").open("wb") as file:
        file.truncate(size_bytes)
        file.seek(size_bytes - COLUMNS * 4)
        file.write(np.ones(COLUMNS, np.float32).tobytes())
    model = model_of(
        "g (int64[batch] x) => (float[batch, 4] y) { rows = Gather(table, x) y = MatMul(rows, w) }",
        {"w": np.ones((COLUMNS, 4), np.float32)},
    )
    table = model.graph.initializer.add(name="table", data_type=onnx.TensorProto.FLOAT, dims=[ROWS, COLUMNS])
    table.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "table.bin", "offset": "0", "length": str(size_bytes)}.items():
        table.external_data.add(key=key, value=value)
    onnx.save(model, folder / "huge.onnx")
    return folder / "huge.onnx"


@pytest.mark.slow
def test_weights_above_what_protobuf_holds(tmp_path: Path) -> None:
    path = huge(tmp_path)
    source = load_onnx(path)
    content = hashlib.sha256(path.read_bytes())
    with (tmp_path / "table.bin").open("rb") as file:
        while chunk := file.read(1 << 24):
            content.update(chunk)
    assert source.digest == f"sha256:{content.hexdigest()}"
    graph = source.graph
    with Scratch(tmp_path / "out") as scratch:
        preflight(graph, "huge.onnx", scratch)
        assert not list(scratch.folder().iterdir()), "what the preflight wrote is gone"
        for float_pass in FLOAT_PASSES:
            graph = float_pass(graph, NoOptions()).graph
        assert signature(graph).inputs[0].shape == (-1,)
        model = write_model(graph, scratch)
        assert isinstance(model, LargeModel)
        assert size_bytes(model) > 1 << 31
        found = run(open_session(model, Arithmetic.ENGINE), {"x": np.array([0, ROWS - 1])})["y"]
        np.testing.assert_array_equal(found, [[0] * 4, [COLUMNS] * 4])
    assert not (tmp_path / "out").exists()


def own_bytes(process: int) -> int:
    """Of memory that is a process's own; files that are mapped do not count."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or before it was read
        return 0
    return sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compile", "quantize"])
def test_a_model_above_what_protobuf_holds_goes_all_the_way(tmp_path: Path, command: str) -> None:
    path, out = huge(tmp_path), tmp_path / "out"
    np.savez(tmp_path / "data.npz", x=np.arange(ROWS - SAMPLES, ROWS))
    options = {
        "compile": [
            *("--target", "host", "--engine", "onnxruntime", "--no-cache"),
            *("--data", str(tmp_path / "data.npz"), "--out", str(out)),
        ],
        "quantize": ["--method", "weights", "--out", str(out / "q.onnx")],
    }[command]
    process = subprocess.Popen([sys.executable, "-m", "edgewright.runtime.cli", command, str(path), *options])
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, own_bytes(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0
    assert peak_bytes < ROWS * COLUMNS * 4 + (1 << 30)
    results = {
        "compile": ["host.bundle", "measurements.json", "report.json"],
        "quantize": ["q.onnx", "q.onnx.data", "q.plan.toml"],
    }
    assert sorted(file.name for file in out.iterdir()) == results[command]
    size_bytes = max(file.stat().st_size for file in out.iterdir())
    assert size_bytes > ROWS * COLUMNS
    shutil.rmtree(out)
