"""`edgewright diff`: what corresponds is found whatever tool quantized it, and the layer that is wrong is the worst."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgewright.compiler.compare.match import Matching, match
from edgewright.compiler.compare.picture import draw
from edgewright.compiler.compare.report import Comparison, shortened
from edgewright.compiler.compare.run import MEMORY_BYTES, compare_models
from edgewright.compiler.compare.source import opened, shared_inputs
from edgewright.compiler.compare.sums import Sums
from edgewright.compiler.faults import DataError, ModelError
from edgewright.compiler.graph import from_proto
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.report.progress import SilentStages
from edgewright.compiler.scratch import Scratch

COMMAND = (sys.executable, "-m", "edgewright.runtime.cli", "diff")


def weight(name: str, *shape: int, seed: int = 3) -> onnx.TensorProto:
    array = np.random.default_rng(seed).normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(array.astype(np.float32), name)


def net(*, batch: str | int = "N", rename: str = "", spoiled: float = 0.0) -> onnx.ModelProto:
    """Two convolutions with Relu, a sum, a product; `rename` goes into every inner name, `spoiled` into one weight."""
    second = numpy_helper.to_array(weight("w2", 6, 6, 3, 3)) + spoiled

    def name(text: str) -> str:
        return text + rename

    nodes = [
        helper.make_node("Conv", ["x", "w1"], [name("c1")], name("conv1"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [name("c1")], [name("r1")], name("relu1")),
        helper.make_node(
            "Conv", [name("r1"), "w2"], [name("c2")], name("conv2"), kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", [name("c2")], [name("r2")], name("relu2")),
        helper.make_node("Add", [name("r1"), name("r2")], [name("sum")], name("add")),
        helper.make_node("GlobalAveragePool", [name("sum")], [name("pooled")], name("pool")),
        helper.make_node("Flatten", [name("pooled")], [name("flat")], name("flatten")),
        helper.make_node("MatMul", [name("flat"), "w3"], ["scores"], name("dense")),
    ]
    weights = [weight("w1", 6, 1, 3, 3), numpy_helper.from_array(second.astype(np.float32), "w2"), weight("w3", 6, 4)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray) -> None:
        self._rows = iter([{"x": row[None]} for row in x])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(20, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, x: np.ndarray) -> Path:
    """What ONNX Runtime's own quantizer makes of it: Relu gone, other names for the integers."""
    folder = tmp_path_factory.mktemp("ort")
    onnx.save(net(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(x),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return folder / "int8.onnx"


def matched(left: onnx.ModelProto, right: onnx.ModelProto) -> Matching:
    return match(from_proto(left), from_proto(right))


def compared(left: Path, right: Path, x: np.ndarray, tmp_path: Path, memory_bytes: int = MEMORY_BYTES) -> Comparison:
    with opened(left) as one, opened(right) as other, Scratch(tmp_path / "scratch") as scratch:
        shared_inputs(one, other)
        return compare_models(one, other, {"x": x}, SilentStages(), scratch, memory_bytes)


def saved(folder: Path, name: str, model: onnx.ModelProto) -> Path:
    onnx.save(model, folder / name)
    return folder / name


def test_a_model_is_equal_to_itself(tmp_path: Path, x: np.ndarray) -> None:
    path = saved(tmp_path, "a.onnx", net())
    comparison = compared(path, path, x, tmp_path)
    assert [layer.name for layer in comparison.layers] == ["c1", "r1", "c2", "r2", "sum", "pooled", "flat", "scores"]
    assert {layer.snr_db for layer in comparison.layers} == {200.0}
    assert {layer.local_snr_db for layer in comparison.layers} == {200.0}
    assert comparison.layers[0].elements == 20 * 6 * 8 * 8
    assert comparison.left_only == comparison.right_only == ()


def test_the_layer_that_was_spoiled_is_the_worst_by_itself(tmp_path: Path, x: np.ndarray) -> None:
    good, bad = saved(tmp_path, "a.onnx", net()), saved(tmp_path, "b.onnx", net(spoiled=0.05))
    comparison = compared(good, bad, x, tmp_path)
    alone = {layer.name: layer.local_snr_db for layer in comparison.layers}
    assert [name for name, level in alone.items() if level is not None and level < 200] == ["c2"]
    through = {layer.name: layer.snr_db for layer in comparison.layers}
    assert through["c1"] == through["r1"] == 200
    assert through["scores"] < 60
    assert comparison.worst_first[0].snr_db == min(through.values())


def test_figures_are_those_of_the_plain_formula(tmp_path: Path, x: np.ndarray) -> None:
    good, bad = saved(tmp_path, "a.onnx", net()), saved(tmp_path, "b.onnx", net(spoiled=0.05))
    layer = compared(good, bad, x, tmp_path).layers[-1]
    outputs = [np.asarray(ReferenceSession(path).run(x)) for path in (good, bad)]
    assert layer.snr_db == pytest.approx(snr_db(outputs[1], outputs[0]), abs=0.01)
    assert layer.largest_difference == pytest.approx(np.abs(outputs[1] - outputs[0]).max(), rel=1e-4)


class ReferenceSession:
    """onnx's own evaluator."""

    def __init__(self, path: Path) -> None:
        self._evaluator = onnx.reference.ReferenceEvaluator(onnx.load(path))

    def run(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(next(iter(self._evaluator.run(None, {"x": x}))))


def test_names_of_onnx_runtime_s_quantizer(quantized: Path, tmp_path: Path, x: np.ndarray) -> None:
    comparison = compared(quantized.with_name("float.onnx"), quantized, x, tmp_path)
    by_name = {layer.name: layer for layer in comparison.layers}
    assert set(by_name) == {"c1", "r1", "c2", "r2", "sum", "pooled", "flat", "scores"}
    assert by_name["r1"].counterpart == "r1_DequantizeLinear_Output"
    assert by_name["c1"].matched_by == "absorbed"
    assert all(layer.snr_db > 25 for layer in comparison.layers), "a wrong counterpart would be far off"
    assert all(layer.local_snr_db is not None and layer.local_snr_db > 30 for layer in comparison.layers)
    assert comparison.right_only == ()
    (output,) = comparison.outputs
    assert output.exact_snr_db == pytest.approx(by_name["scores"].snr_db, abs=0.1)
    assert output.engine_snr_db > 20


def test_a_gone_activation_whose_name_went_too() -> None:
    proto = net()
    before = [node for node in proto.graph.node if node.op_type != "Relu"]
    for node in before:
        for index, name in enumerate(node.input):
            node.input[index] = name.replace("r", "c") if name in {"r1", "r2"} else name
    rounding = []
    for name in ("c1", "c2"):
        rounding += [
            helper.make_node("QuantizeLinear", [name, "step", "zero"], [f"{name}_quantized"]),
            helper.make_node("DequantizeLinear", [f"{name}_quantized", "step", "zero"], [f"{name}_dequantized"]),
        ]
    extra = [
        numpy_helper.from_array(np.array(0.1, np.float32), "step"),
        numpy_helper.from_array(np.array(0, np.uint8), "zero"),
    ]
    graph = helper.make_graph(
        [*before, *rounding], "net", proto.graph.input, proto.graph.output, [*proto.graph.initializer, *extra]
    )
    right = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = {pair.name: (pair.right, pair.how) for pair in matched(net(), right).pairs}
    assert found["r1"] == ("c1_dequantized", "absorbed")
    assert found["c1"] == ("c1", "absorbed")


def test_a_folded_normalisation_has_no_tensor_before_it() -> None:
    def model(*, folded: bool) -> onnx.ModelProto:
        conv = helper.make_node("Conv", ["x", "w1"], ["y" if folded else "c"], "conv", kernel_shape=[3, 3])
        norm = helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], "norm")
        vectors = [numpy_helper.from_array(np.ones(6, np.float32), name) for name in "sbmv"]
        graph = helper.make_graph(
            [conv] if folded else [conv, norm],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, 6, 6])],
            [weight("w1", 6, 1, 3, 3), *([] if folded else vectors)],
        )
        return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))

    found = matched(model(folded=False), model(folded=True))
    assert [(pair.name, pair.right) for pair in found.pairs] == [("y", "y")]
    assert found.left_only == ("c",)


