"""ONNX files from anywhere: what is taken, what is refused, with which words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from edgewright.compiler.faults import ModelError, UnsupportedModel
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import IR_VERSION, operator_counts, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import preflight
from edgewright.compiler.optimize import FLOAT_PASSES
from edgewright.compiler.passes import NoOptions
from edgewright.compiler.scratch import Scratch
from edgewright.targets.faults import Fault

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"""


def saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_is_normalised(tmp_path: Path) -> None:
    model = parser.parse_model(TEXT)
    model.doc_string, model.producer_name = "built in /home/someone", "framework"
    model.graph.node[0].doc_string = "line 7"
    source = load_onnx(saved(tmp_path, model))
    assert source.graph.ir_version == IR_VERSION
    assert signature(source.graph).inputs[0].shape == (-1, 4)
    assert b"someone" not in to_bytes(source.graph)
    assert b"line 7" not in to_bytes(source.graph)


def test_an_old_opset_is_brought_up(tmp_path: Path) -> None:
    source = load_onnx(saved(tmp_path, parser.parse_model(TEXT.replace("17", "8"))))
    assert source.graph.opset_imports[""] == 17


@pytest.mark.parametrize("opset", ["6", "99"])
def test_opsets_outside_the_range_are_named(tmp_path: Path, opset: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"opset {opset}.*opset_version=17"):
        load_onnx(saved(tmp_path, parser.parse_model(TEXT.replace("17", opset))))


def test_custom_domains_are_refused_with_place_and_remedy(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
    agraph (float[N, 4] x) => (float[N, 4] y) { y = acme.Magic(x) }"""
    with pytest.raises(UnsupportedModel, match=r"acme:Magic at node .*gives y.*standard ONNX operators") as caught:
        load_onnx(saved(tmp_path, parser.parse_model(text)))
    assert caught.value.exit_code == 4


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    agraph (float[N, 4] x) => (float[N, 4] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 17]>
    twice (a) => (b) { b = Add(a, a) }"""
    assert operator_counts(load_onnx(saved(tmp_path, parser.parse_model(text))).graph) == {"Add": 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda _: b"\xff" * 64,
        lambda content: b"PK\x03\x04" + content,
    ],
)
def test_damaged_files_are_one_clear_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(damage(parser.parse_model(TEXT).SerializeToString()))
    with pytest.raises((ModelError, UnsupportedModel), match=r"m\.onnx"):
        load_onnx(path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_onnx(tmp_path / "none.onnx")


def with_external(location: str) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones(4, dtype=np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_external_data_beside_the_model_is_read_and_counts_in_the_digest(tmp_path: Path) -> None:
    path = saved(tmp_path, with_external("w.bin"))
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    first = load_onnx(path)
    assert first.graph.graph.initializers["w"].const_value is not None
    (tmp_path / "w.bin").write_bytes(np.ones(4, dtype=np.float32).tobytes())
    assert load_onnx(path).digest != first.digest


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "", "link.bin", "a/../../secret.bin"])
def test_external_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside of the model's folder"):
        load_onnx(saved(folder, with_external(location)))


def test_external_data_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, with_external("w.bin"))
    (tmp_path / "w.bin").write_bytes(b"abc")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": "8"}, "bytes 8 to 24 of 'w.bin', which has only 16"),
        ({"length": "12"}, r"shape \[4\] take 16 bytes, but 12 are given"),
        ({"offset": "-4"}, "impossible offset '-4'"),
        ({"length": "1e9"}, "impossible length"),
        ({"offset": "9" * 30}, "which has only 16"),
    ],
)
def test_external_data_beyond_its_file_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    model = with_external("w.bin")
    for entry in model.graph.initializer[0].external_data:
        entry.value = changes.get(entry.key, entry.value)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match=message):
        load_onnx(saved(tmp_path, model))


def test_declared_sizes_beyond_the_data_are_refused(tmp_path: Path) -> None:
    model = with_external("w.bin")
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match="w"):
        load_onnx(saved(tmp_path, model))


def test_a_tensor_that_no_machine_holds_is_refused_before_it_is_made(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[N, 4] x) => (float[A, B] y) <int64[2] s = {1000000, 1000000}> {
      c = ConstantOfShape(s) r = ReduceSum(c) y = Add(x, r) }"""
    with pytest.raises(UnsupportedModel, match=r"ConstantOfShape.*1000000,1000000"):
        load_onnx(saved(tmp_path, parser.parse_model(text)))


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    text = TEXT.replace("y = Relu(x)", "a = Add(x, b) b = Relu(a) y = Neg(b)")
    with pytest.raises(ModelError, match="topologically sorted"):
        load_onnx(saved(tmp_path, parser.parse_model(text)))


def test_subgraphs_nested_beyond_reason_are_refused(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), bytearray()
        while size >= 128:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + content

    content = b""
    for _ in range(5000):
        content = field(1, field(5, field(6, content)))  # graph: a node, whose attribute is a graph
    path = tmp_path / "m.onnx"
    path.write_bytes(field(7, content))
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_onnx(path)


def test_free_dimensions_keep_their_names_and_inner_values_get_shapes(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[batch, length, 8] x, float[8, 3] w) => (float[batch, length, 3] y) {
      s = Shape(x) z = Reshape(x, s) m = MatMul(z, w) y = Softmax(m) }"""
    graph = load_onnx(saved(tmp_path, parser.parse_model(text))).graph
    assert [str(dim) for dim in graph.graph.inputs[0].shape or ()] == ["batch", "length", "8"]
    assert [str(dim) for dim in graph.graph.outputs[0].shape or ()] == ["batch", "length", "3"]
    for node in graph.graph:
        assert node.outputs[0].dtype is not None
        assert node.outputs[0].shape is not None
    assert [str(dim) for dim in list(graph.graph)[2].outputs[0].shape or ()] == ["batch", "length", "3"]


def test_external_data_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w\.bin.*not there"):
        load_onnx(saved(tmp_path, with_external("w.bin")))


def test_inputs_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    text = TEXT.replace("float[N, 4] x", "string[N] x").replace("y = Relu(x)", "y = Cast<to=1>(x)")
    with pytest.raises(UnsupportedModel, match="numeric tensors"):
        load_onnx(saved(tmp_path, parser.parse_model(text)))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_refused_or_compiled_but_never_crash(
    tmp_path: Path, scratch: Scratch, flips: list[tuple[int, int]], old: bool
) -> None:
    model = classifier_bytes(opset="8" if old else "17")
    content = bytearray(model)
    for position, value in flips:
        content[position % len(content)] = value
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(content))
    with suppress(Fault):
        source = load_onnx(path)
        preflight(source.graph, "m.onnx", scratch)
        graph = source.graph
        for float_pass in FLOAT_PASSES:
            graph = float_pass(graph, NoOptions()).graph


def classifier_bytes(opset: str) -> bytes:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    agraph (float[N, 1, 6, 6] x, float[2, 1, 3, 3] w) => (float[N, 2, 4, 4] y) {{ c = Conv(x, w) y = Relu(c) }}"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 1, 3, 3), dtype=np.float32), "w"))
    return bytes(model.SerializeToString())
