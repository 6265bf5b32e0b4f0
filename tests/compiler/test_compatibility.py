"""Versions of engines, and what they read."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
from onnx import helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.frontends.opset import NEWEST_OPSET
from edgewright.compiler.graph import IR_VERSION
from edgewright.compiler.lower.compatibility import check_readable, oldest_release, readable
from edgewright.compiler.lower.onnxruntime import NAME, VERSION_RANGE, Arithmetic, open_session


def net(ir_version: int, opset: int) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def test_the_installed_engine_reads_what_the_table_says_and_no_more() -> None:
    newest = readable(NAME, VERSION_RANGE)
    assert newest is not None
    assert newest.ir_version >= IR_VERSION
    assert newest.opset >= NEWEST_OPSET
    open_session(net(newest.ir_version, newest.opset).SerializeToString(), Arithmetic.ENGINE)
    if onnxruntime.__version__.startswith("1.31."):
        for beyond in (net(newest.ir_version + 1, newest.opset), net(newest.ir_version, newest.opset + 1)):
            with pytest.raises(Exception, match=r"[Uu]nsupported|opset"):
                open_session(beyond.SerializeToString(), Arithmetic.ENGINE)


@pytest.mark.parametrize(
    ("version_range", "oldest"),
    [
        (">=1.31,<2", (1, 31)),
        ("==1.32.1", (1, 32)),
        ("~=1.33.0", (1, 33)),
        (">1.30, >=1.40", (1, 40)),
        ("<2", None),
        ("", None),
    ],
)
def test_the_oldest_release_of_a_range(version_range: str, oldest: tuple[int, int] | None) -> None:
    assert oldest_release(version_range) == oldest


@pytest.mark.parametrize(
    "version_range", [">=1.16,<2", "<2", "", ">=1.31,<2,==1.20", ">=1.31,<=1.30.2", ">=1.31,<1.31"]
)
def test_engines_older_than_known_are_refused_with_a_remedy(version_range: str) -> None:
    graph = import_proto(net(8, 17), "test")
    check_readable(graph, NAME, VERSION_RANGE, "target t")
    with pytest.raises(UnsupportedModel, match=r"target t: no onnxruntime of .* is 1\.31 or newer.*a newer onnx"):
        check_readable(graph, NAME, version_range, "target t")


def test_an_opset_that_the_oldest_engine_does_not_read_is_refused_with_a_remedy() -> None:
    graph = import_proto(net(8, 17), "test")
    graph.opset_imports[""] = 27
    with pytest.raises(UnsupportedModel, match=r"opset 27 .*export it with opset_version=26"):
        check_readable(graph, NAME, VERSION_RANGE, "target t")