def test_without_common_names_order_and_shape_decide(tmp_path: Path, x: np.ndarray) -> None:
    comparison = compared(
        saved(tmp_path, "a.onnx", net()), saved(tmp_path, "b.onnx", net(rename="_exported_again")), x, tmp_path
    )
    how = {layer.name: (layer.counterpart, layer.matched_by) for layer in comparison.layers}
    assert how["c2"] == ("c2_exported_again", "order")
    assert how["scores"] == ("scores", "name")
    assert {layer.snr_db for layer in comparison.layers} == {200.0}


@pytest.mark.parametrize("memory_bytes", [1, 9000, 1 << 20])
@pytest.mark.parametrize("batch", ["N", 8])
def test_figures_do_not_depend_on_how_much_fits(
    tmp_path: Path, x: np.ndarray, memory_bytes: int, batch: str | int
) -> None:
    good = saved(tmp_path, "a.onnx", net(batch=batch))
    bad = saved(tmp_path, "b.onnx", net(batch=batch, spoiled=0.05))
    usual = compared(good, bad, x, tmp_path)
    small = compared(good, bad, x, tmp_path, memory_bytes)
    for one, other in zip(usual.layers, small.layers, strict=True):
        assert one.snr_db == pytest.approx(other.snr_db, abs=0.01)
        assert one.elements == other.elements
    assert [layer.elements for layer in usual.layers[:1]] == [20 * 6 * 64]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    st.integers(0, 30),
    st.integers(0, 2**32 - 1),
)
def test_sums_do_not_depend_on_how_samples_come(values: list[float], cut: int, seed: int) -> None:
    left = np.array(values, dtype=np.float32)
    right = left + np.random.default_rng(seed).normal(size=left.shape).astype(np.float32)
    whole, parts = Sums(), Sums()
    whole.add(left, right)
    parts.add(left[:cut], right[:cut])
    parts.add(left[cut:], right[cut:])
    assert parts.elements == whole.elements == len(values)
    assert parts.largest_difference == whole.largest_difference
    assert parts.noise == pytest.approx(whole.noise, rel=1e-9)
    assert -1 <= parts.cosine <= 1


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    sums = Sums()
    sums.add(np.array([1.0, np.nan, 2.0]), np.array([1.0, 0.0, np.inf]))
    assert (sums.not_finite, sums.elements, sums.snr_db) == (2, 1, 200.0)


@given(st.text(max_size=80), st.integers(3, 40))
def test_shortened_names_fit(text: str, characters: int) -> None:
    assert len(shortened(text, characters)) <= characters
    assert shortened(text, characters).isprintable()


def test_models_with_other_inputs_are_refused(tmp_path: Path, x: np.ndarray) -> None:
    other = net()
    other.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    left, right = saved(tmp_path, "a.onnx", net()), tmp_path / "b.onnx"
    renamed = net()
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "pixels"
    onnx.save(renamed, right)
    with pytest.raises(DataError, match="pixels"):
        compared(left, right, x, tmp_path)


def test_models_that_have_nothing_in_common(tmp_path: Path, x: np.ndarray) -> None:
    graph = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["z"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 1, 8, 8])],
    )
    other = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(DataError, match="same model"):
        compared(saved(tmp_path, "a.onnx", net()), saved(tmp_path, "b.onnx", other), x, tmp_path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx"), opened(tmp_path / "none.onnx"):
        pass


def test_the_picture_has_a_row_for_every_layer_and_is_well_formed(
    quantized: Path, tmp_path: Path, x: np.ndarray
) -> None:
    comparison = compared(quantized.with_name("float.onnx"), quantized, x, tmp_path)
    picture = ET.fromstring(draw(comparison))  # noqa: S314 (we wrote it)
    rows = picture.findall("{http://www.w3.org/2000/svg}g")
    assert [title.text.split(" ")[0] for row in rows for title in row if title.text and "matched" in title.text] == [
        layer.name for layer in comparison.layers
    ]
    for rectangle in picture.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(rectangle.attrib.get("x", 0)) >= 0
        assert float(rectangle.attrib["width"]) >= 0


def test_hostile_names_stay_text(tmp_path: Path, x: np.ndarray) -> None:
    path = saved(tmp_path, "a.onnx", net(rename='<script>"&\x1b[31m'))
    ET.fromstring(draw(compared(path, path, x, tmp_path)))  # noqa: S314 (we wrote it)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def data(tmp_path: Path, x: np.ndarray) -> Path:
    np.savez(tmp_path / "d.npz", x=x)
    return tmp_path / "d.npz"


def test_the_command(quantized: Path, data: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.svg"
    table = run(quantized.with_name("float.onnx"), quantized, "--data", data, "--picture", picture)
    assert table.returncode == 0, table.stderr
    levels = [float(re.findall(r" (-?\d+\.\d) ", line)[0]) for line in table.stdout.splitlines() if "█" in line]
    assert levels == sorted(levels), table.stdout
    assert len(levels) == 8
    assert "ONNX Runtime on this" in table.stdout
    assert picture.read_text().startswith("<svg")
    answer = run(quantized.with_name("float.onnx"), quantized, "--data", data, "--samples", "5", "--json")
    assert answer.stderr == ""
    assert json.loads(answer.stdout)["samples"] == 5


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("model", "b.onnx"),
        ("folder", "b.onnx: a folder that is no unpacked bundle"),
        ("data", "d.npz"),
        ("array", "no array"),
        ("shape", "expected samples of shape"),
        ("nothing", "no samples"),
    ],
)
def test_wrong_inputs_are_told_in_one_line(data: Path, tmp_path: Path, spoil: str, words: str) -> None:
    left, right = saved(tmp_path, "a.onnx", net()), saved(tmp_path, "b.onnx", net())
    match spoil:
        case "model":
            right.write_bytes(b"nothing")
        case "folder":
            right.unlink()
            right.mkdir()
        case "data":
            data.write_bytes(b"nothing")
        case "nothing":
            np.savez(data, x=np.zeros((0, 1, 8, 8), np.float32))
        case "array":
            np.savez(data, other=np.zeros((3, 1, 8, 8), np.float32))
        case _:
            np.savez(data, x=np.zeros((3, 1, 9, 8), np.float32))
    result = run(left, right, "--data", data, "--picture", tmp_path / "p.svg")
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "p.svg").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_leaves_nothing(
    data: Path, tmp_path: Path, x: np.ndarray, number: signal.Signals
) -> None:
    path = saved(tmp_path, "a.onnx", net())
    np.savez(data, x=np.repeat(x, 4000, axis=0))
    words = [*COMMAND, str(path), str(path), "--data", str(data), "--samples", "80000"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("edgewright-diff-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(tmp_path.glob("edgewright-diff-*")) == []
